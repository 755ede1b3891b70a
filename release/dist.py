"""The wheel and the sdist, in dist/, only if they are reproducible.

    python -m release.dist [--tag vX.Y.Z]

Both are built twice, from clean copies of the tracked files in two folders, under another umask,
time, time zone and order of hashes; then the wheel once more, from the sdist. The bytes must be the
same. They are of the last commit's time, or of SOURCE_DATE_EPOCH where that is set. --tag says
which version is to be published, and refuses to build another.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from . import repack

ROOT = Path(__file__).resolve().parents[1]
GENERATED = ("build", "dist", "out", "__pycache__", "node_modules")


class DistError(Exception):
    """The package cannot be built, or not twice the same; one line, with the fix."""


@dataclasses.dataclass(frozen=True)
class Surroundings:
    """What must not matter: where, when and by whom a package is built."""

    folder: str
    umask: int
    mtime: int
    zone: str
    hashes: str


FIRST = Surroundings("a", 0o022, 1_700_000_000, "UTC", "1")
SECOND = Surroundings("a second, longer folder", 0o077, 1_000_000_000, "XXX-14", "2")


def make(root: Path, out: Path) -> list[Path]:
    """Build wheel and sdist of a tree into a folder, which is emptied first.

    Args:
        root: the repository, or a copy of it without git.
        out: the folder to write.

    Returns:
        The wheel and the sdist.

    Raises:
        DistError: the build failed, or two builds differ.
    """
    shutil.rmtree(out, ignore_errors=True)
    names, when = files(root), epoch(root)
    with tempfile.TemporaryDirectory(prefix="backlit-dist-") as folder:
        work = Path(folder)
        both = [build(copy(root, names, work, how), when, how) for how in (FIRST, SECOND)]
        for first, second in zip(*both, strict=True):
            _same(first, second, "two builds of the same files")
        wheel, sdist = both[0]
        with tarfile.open(sdist) as packed:
            packed.extractall(work / "unpacked", filter="data")
        (unpacked,) = (work / "unpacked").iterdir()
        again = pack(unpacked, "wheel", when, FIRST)
        _same(wheel, again, "the wheel of the tree and the wheel of the sdist")
        out.mkdir(parents=True)
        return [Path(shutil.copyfile(made, out / made.name)) for made in (wheel, sdist)]


def files(root: Path) -> list[str]:
    """The files that git tracks and that are there; without git, all that were not generated."""
    # In a repository of someone else's, of which root is a folder, git knows nothing of its files.
    if listed := _git(root, "ls-files", "-z"):
        return [name for name in listed.split("\0") if name and (root / name).is_file()]
    found = []
    for folder, inner, names in os.walk(root):
        inner[:] = [one for one in inner if not (one in GENERATED or one.startswith("."))]
        inner[:] = [one for one in inner if not one.endswith(".egg-info")]
        found += [str((Path(folder) / name).relative_to(root)) for name in names]
    return sorted(found)


def epoch(root: Path) -> int:
    """SOURCE_DATE_EPOCH, else the time of the last commit, else the earliest that zip knows."""
    said = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not said and _git(root, "ls-files"):
        said = _git(root, "log", "-1", "--format=%ct")
    if not (said or "0").isdecimal():
        raise DistError(f"SOURCE_DATE_EPOCH is {said!r}; fix: give it seconds since 1970")
    return max(int(said or 0), repack.EARLIEST)


def copy(root: Path, names: list[str], work: Path, how: Surroundings) -> Path:
    """A clean copy of the files, with the modes and times of its surroundings."""
    target = work / how.folder / "backlit"
    before = os.umask(how.umask)
    try:
        for name in names:
            here = target / name
            here.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, here)
            if (root / name).stat().st_mode & stat.S_IXUSR:
                here.chmod(0o777 & ~how.umask)
            os.utime(here, (how.mtime, how.mtime))
    finally:
        os.umask(before)
    return target


def build(tree: Path, when: int, how: Surroundings) -> tuple[Path, Path]:
    """Wheel and sdist of a tree."""
    return pack(tree, "wheel", when, how), pack(tree, "sdist", when, how)


def pack(tree: Path, kind: str, when: int, how: Surroundings = FIRST) -> Path:
    """Have setuptools build a tree, and write what it built anew.

    Args:
        tree: a copy of the repository, in which setuptools leaves its own files.
        kind: ``wheel`` or ``sdist``.
        when: time of all members, in seconds since 1970.
        how: what must not matter.

    Raises:
        DistError: it cannot be built.
    """
    raw, out = tree.parent / f"{kind}-raw", tree.parent / kind
    out.mkdir()
    # -P: a folder build/ in the tree is not the package build.
    command = [sys.executable, "-P", "-m", "build", "--no-isolation", f"--{kind}", "-o", str(raw)]
    own = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    own |= {"SOURCE_DATE_EPOCH": str(when), "TZ": how.zone, "PYTHONHASHSEED": how.hashes}
    done = subprocess.run(
        [*command, str(tree)], env=own, umask=how.umask, capture_output=True, text=True
    )
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "no word of why").splitlines()[-1]
        missing = "No module named build" in said
        fix = "pip install --group dist" if missing else "python -m build shows all that it said"
        raise DistError(f"the {kind} cannot be built: {said}; fix: {fix}")
    (made,) = raw.iterdir()
    (repack.wheel if kind == "wheel" else repack.sdist)(made, out / made.name, when)
    return out / made.name


def _same(first: Path, second: Path, who: str) -> None:
    differs = repack.difference(first, second)
    if differs:
        raise DistError(
            f"{first.name} is not reproducible: {who} differ in {differs}; fix: let setup.py and "
            "the package's data depend on nothing but tracked files"
        )


def _git(root: Path, *words: str) -> str:
    """What git says; nothing where there is no git, or no repository."""
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    return done.stdout.strip("\n") if done.returncode == 0 else ""


def main() -> None:
    """Build, compare, and say what came out."""
    parser = argparse.ArgumentParser(description="Build the wheel and the sdist reproducibly.")
    parser.add_argument("--tag", default="", help="the tag that is published: vX.Y.Z")
    tag = parser.parse_args().tag
    try:
        made = make(ROOT, ROOT / "dist")
        version = made[0].name.split("-")[1]
        if tag and tag != f"v{version}":
            raise DistError(f"the tag is {tag}, the version {version}; fix: tag it v{version}")
    except DistError as error:
        shutil.rmtree(ROOT / "dist", ignore_errors=True)
        sys.exit(f"dist: {error}")
    changed = _git(ROOT, "status", "--porcelain").splitlines()
    if changed:
        print(f"note: built with {len(changed)} changes that are not committed: {changed[0]} ...")
    for path in made:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        print(f"{path.relative_to(ROOT)}  {path.stat().st_size} bytes  sha256 {digest}")
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(epoch(ROOT)))
    print(f"built twice and from the sdist: the same bytes, of {when} UTC")


if __name__ == "__main__":
    main()
