"""A copy of the package, changed as a page of docs/ says, and run in a process of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
STEP = re.compile(
    r"`((?:export|runtime)/[\w/]+\.py)`[^\n]*:\n\n```(python|diff)\n(.*?)```", re.DOTALL
)


def changed(page: str, folder: Path) -> list[str]:
    """Copy the package to folder/backlit and do what a page says.

    ``PATH`` followed by Python is a new file; followed by a diff, a change to one that is there.

    Returns:
        The paths that the page names, in order.
    """
    package = folder / "backlit"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "backlit", package, ignore=ignored)
    for part in ("export", "runtime", "models"):
        shutil.copytree(ROOT / part, package / part, ignore=ignored)
    steps = STEP.findall(page)
    for path, kind, text in steps:
        file = package / path
        if kind == "python":
            if file.exists():
                raise FileExistsError(file)
            file.write_text(text, encoding="utf-8")
        else:
            file.write_text(patched(file.read_text(encoding="utf-8"), text), encoding="utf-8")
    return [path for path, _, _ in steps]


def patched(before: str, diff: str) -> str:
    """A text after a diff, whose hunks are parted by lines of ``@@`` or of three dots."""
    for hunk in re.split(r"^(?:@@| \.\.\.)\n", diff, flags=re.MULTILINE):
        lines = [line if line != "\n" else " \n" for line in hunk.splitlines(keepends=True)]
        old = "".join(line[1:] for line in lines if not line.startswith("+"))
        new = "".join(line[1:] for line in lines if not line.startswith("-"))
        if before.count(old) != 1:
            raise ValueError(f"the diff does not fit:\n{old}")
        before = before.replace(old, new)
    return before


def run(folder: Path, *arguments: object, module: bool = True) -> subprocess.CompletedProcess[str]:
    """`backlit` of that copy with these arguments; without module, Python with them."""
    words = ["-m", "backlit.runtime", *arguments] if module else arguments
    return subprocess.run(
        [sys.executable, *map(str, words)],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )
