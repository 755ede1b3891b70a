"""The ASGI application of a service."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import importlib.metadata
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..errors import BacklitError
from ..images.fetch import fetch_public
from ..images.untrusted import encoded
from ..maps.classes import resolve
from ..maps.kinds import get_kind
from .answers import LONGEST, answer
from .engine import Engine, Job
from .exchange import Exchange, Note, refusal
from .logs import LOG
from .metrics import CONTENT_TYPE, Metrics
from .openapi import document, page
from .refusals import KeyRefusedError, RequestError, late
from .uploads import Held, Memory, Question, read

if TYPE_CHECKING:
    from .settings import Settings

_PAGE = Path(__file__).parent / "page"
_FILES = {
    "/": ("index.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}
_FETCHES = 8
"""Images that are fetched from addresses at once."""


def application(settings: Settings, engine: Engine, metrics: Metrics) -> Starlette:
    """The application.

    Args:
        settings: of the service.
        engine: open and not started; the application starts and stops it.
        metrics: get the numbers.
    """
    service = Service(settings, engine, metrics)
    described = document(settings, service.version, service.classes)
    routes = [
        Route("/localize", service.localize, methods=["POST"]),
        Route("/healthz", service.healthz),
        Route("/readyz", service.readyz),
        Route("/metrics", service.metrics),
        Route("/openapi.json", partial(_fixed, JSONResponse(described))),
        Route("/docs", partial(_fixed, Response(page(described), media_type="text/html"))),
        *(
            Route(path, partial(_fixed, Response((_PAGE / name).read_bytes(), media_type=kind)))
            for path, (name, kind) in _FILES.items()
        ),
    ]
    paths = frozenset(route.path for route in routes)
    return Starlette(
        routes=routes,
        middleware=[Middleware(Exchange, metrics=metrics, paths=paths)],
        exception_handlers={BacklitError: _refused, HTTPException: _not_there},
        lifespan=service.lifespan,
    )


class Service:
    """What the routes do."""

    def __init__(self, settings: Settings, engine: Engine, metrics: Metrics) -> None:
        self._settings, self._engine, self._metrics = settings, engine, metrics
        self._contract = engine.runners[0].contract
        self.classes = self._contract.score.classes
        self._colormap = get_kind(engine.recipe.map).colormap
        self._memory = Memory(settings.limits.memory)
        self._fetches = asyncio.Semaphore(_FETCHES)
        self.version = importlib.metadata.version("backlit")
        name = Path(settings.file).name
        metrics.serves(self.version, name, engine.runners[0].provider, lambda: engine.taken)

    @contextlib.asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """The engine runs, and no image has more pixels than the limit."""
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, self._settings.limits.pixels
        self._engine.start()
        try:
            yield
        finally:
            await asyncio.to_thread(self._engine.stop)
            Image.MAX_IMAGE_PIXELS = before

    async def localize(self, request: Request) -> Response:
        """``POST /localize``."""
        self._check_key(request)
        self._engine.admit()
        limits, held = self._settings.limits, Held(self._memory)
        until = asyncio.get_running_loop().time() + limits.seconds
        try:
            question = await read(request, limits, held, until)
            index = resolve(question.classes or None, question.top or 1, self._contract)
            data = question.image
            if data is None:
                data = await self._fetched(question, until)
                held.take(len(data))
            job = Job(
                load=partial(encoded, data),
                index=index,
                answer=partial(answer, question=question, colormap=self._colormap),
                expires=time.monotonic() + until - asyncio.get_running_loop().time(),
                keep=LONGEST if question.overlay else 0,
                left=held.free,
            )
            self._engine.submit(job)
        except BaseException:
            held.free()
            raise
        note: Note = request.state.note
        note.fields |= {"bytes": len(data), "classes": index.shape[1]}
        body = await self._answered(request, job, until)
        waited, ran = round(1e3 * job.waited, 1), round(1e3 * job.ran, 1)
        note.fields |= {"wait_ms": waited, "run_ms": ran, "batch": job.batch}
        self._metrics.waited(job.waited)
        return Response(body, media_type="application/json")

    async def healthz(self, _: Request) -> Response:
        """``GET /healthz``: whether the process works; if not, it is to be started anew."""
        return _state(self._engine.alive, "alive")

    async def readyz(self, _: Request) -> Response:
        """``GET /readyz``: whether a request would be taken now."""
        return _state(self._engine.ready, "ready")

    async def metrics(self, _: Request) -> Response:
        """``GET /metrics``."""
        return Response(self._metrics.text(), headers={"content-type": CONTENT_TYPE})

    def _check_key(self, request: Request) -> None:
        if not self._settings.keys:
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        key = given if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
        # All of them are compared, and no comparison stops at the first character that differs.
        right = [hmac.compare_digest(key.encode(), one.encode()) for one in self._settings.keys]
        if not any(right):
            raise KeyRefusedError(
                "the key is missing or wrong.", "send one as Authorization: Bearer KEY."
            )

    async def _fetched(self, question: Question, until: float) -> bytes:
        if not self._settings.urls or question.url is None:
            raise RequestError(
                "the service fetches no addresses.", "send the image, or serve with --allow-urls."
            )
        try:
            async with asyncio.timeout_at(until), self._fetches:
                left = until - asyncio.get_running_loop().time()
                most = self._settings.limits.image_bytes
                return await asyncio.to_thread(fetch_public, question.url, most, left)
        except TimeoutError as error:
            raise late() from error

    async def _answered(self, request: Request, job: Job, until: float) -> Any:
        """The engine's answer, as long as there is time and somebody waits for it."""
        answered = asyncio.ensure_future(asyncio.wrap_future(job.future))
        gone = asyncio.ensure_future(_gone(request))
        left = until - asyncio.get_running_loop().time()
        try:
            await asyncio.wait({answered, gone}, timeout=left, return_when="FIRST_COMPLETED")
            if answered.done():
                return answered.result()
            raise ClientDisconnect if gone.done() else late()
        finally:
            gone.cancel()
            answered.cancel()


async def _gone(request: Request) -> None:
    """Return when the client is gone; its body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _fixed(response: Response, _: Request) -> Response:
    return response


def _state(good: bool, word: str) -> Response:
    return JSONResponse({word: good}, 200 if good else 503)


async def _refused(request: Request, error: Exception) -> Response:
    note: Note = request.state.note
    if not isinstance(error, BacklitError):
        raise error
    response = refusal(error, note)
    if response.status_code >= 500:
        LOG.error(error.problem, extra={"fields": {"request": note.id, "fix": error.fix}})
    return response


async def _not_there(request: Request, error: Exception) -> Response:
    """Addresses and methods that there are none of."""
    if not isinstance(error, HTTPException):
        raise error
    note: Note = request.state.note
    note.kind = "address"
    said = {
        "error": f"{request.method} {request.url.path[:100]}: {error.detail.lower()}.",
        "fix": "see /docs.",
        "kind": note.kind,
        "request": note.id,
    }
    return JSONResponse(said, error.status_code, dict(error.headers or {}))
