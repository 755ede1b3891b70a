"""Around every request: an id, headers, a line in the log, the numbers, errors as JSON."""

from __future__ import annotations

import dataclasses
import json
import re
import time
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from ..errors import BacklitError
from .logs import LOG
from .refusals import BrokenError, BusyError, meaning

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from .metrics import Metrics

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_GONE = 499
"""The status, in the log and the numbers, of who left before there was an answer."""

HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
}
"""On every answer. A page takes nothing from elsewhere, and no script but its own files."""


@dataclasses.dataclass(eq=False)
class Note:
    """What is said of a request when it is over.

    Attributes:
        id: of the request.
        fields: values of its line in the log.
        kind: why it failed; None: it did not.
    """

    id: str
    fields: dict[str, Any] = dataclasses.field(default_factory=dict)
    kind: str | None = None


class Exchange:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: frozenset[str]) -> None:
        """Wrap an application.

        Args:
            app: to be wrapped.
            metrics: get the numbers.
            paths: that it has; others count as one.
        """
        self._app, self._metrics, self._paths = app, metrics, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; nothing that it raises reaches the server."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), 0
        given = Headers(scope=scope).get("x-request-id", "")
        note = Note(given if _ID.fullmatch(given) else uuid.uuid4().hex)
        scope.setdefault("state", {})["note"] = note

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in {**HEADERS, "x-request-id": note.id}.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except ClientDisconnect:
            status, note.kind = _GONE, "gone"
        except Exception:
            LOG.exception("fault", extra={"fields": {"request": note.id}})
            if not status:
                error = BrokenError("the service has a fault.", "tell its keeper the request's id.")
                await refusal(error, note)(scope, receive, send_with_headers)
        path = scope["path"] if scope["path"] in self._paths else "other"
        seconds = time.monotonic() - began
        self._metrics.answered(path, status, seconds, note.kind)
        _log(scope, status, seconds, note)


def refusal(error: BacklitError, note: Note) -> Response:
    """The answer to a request that ends with an error."""
    status, note.kind = meaning(error)
    headers = {"retry-after": str(error.retry_after)} if isinstance(error, BusyError) else {}
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    said = {"error": error.problem, "fix": error.fix, "kind": note.kind, "request": note.id}
    return Response(json.dumps(said), status, headers, media_type="application/json")


def _log(scope: Mapping[str, Any], status: int, seconds: float, note: Note) -> None:
    client = scope.get("client")
    fields = {
        "request": note.id,
        "method": scope["method"],
        "path": scope["path"][:200],
        "status": status,
        "ms": round(1e3 * seconds, 1),
        "client": client[0] if client else None,
        **({} if note.kind is None else {"kind": note.kind}),
        **note.fields,
    }
    # Who asks whether the service is well asks every few seconds.
    quiet = scope["path"] in ("/healthz", "/readyz", "/metrics") and status < 400
    LOG.log(10 if quiet else 20, "request", extra={"fields": fields})
