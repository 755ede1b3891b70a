"""Locks between processes, held by flock(2): they end with the process, however it ends."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from .errors import OutputError, unwritable

try:
    import fcntl
except ImportError:  # Windows: two processes may write the same, and the later one is kept
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Write into a folder while no other run does.

    Raises:
        OutputError: another one does, or the lock cannot be made.
    """
    with contextlib.ExitStack() as stack:
        try:
            held = stack.enter_context(hold(folder, "backlit", wait=False))
        except OSError as error:
            raise unwritable(folder, error) from error
        if held is False:  # not None: without locks nobody can be kept away
            raise OutputError(
                f"another run is writing into {folder}.", "wait for it, or give another folder."
            )
        yield


@contextlib.contextmanager
def hold(root: Path, name: str, wait: bool = True) -> Iterator[bool | None]:
    """Hold the lock of a name against other processes and threads.

    Args:
        root: where the lock is, ``.NAME.lock``.
        name: what is locked.
        wait: until it is free.

    Yields:
        False if another has it; None if there are no locks here (Windows, some network file
        systems).

    Raises:
        OSError: the lock cannot be made.
    """
    path = root / f".{name}.lock"
    lock = _lock(path, wait)
    try:
        yield None if lock is None else lock >= 0
    finally:
        if lock is not None and lock >= 0:
            with contextlib.suppress(OSError):
                path.unlink()
            os.close(lock)


def _lock(path: Path, wait: bool) -> int | None:
    """The descriptor of the lock, -1 if another has it, None if there are no locks here."""
    if fcntl is None:
        return None
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Who held it has removed the file: then this lock is of no name, and is taken anew.
            if os.path.samestat(os.fstat(file), os.stat(path)):
                return file
        except FileNotFoundError:
            pass
        except BlockingIOError:
            os.close(file)
            return -1
        except OSError:  # a file system without locks
            os.close(file)
            return None
        os.close(file)
