"""What people give as images, one by one: nothing is read before its turn but what must be.

Folders, batches, videos and iterables become the images in them. What is already open when it is
given (a file, a lazily opened Pillow image out of a generator) is read as it is taken, because its
giver may close it at the next one; paths and addresses are left to the threads that decode.
"""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import Any, Protocol, runtime_checkable

from PIL import Image

from ..errors import BacklitError, ImageError
from . import listing, tensors, videos
from .addresses import is_address
from .load import Encoded, Frame, Source, Unreadable


@runtime_checkable
class Readable(Protocol):
    """A file object that is open for reading bytes, or a ``cv2.VideoCapture``."""

    def read(self) -> Any:
        """The bytes that are left, or the next frame of a video."""


Given = Source | bytearray | memoryview | Readable | tensors.ArrayLike
Images = Given | Iterable[Given]
"""One or many images, as ``Session.saliency`` takes them."""


def sources(images: Images) -> Iterator[Source]:
    """Every image of what was given, in order, lazily. What cannot be one is `Unreadable`."""
    if _holds_many(images):
        passing = not isinstance(images, Sized)
        for item in images:  # type: ignore[union-attr, unused-ignore]
            yield from _each(item, passing)
    else:
        yield from _each(images)


def _holds_many(images: object) -> bool:
    alone = (str, bytes, bytearray, memoryview, os.PathLike, Image.Image, Mapping, Encoded, Frame)
    if isinstance(images, alone) or tensors.is_array(images) or hasattr(images, "read"):
        return False
    return isinstance(images, Iterable)


def _each(item: Any, passing: bool = False) -> Iterator[Source]:
    """The images of one thing that was given; ``passing``: out of a generator."""
    if isinstance(item, str | os.PathLike):
        yield from _named(item)
    elif isinstance(item, bytes | bytearray | memoryview):
        yield Encoded(bytes(item))
    elif isinstance(item, Image.Image):
        if passing:
            _finish(item)
        yield item
    elif videos.is_capture(item):
        yield from videos.captured(item)
    elif tensors.is_array(item):
        yield from _arrays(item)
    elif hasattr(item, "read"):
        yield _read(item)
    elif hasattr(item, "read_bytes"):  # zipfile.Path, fsspec's paths
        yield _read(item, "read_bytes")
    elif type(item).__module__.startswith("fsspec") and hasattr(item, "__enter__"):
        yield _opened_and_read(item)
    else:
        yield item


def _named(item: str | os.PathLike[str]) -> Iterator[Source]:
    path = os.fsdecode(item)
    if is_address(path) and not os.path.exists(path):
        yield path
    elif path and os.path.isdir(path):
        try:
            names = listing.inside(path)
        except BacklitError as error:
            yield Unreadable(ImageError(error.problem, error.fix), path)
            return
        for name in names:
            yield os.path.join(path, name)
    elif videos.is_video(path):
        yield from videos.frames(path)
    else:
        yield item


def _arrays(item: Any) -> Iterator[Source]:
    try:
        array = tensors.as_array(item)
    except ImageError as error:
        yield Unreadable(error)
        return
    if array.dtype.kind in "OUST":  # paths, as a column of a table
        for one in array.ravel().tolist():
            yield from _each(one)
    elif array.ndim == 4:
        yield from array
    else:
        yield array


def _read(item: Any, method: str = "read") -> Source:
    kind = type(item).__name__
    given = getattr(item, "name", None)
    name = given if isinstance(given, str) else None
    where = name or f"the {kind}"
    try:
        data = getattr(item, method)()
    except Exception as error:  # whatever a stranger's file object raises
        problem = f"{where} cannot be read: {str(error) or type(error).__name__}."
        return Unreadable(ImageError(problem, "pass it open, or give its path."), name)
    if isinstance(data, bytes | bytearray | memoryview):
        if data:
            return Encoded(bytes(data), name)
        return Unreadable(
            ImageError(
                f"{where} has nothing left to read.", "rewind it with seek(0), or give its path."
            ),
            name,
        )
    fix = "open it with mode 'rb'."
    if inspect.iscoroutine(data):
        data.close()  # or Python warns that nobody awaited it
        fix = "await its bytes and pass those, or pass the file inside (upload.file)."
    return Unreadable(ImageError(f"{where} reads {type(data).__name__}, not bytes.", fix), name)


def _opened_and_read(item: Any) -> Source:
    """A file of fsspec, which is not open before its block begins."""
    name = getattr(item, "path", None)
    try:
        with item as file:
            return _read(file)
    except Exception as error:
        problem = f"{name or 'the file'} cannot be read: {str(error) or type(error).__name__}."
        return Unreadable(ImageError(problem, "check the address and your credentials."), name)


def _finish(image: Image.Image) -> None:
    with contextlib.suppress(Exception):  # decoding it says so again, in words for people
        image.load()
