"""Folders that are whole or absent, whoever is killed: sealed by a manifest and renamed into place.

A folder is made beside its place under a temporary name, ``.NAME.PID.part``, while ``.NAME.lock``
is held. The manifest holds the size and the SHA-256 of each
file and, in its last line, of itself. All of it is on the disk (fsync) before the rename.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...locks import hold

MANIFEST = "manifest.json"
_FORMAT = 1


class Damaged(Exception):  # noqa: N818, what is found, not a failure
    """A folder is not as it was sealed; the text says why."""


def seal(folder: Path, about: Mapping[str, Any]) -> None:
    """Write the manifest of a folder of plain files, and see that all of it is on the disk.

    Args:
        folder: the files.
        about: JSON object, kept in the manifest.

    Raises:
        OSError: it cannot be written.
    """
    files = {}
    for name in sorted(os.listdir(folder)):
        if name == MANIFEST:  # of an earlier seal
            continue
        with (folder / name).open("rb+") as file:
            files[name] = [os.fstat(file.fileno()).st_size, _digest(file)]
            os.fsync(file.fileno())
    text = json.dumps({"format": _FORMAT, "about": about, "files": files}, sort_keys=True) + "\n"
    with (folder / MANIFEST).open("w", encoding="utf-8", newline="\n") as file:
        file.write(text + hashlib.sha256(text.encode()).hexdigest() + "\n")
        file.flush()
        os.fsync(file.fileno())
    _sync(folder)


def check(folder: Path) -> dict[str, Any]:
    """What was said at the seal about a folder that is as it was then.

    Raises:
        FileNotFoundError: there is no such folder.
        Damaged: a file is missing, foreign or changed, or the manifest is.
    """
    os.lstat(folder)
    try:
        lines = (folder / MANIFEST).read_bytes().splitlines(keepends=True)
        if len(lines) != 2 or lines[1] != hashlib.sha256(lines[0]).hexdigest().encode() + b"\n":
            raise Damaged(f"{MANIFEST} was changed")
        manifest = json.loads(lines[0])
        if manifest["format"] != _FORMAT:
            raise Damaged(f"{MANIFEST} is of another version")
        files: dict[str, list[Any]] = manifest["files"]
        found = {entry.name: entry for entry in os.scandir(folder)}
        for name in sorted(found.keys() ^ {MANIFEST, *files}):
            raise Damaged(f"{name} is {'foreign' if name in found else 'missing'}")
        for name, (size, digest) in files.items():
            entry = found[name]
            if not entry.is_file(follow_symlinks=False):
                raise Damaged(f"{name} is not a plain file")
            if entry.stat().st_size != size:
                raise Damaged(f"{name} has {entry.stat().st_size} bytes and had {size}")
            with open(entry.path, "rb") as file:
                if _digest(file) != digest:
                    raise Damaged(f"{name} was changed")
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = getattr(error, "strerror", None) or repr(error)
        raise Damaged(f"it cannot be read: {reason}") from error
    about: dict[str, Any] = manifest["about"]
    return about


@contextlib.contextmanager
def workspace(root: Path, name: str) -> Iterator[Path]:
    """A temporary folder of that name, for one process at a time; others wait. Gone in the end.

    Raises:
        OSError: it cannot be made.
    """
    with hold(root, name):
        _remove_parts(root, name)  # of a process that was killed: the lock is ours
        made = root / f".{name}.{os.getpid()}.part"
        made.mkdir(mode=0o700)
        try:
            yield made
        finally:
            shutil.rmtree(made, ignore_errors=True)


def place(made: Path, target: Path) -> None:
    """Rename a sealed folder into its place, in which a damaged or older one may stand.

    Args:
        made: within a workspace, on the same file system.
        target: its place, for which the caller holds the lock.
    """
    with contextlib.suppress(FileNotFoundError):  # a folder with files cannot be renamed over
        target.rename(made.with_name(f"{made.name}.before"))
    made.rename(target)
    _sync(target.parent)


def sweep(root: Path) -> None:
    """Remove what killed processes left, and nothing that is being made; as far as is allowed."""
    with contextlib.suppress(OSError):
        left = {
            path.name[1:].split(".")[0]
            for path in root.iterdir()
            if path.name.startswith(".") and path.suffix in (".part", ".lock")
        }
        for name in left:
            with hold(root, name, wait=False) as held:
                if held:
                    _remove_parts(root, name)


def _remove_parts(root: Path, name: str) -> None:
    for path in root.glob(f".{name}.*.part"):
        shutil.rmtree(path, ignore_errors=True)


def _digest(file: Any) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(folder: Path) -> None:
    """See that the names in a folder are on the disk."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
