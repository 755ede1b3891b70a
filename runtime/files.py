"""Results on disk and as JSON: a checked folder, files that are whole or absent, lines."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from .errors import OutputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    pass


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
        raise problem(target, error) from error
    return target


def alone(file: IO[bytes], path: Path) -> None:
    """Hold a file that is open, until it is closed, against other processes that want it alone.

    Raises:
        OutputError: one holds it; the file is closed.
    """
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise OutputError(
            f"{path} is being written by another run.", "wait for it, or give -o another folder."
        ) from error
    except OSError:  # a file system without locks
        return


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that appears under its name only when the block has ended without error.

    Raises:
        OutputError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(path)
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # of stdout, raised by the block
            raise
        raise problem(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_files(*paths: Path) -> Iterator[Path]:
    """Files of one folder that appear together, when the block has ended without error.

    The block writes them, under their names, into the folder it is given.

    Raises:
        OutputError: one cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory(dir=paths[0].parent, prefix=".", suffix=".part") as made:
            yield Path(made)
            for path in reversed(paths):  # the first, which names the others, comes last
                (Path(made) / path.name).replace(path)
    except OSError as error:
        raise problem(paths[0], error) from error


def file_hash(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a Backlit file and of the weights beside it, hexadecimal."""
    digest = hashlib.sha256()
    for part in (os.fspath(path), f"{os.fspath(path)}.data"):
        if os.path.exists(part):
            with open(part, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def problem(path: Path, error: OSError) -> OutputError:
    """An error of the operating system about a file to write, with the fix."""
    reason = error.strerror or str(error)
    return OutputError(
        f"{path} cannot be written: {reason}.",
        "check its rights and free space, or choose another.",
    )


def sweep(folder: Path) -> None:
    """Remove the temporary files that a killed process left in a folder."""
    for path in folder.glob(".*.part"):
        if path.is_file():
            path.unlink(missing_ok=True)


def special(path: str | os.PathLike[str]) -> bool:
    """Whether a path leads to a pipe, a device or a socket: reading it may never end."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # ValueError: a null character
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
