"""Archives of which nothing but the files' names and bytes decides the bytes.

setuptools writes an sdist with the times, owners and modes of the folder that it was built in, and
a wheel with the modes: the umask of whoever built it is in it. So both are written anew here, with
members in order, one time, no owner, and a mode that says no more than whether a file is a program.
"""

from __future__ import annotations

import gzip
import stat
import tarfile
import time
import zipfile
from pathlib import Path

EARLIEST = 315532800
"""1980-01-01 in seconds since 1970: a zip file knows no earlier time."""

Members = dict[str, tuple[bytes, tuple[object, ...]]]


def sdist(source: Path, target: Path, when: int) -> None:
    """Write a .tar.gz anew.

    Args:
        source: the archive to read.
        target: the file to write, another one.
        when: time of all members, in seconds since 1970.

    Raises:
        ValueError: a member is neither a file nor a folder.
    """
    with (
        tarfile.open(source) as old,
        target.open("wb") as file,
        # No name, and a time that is given: else gzip's header has those of now.
        gzip.GzipFile("", "wb", compresslevel=9, fileobj=file, mtime=when) as packed,
        tarfile.open(mode="w", fileobj=packed, format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old, key=lambda member: member.name):
            if not (member.isfile() or member.isdir()):
                raise ValueError(f"{member.name} is neither a file nor a folder")
            info = tarfile.TarInfo(member.name)
            info.type, info.size, info.mtime = member.type, member.size, when
            info.mode = _mode(member.mode, folder=member.isdir())
            new.addfile(info, old.extractfile(member) if member.isfile() else None)


def wheel(source: Path, target: Path, when: int) -> None:
    """Write a .whl anew, its metadata at the end, as the format recommends.

    Args:
        source: the archive to read.
        target: the file to write, another one.
        when: time of all members, in seconds since 1970.
    """
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for member in sorted(old.infolist(), key=_wheel_order):
            info = zipfile.ZipInfo(member.filename, time.gmtime(max(when, EARLIEST))[:6])
            info.create_system = 3  # Unix, so that the mode counts
            mode = _mode(member.external_attr >> 16, folder=member.is_dir())
            info.external_attr = ((stat.S_IFDIR if member.is_dir() else stat.S_IFREG) | mode) << 16
            new.writestr(info, old.read(member), zipfile.ZIP_DEFLATED, 9)


def difference(first: Path, second: Path) -> str | None:
    """What differs between two archives of one kind, by its first member; None for equal bytes."""
    if first.read_bytes() == second.read_bytes():
        return None
    ours, theirs = members(first), members(second)
    for name in sorted({*ours, *theirs}):
        if name not in ours or name not in theirs:
            return f"{name}, which only one of them has"
        if ours[name][0] != theirs[name][0]:
            return f"the bytes of {name}"
        if ours[name][1] != theirs[name][1]:
            return f"the mode, owner or time of {name}"
    return "the order or the compression of the members, or the archive's own header"


def members(archive: Path) -> Members:
    """Name -> bytes, and all else that an archive says of that member."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as opened:
            return {
                one.filename: (opened.read(one), (one.date_time, one.external_attr, one.extra))
                for one in opened.infolist()
            }
    with tarfile.open(archive) as packed:
        return {
            one.name: (
                _content(packed, one),
                (one.type, one.mode, one.mtime, one.uid, one.gid, one.uname, one.gname),
            )
            for one in packed
        }


def _content(packed: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    opened = packed.extractfile(member) if member.isfile() else None
    return opened.read() if opened else b""


def _mode(mode: int, *, folder: bool) -> int:
    return 0o755 if folder or mode & stat.S_IXUSR else 0o644


def _wheel_order(member: zipfile.ZipInfo) -> tuple[bool, bool, str]:
    top, _, inner = member.filename.partition("/")
    return top.endswith(".dist-info"), inner == "RECORD", member.filename
