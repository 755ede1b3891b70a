"""Files on disk: a checked folder, files that are whole or absent and replace nothing of others."""

from __future__ import annotations

import contextlib
import filecmp
import hashlib
import os
import stat
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from .errors import OutputError, unwritable
from .guard import Guard, Mark

NOTHING_READ = Guard()
"""A guard where no file is read, and Backlit's own may be replaced."""

_PART = "backlit.part"


def folder(path: str | os.PathLike[str]) -> Path:
    """Make a folder and prove that files can be written into it.

    Raises:
        OutputError: it cannot be made or written.
    """
    target = Path(path)
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=target):
            pass
    except (FileExistsError, NotADirectoryError) as error:
        raise OutputError(
            f"{target} cannot be made: {error.filename or target} is a file.",
            "give -o another folder.",
        ) from error
    except OSError as error:
        raise unwritable(target, error) from error
    return target


def prove(files: Mapping[Path, Mark | None], guard: Guard = NOTHING_READ) -> None:
    """See before the work that files of one folder can be written, and make the folder.

    Raises:
        OutputError: one cannot be, or would replace what must stay.
    """
    folder(next(iter(files)).parent)
    for path, mark in files.items():
        guard.check(path, mark)


@contextlib.contextmanager
def whole_file(
    path: Path, mark: Mark | None = None, guard: Guard = NOTHING_READ
) -> Iterator[IO[bytes]]:
    """A binary file that appears under its name only when the block has ended without error.

    Every file of Backlit is written by this function or by `whole_files`.

    Args:
        path: of the file; where it is a link, what that leads to.
        mark: what Backlit's files of this kind are known by: only such a file is replaced. Without,
            only one that would stay the same.
        guard: what must not be replaced in any case, or may be though Backlit did not write it.

    Raises:
        OutputError: it cannot be written, or would replace what must stay.
    """
    if mark is not None:
        guard.check(path, mark)
    target = Path(os.path.realpath(path))
    own = f"{os.getpid()}.{threading.get_ident():x}"
    temporary = target.with_name(f".{target.name}.{own}.{_PART}")
    try:
        with temporary.open("wb") as file:
            yield file
        if mark is not None or not _same(temporary, target):
            guard.check(path, mark)  # again: the work may have taken minutes
            temporary.replace(target)
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # of stdout, raised by the block
            raise
        raise unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def whole_files(files: Mapping[Path, Mark | None], guard: Guard = NOTHING_READ) -> Iterator[Path]:
    """Files of one folder that appear together, when the block has ended without error.

    The block writes them, under their names, into the folder it is given.

    Args:
        files: their paths, each with the mark of its kind; arguments as of `whole_file`.
        guard: as there.

    Raises:
        OutputError: one cannot be written, or would replace what must stay.
    """
    paths = [*files]
    for path, mark in files.items():
        guard.check(path, mark)
    try:
        with tempfile.TemporaryDirectory(
            dir=paths[0].parent, prefix=".", suffix=f".{_PART}"
        ) as made:
            yield Path(made)
            for path, mark in files.items():
                guard.check(path, mark)
            for path in reversed(paths):  # the first, which names the others, comes last
                (Path(made) / path.name).replace(os.path.realpath(path))
    except OSError as error:
        raise unwritable(paths[0], error) from error


def file_hash(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a Backlit file and of the weights beside it, hexadecimal."""
    digest = hashlib.sha256()
    for part in (os.fspath(path), f"{os.fspath(path)}.data"):
        if os.path.exists(part):
            with open(part, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _same(made: Path, there: Path) -> bool:
    return there.is_file() and filecmp.cmp(made, there, shallow=False)


def sweep(folder: Path) -> None:
    """Remove the temporary files that a killed process left in a folder."""
    for path in folder.glob(f".*.{_PART}"):
        process = path.name.split(".")[-4]
        if path.is_file() and not (process.isdecimal() and _runs(int(process))):
            path.unlink(missing_ok=True)


def special(path: str | os.PathLike[str]) -> bool:
    """Whether a path leads to a pipe, a device or a socket: reading it may never end."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # ValueError: a null character
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _runs(process: int) -> bool:
    """Whether there is a process of that number; where that cannot be asked, there is none."""
    if os.name != "posix":  # elsewhere the question ends it
        return False
    try:
        os.kill(process, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True
