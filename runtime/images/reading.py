"""The bytes of an image's file, and the one kind of error that reading an image ends with."""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
from collections.abc import Iterator
from typing import IO

from PIL import Image, UnidentifiedImageError

from ..errors import BacklitError, ImageError
from .listing import VIDEO_SUFFIXES

LIMIT_VARIABLE = "BACKLIT_MAX_PIXELS"

_IN_MEMORY = 1 << 28
"""Bytes of the largest file that is read before it is decoded."""
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


@contextlib.contextmanager
def image_errors(where: str) -> Iterator[None]:
    """Whatever the block raises is an `ImageError`, because one image must not end a run.

    Pillow's decoders raise nearly every exception there is on damaged files: OSError, SyntaxError,
    ValueError, RuntimeError, NotImplementedError, struct.error, MemoryError, ...

    Args:
        where: the image, for the message.
    """
    try:
        yield
    except BacklitError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise bomb(said(error).split(", could be")[0], where) from error
    except UnidentifiedImageError as error:
        if os.path.splitext(where)[1].lower() in VIDEO_SUFFIXES:
            raise ImageError(
                f"{where} is a video.",
                "take its frames: session.localize(path) in Python does, and ffmpeg makes files.",
            ) from error
        raise ImageError(
            f"{where} is not an image that Pillow reads.", "convert it to JPEG or PNG."
        ) from error
    except MemoryError as error:
        raise ImageError(f"{where} does not fit into memory.", "make it smaller.") from error
    except Exception as error:
        raise ImageError(
            f"{where} is damaged or truncated ({said(error)}).",
            "copy the file again, or convert it.",
        ) from error


def opened(path: str | os.PathLike[str], where: str) -> IO[bytes]:
    """The content of a file, which may change or go while it is decoded.

    Args:
        path: of a plain file.
        where: the path in messages.

    Raises:
        ImageError: as `size_of`.
    """
    size = size_of(path, where)
    with _file_errors(where):
        if size > _IN_MEMORY:
            return open(path, "rb")
        # Pillow and libtiff map files into memory: of one that is cut meanwhile the process dies.
        with open(path, "rb") as file:
            return io.BytesIO(file.read())


def size_of(path: str | os.PathLike[str], where: str) -> int:
    """The bytes of a file that may hold an image or a video. Nothing waits for a pipe.

    Raises:
        ImageError: there is none, it is empty, a folder or a device, or it cannot be read.
    """
    if not where:
        raise ImageError("an empty text is no path.", "give the path of an image.")
    with _file_errors(where):
        there = os.stat(path)
        if stat.S_ISDIR(there.st_mode):
            raise ImageError(f"{where} is a folder.", "give the image files inside it.")
        if not stat.S_ISREG(there.st_mode):
            raise ImageError(f"{where} is a pipe or a device.", "copy it into a file first.")
        if not there.st_size:
            raise ImageError(f"{where} is empty.", "copy the file again.")
        return there.st_size


@contextlib.contextmanager
def _file_errors(where: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise ImageError(f"{where} does not exist.", _found_by(where)) from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        name = where if len(where) < 200 else f"{where[:60]}..."
        reason = getattr(error, "strerror", None) or said(error)
        raise ImageError(
            f"{name} cannot be read: {reason}.", "check the path and its rights."
        ) from error


def check_size(image: Image.Image, where: str) -> None:
    """Refuse an image of more pixels than Pillow's limit."""
    # Pillow only warns up to twice its limit; a service would be dead by then.
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise bomb(f"{image.width}x{image.height} pixels, limit {limit}", where)


def decode(image: Image.Image, where: str) -> None:
    """Decode what Pillow has opened.

    Raises:
        ImageError: it is a program. (What else may be wrong with it Pillow raises.)
    """
    if image.format == "EPS":  # Pillow has Ghostscript run it
        raise ImageError(f"{where} is PostScript.", "convert it to JPEG or PNG.")
    image.load()


def bomb(detail: str, where: str) -> ImageError:
    """The error for an image of too many pixels."""
    return ImageError(
        f"{where} is too large: {detail}.",
        f"make it smaller, or raise the limit: {LIMIT_VARIABLE}=400000000 in the environment "
        "(PIL.Image.MAX_IMAGE_PIXELS in Python).",
    )


def _found_by(path: str) -> str:
    if path.startswith("~"):
        return "write the folder out: os.path.expanduser(path)."
    if any(sign in path for sign in "*?["):
        return "give the files that it stands for: glob.glob(pattern)."
    return "check the path."


def said(error: Exception) -> str:
    """An error's text in one line of at most 200 characters that is the same in every run."""
    text = _ADDRESS.sub("", " ".join(str(error).split())).rstrip(".")
    return (text if len(text) < 200 else f"{text[:200]}...") or type(error).__name__
