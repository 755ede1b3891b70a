"""What writing leaves alone: files that are read meanwhile, and files that Backlit did not write.

Nothing is kept about what was written. A file of Backlit says so itself, in a place that its format
has for it: the metadata of a model, the comment of a picture, the columns of a table.
"""

from __future__ import annotations

import dataclasses
import os
import re
import stat
from collections.abc import Set

from .errors import OutputError, unwritable

Mark = re.Pattern[bytes]
"""What is found at the beginning or the end of every file of a kind that Backlit writes."""

JSON: Mark = re.compile(rb'\A\{\s*("schema": \d+,\s*)?"backlit": "\d')
"""Of a JSON object that begins with Backlit's version."""

Identity = tuple[int, int]
"""Device and number of a file: the same under all of its names."""

_ENDS = 1 << 16


@dataclasses.dataclass(frozen=True)
class Guard:
    """What must not be replaced.

    Attributes:
        inputs: files that are read; they are never replaced.
        overwrite: files that Backlit did not write may be.
    """

    inputs: Set[Identity] = frozenset()
    overwrite: bool = False

    def check(self, path: str | os.PathLike[str], mark: Mark | None) -> None:
        """Refuse to replace a file that must stay.

        Args:
            path: to be written.
            mark: what files of its kind are known by; None: by nothing, so none is Backlit's.

        Raises:
            OutputError: it is read, Backlit did not write it, or it is no file at all.
        """
        name = os.fspath(path)
        try:
            there = os.stat(path)
            if not stat.S_ISREG(there.st_mode):
                kind = "a folder" if stat.S_ISDIR(there.st_mode) else "a pipe or a device"
                raise OutputError(
                    f"{name} cannot be written: it is {kind}.", "give the name of a file."
                )
            if (there.st_dev, there.st_ino) in self.inputs:
                raise OutputError(
                    f"{name} cannot be written: it is what is read.", "give another name or folder."
                )
            # An empty file, as tempfile makes them, holds nothing that could be lost.
            if self.overwrite or not there.st_size or (mark and has(path, mark)):
                return
        except FileNotFoundError:
            return
        except OSError as error:
            raise unwritable(path, error) from error
        raise OutputError(
            f"{name} cannot be written: a file is there that is not of Backlit.",
            "give another name or folder, or replace it: --overwrite (overwrite=True in Python).",
        )


def identity(path: str | os.PathLike[str]) -> Identity | None:
    """Which file a path leads to; None if to none."""
    try:
        there = os.stat(path)
    except (OSError, ValueError):
        return None
    return there.st_dev, there.st_ino


def reading(*paths: object, overwrite: bool = False) -> Guard:
    """A guard of what a command reads.

    Args:
        paths: of files; whatever is none (None, the name of a model, a module) is passed over.
        overwrite: as in `Guard`.
    """
    named = [os.fspath(path) for path in paths if isinstance(path, str | os.PathLike)]
    # file.py:callable is read, too.
    found = {identity(part) for path in named for part in (path, path.rpartition(":")[0]) if part}
    return Guard(frozenset(one for one in found if one is not None), overwrite)


def has(path: str | os.PathLike[str], mark: Mark) -> bool:
    """Whether a file is known to be Backlit's.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        if mark.search(file.read(_ENDS)):
            return True
        file.seek(max(0, os.fstat(file.fileno()).st_size - _ENDS))
        return mark.search(file.read(_ENDS)) is not None
