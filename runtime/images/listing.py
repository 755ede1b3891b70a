"""The images that a command line names, read one by one however many there are."""

from __future__ import annotations

import io
import os
import re
import select
import sys
from collections.abc import Iterator, Sequence

from ..errors import ImageError, OptionError
from ..stages import PAUSE, Pause

SUFFIXES = (
    *(".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".ico", ".j2k", ".jfif", ".jp2", ".jpe"),
    *(".jpeg", ".jpg", ".pbm", ".pcx", ".pgm", ".png", ".pnm", ".ppm", ".qoi", ".tga", ".tif"),
    *(".tiff", ".webp"),
)
"""What counts as an image in a folder; a file that is named is always tried."""

VIDEO_SUFFIXES = (
    *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts"),
    *(".ogv", ".ts", ".vob", ".webm", ".wmv"),
)
"""What counts as a video among paths."""

_OWN = re.compile(r"\.backlit\.png$")
"""Pictures of results."""

_PATIENCE = 0.05
"""Seconds without a line on stdin after which the images before are finished first."""


class Inputs:
    """Files as they are, folders as the images in them, sorted, ``-`` as the lines of stdin.

    Attributes:
        streamed: stdin is among them, so that nobody knows how many there will be.
        total: how many there are; None if they are streamed.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        """List the folders, and read nothing yet.

        Raises:
            OptionError: a folder holds no images.
            ImageError: a folder cannot be listed.
        """
        self._arguments = [
            (argument, _folder(argument) if os.path.isdir(argument) else None)
            for argument in arguments
        ]
        self.streamed = "-" in arguments
        counts = [1 if names is None else len(names) for _, names in self._arguments]
        self.total = None if self.streamed else sum(counts)

    def __iter__(self) -> Iterator[str | Pause]:
        """The paths, and ``PAUSE`` where stdin has nothing for now.

        Raises:
            OptionError: stdin ends without any line.
        """
        for argument, names in self._arguments:
            if names is not None:
                for name in names:
                    yield os.path.join(argument, name)
            elif argument == "-":
                yield from _listed_on_stdin()
            else:
                yield argument


def _folder(folder: str) -> list[str] | None:
    """The images in a folder; None for one without, if its name is that of an image, a bad one."""
    try:
        return inside(folder)
    except OptionError:
        if os.path.splitext(folder)[1].lower() in SUFFIXES:
            return None
        raise


def inside(folder: str) -> list[str]:
    """Names of the images in a folder, sorted; one string each is all that is kept of them.

    Pictures of results that lie among them are passed over.
    """
    try:
        names = sorted(
            name
            for name in os.listdir(folder)
            if os.path.splitext(name)[1].lower() in SUFFIXES and not _OWN.search(name)
        )
    except OSError as error:
        raise ImageError(
            f"{folder} cannot be listed: {error.strerror}.", "check its rights."
        ) from error
    if not names:
        raise OptionError(f"{folder} is a folder without images.", "give another one.")
    return names


def _listed_on_stdin() -> Iterator[str | Pause]:
    empty = True
    for line in _lines():
        if isinstance(line, Pause):
            yield line
        elif line.strip():
            empty = False
            yield os.fsdecode(line.removesuffix(b"\n").removesuffix(b"\r"))
    if empty:
        raise OptionError("stdin names no images.", "give one path on each line.")


def _lines() -> Iterator[bytes | Pause]:
    """The lines of stdin as they arrive, each once it is whole."""
    if sys.stdin is None:  # closed
        return
    stream = sys.stdin.buffer
    try:
        number = stream.fileno()
    except (io.UnsupportedOperation, OSError):
        number = -1
    if number < 0 or os.name != "posix":  # select knows only sockets elsewhere
        yield from stream
        return
    rest = b""
    while True:
        if not select.select([number], [], [], _PATIENCE)[0]:
            yield PAUSE
            select.select([number], [], [])
        read = os.read(number, 1 << 16)
        *lines, rest = (rest + read).split(b"\n")
        yield from lines
        if not read:
            yield rest
            return
