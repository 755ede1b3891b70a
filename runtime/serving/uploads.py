"""A request for boxes: where its image is, how much of it is read, what else it asks for."""

from __future__ import annotations

import asyncio
import base64
import binascii
import dataclasses
import json
import re
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from .refusals import RequestError, SlowError, TooLargeError, busy

if TYPE_CHECKING:
    from starlette.types import Message

    from .settings import Limits

_FIELD_BYTES = 10_000
_FIELDS = 64
_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "": False}


@dataclasses.dataclass(frozen=True)
class Question:
    """What a request asks for.

    Attributes:
        image: bytes of the image's file; None: they are at ``url``.
        url: where the image is.
        top: how many of the best classes; None: one, or those of ``classes``.
        classes: indices and labels.
        overlay: asks for the map over the image, as a picture.
        map: asks for the map as a picture.
    """

    image: bytes | None
    url: str | None
    top: int | None
    classes: tuple[int | str, ...]
    overlay: bool
    map: bool


class Memory:
    """Bytes of bodies that are held, all together. Safe to use from several threads."""

    def __init__(self, most: int) -> None:
        self._left, self._lock = most, threading.Lock()

    def take(self, size: int) -> None:
        """Hold so many more.

        Raises:
            BusyError: there is no room for them.
        """
        with self._lock:
            if size > self._left:
                raise busy(1)
            self._left -= size

    def free(self, size: int) -> None:
        """Hold them no more."""
        with self._lock:
            self._left += size


@dataclasses.dataclass(eq=False)
class Held:
    """The bytes of one request that are held, until ``free`` is called, once or more often."""

    memory: Memory
    size: int = 0

    def take(self, size: int) -> None:
        """Hold so many more; see `Memory.take`."""
        self.memory.take(size)
        self.size += size

    def free(self) -> None:
        """Hold none."""
        size, self.size = self.size, 0
        self.memory.free(size)


async def read(request: Request, limits: Limits, held: Held, until: float) -> Question:
    """Read a request's body, no more of it than is allowed, and what it asks for.

    Args:
        request: its parameters may stand in the address, too.
        limits: of the service.
        held: is told of each piece.
        until: when the body must be there, in seconds of the event loop.

    Raises:
        RequestError: it is not understood; it is too large or too slow.
        BusyError: too much is held already.
        ClientDisconnect: nobody is there any more.
    """
    most = limits.image_bytes * 4 // 3 + _FIELDS * _FIELD_BYTES  # base64 takes a third more
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > most:
        raise _too_large(limits)
    before, size = request.receive, 0

    async def receive() -> Message:
        nonlocal size
        message = await before()
        piece = len(message.get("body", b""))
        size += piece
        if size > most:
            raise _too_large(limits)
        held.take(piece)
        return message

    counted = Request(request.scope, receive)
    asked: dict[str, Any] = _from_address(request)
    try:
        async with asyncio.timeout_at(until):
            async with _fields(counted) as fields:
                asked |= fields
    except TimeoutError as error:
        raise SlowError("the body did not arrive in time.", "send it faster.") from error
    return _question(asked, limits)


@asynccontextmanager
async def _fields(request: Request) -> AsyncIterator[dict[str, Any]]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        try:
            limits = {"max_files": 1, "max_fields": _FIELDS, "max_part_size": _FIELD_BYTES}
            async with request.form(**limits) as form:
                yield await _of_form(form.multi_items())
        except HTTPException as error:
            said = str(error.detail).rstrip(".")
            raise RequestError(
                f"the form cannot be read: {said}.", "send it as curl -F image=@photo.jpg does."
            ) from error
    elif kind == "application/json":
        body = await request.body()
        yield await asyncio.to_thread(_of_json, body)  # base64 of a large image takes a while
    else:
        body = await request.body()
        yield {"image": body} if body else {}


async def _of_form(items: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    asked: dict[str, Any] = {}
    for name, value in items:
        if isinstance(value, UploadFile):
            if name != "image":
                raise RequestError(f"the form has a file {name!r}.", "name the file image.")
            asked["image"] = await value.read()
        elif name == "class":
            asked.setdefault("class", []).append(value)
        else:
            asked[name] = value
    if isinstance(asked.get("image"), str):
        raise RequestError("the form's image is no file.", "send it as -F image=@photo.jpg does.")
    return asked


def _of_json(body: bytes) -> dict[str, Any]:
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError("the body is not JSON.", 'send {"image": "BASE64"}.') from error
    if not isinstance(asked, dict):
        raise RequestError("the body is no JSON object.", 'send {"image": "BASE64"}.')
    if "image" in asked:
        try:
            text = asked["image"]
            if text.startswith("data:"):
                text = text.partition(",")[2]
            asked["image"] = base64.b64decode(text, validate=True)
        except (AttributeError, ValueError, binascii.Error) as error:
            raise RequestError(
                "image is not base64.", "encode the bytes of the file, without line breaks."
            ) from error
    if "class" in asked and not isinstance(asked["class"], list):
        asked["class"] = [asked["class"]]
    return asked


def _from_address(request: Request) -> dict[str, Any]:
    asked: dict[str, Any] = dict(request.query_params)
    if classes := request.query_params.getlist("class"):
        asked["class"] = classes
    return asked


def _question(asked: Mapping[str, Any], limits: Limits) -> Question:
    known = {"image", "url", "top", "class", "overlay", "map"}
    if unknown := sorted(set(asked) - known):
        raise RequestError(
            f"there is no {unknown[0]!r} to ask for.", f"choose from {', '.join(sorted(known))}."
        )
    image, url = asked.get("image"), asked.get("url")
    if (image is None) == (url is None) or isinstance(image, str):
        raise RequestError("one image is asked about.", "send it as -F image=@photo.jpg does.")
    if url is not None and not isinstance(url, str):
        raise RequestError("url is no text.", "give an address.")
    if image is not None and len(image) > limits.image_bytes:
        raise _too_large(limits)
    classes = tuple(_class(value) for value in asked.get("class", ()))
    top = _number(asked["top"]) if "top" in asked else None
    if top is not None and classes:
        raise RequestError("top and class contradict each other.", "give one of them.")
    if max(top or 1, len(classes)) > limits.classes:
        raise RequestError(
            f"{max(top or 1, len(classes))} classes are too many.",
            f"ask for {limits.classes} at most.",
        )
    return Question(image, url, top, classes, _switch(asked, "overlay"), _switch(asked, "map"))


def _number(value: Any) -> int:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise RequestError(f"top={value!r:.40} is no number of classes.", "give 1 or more.")
    return value


def _class(value: Any) -> int | str:
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"-?[0-9]{1,9}", value) else value
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise RequestError("a class is an index or a label.", "give numbers or texts.")


def _switch(asked: Mapping[str, Any], name: str) -> bool:
    value = asked.get(name, False)
    chosen = _WORDS.get(value.lower()) if isinstance(value, str) else value
    if not isinstance(chosen, bool):
        raise RequestError(f"{name} is neither true nor false.", "give one of them.")
    return chosen


def _too_large(limits: Limits) -> TooLargeError:
    return TooLargeError(
        f"the image is larger than {limits.image_bytes / 1e6:g} MB.", "make it smaller."
    )
