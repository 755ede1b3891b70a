"""Plant each fault in a copy: is its file refused, and which test sees it? ``make planted``.

    python -m benchmarks.planted.run [--only WORDS] [--workers N] [--all] [--write]

A row: a network is exported by the faulty copy, with verification and without; the second file's
outputs are compared with those of the copy as it is. Then pytest runs the tests of that code, up to
the first that fails. Exit status 1 where a fault gets through one of the two.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from backlit.runtime.arrays import Array
from rich.console import Console
from rich.table import Table

from benchmarks import ROOT
from benchmarks.pages import put
from benchmarks.planted.faults import FAULTS, Fault

SAME = 1e-6  # of an output's largest number: no difference
COLUMNS = ("fault", "in", "outputs changed", "verification", "caught by")


@dataclasses.dataclass(frozen=True)
class Trial:
    """What became of a fault.

    Attributes:
        changed: the outputs of the network's file that are others with it.
        refused: what verification says of the file; empty: it takes it.
        failed: the error of an export that did not get so far.
        test: the first test that fails; empty: none.
    """

    fault: Fault
    changed: tuple[str, ...]
    refused: str
    failed: str
    test: str

    @property
    def slips(self) -> bool:
        """Whether it changes an output and is verified all the same."""
        return bool(self.changed) and not self.refused

    def row(self) -> tuple[str, ...]:
        """As a line of the table."""
        said = "refused" if self.refused else self.failed[:60] or "**passes**"
        names = ", ".join(f"`{name}`" for name in self.changed) or "none"
        caught = f"`{self.test}`" if self.test else "**nothing**"
        return self.fault.name, f"`{self.fault.file}`", names, said, caught


def plant(fault: Fault, root: Path) -> str:
    """The faulty text of the file.

    Raises:
        ValueError: what it replaces is not there once.
    """
    text = (root / fault.file).read_text(encoding="utf-8")
    if text.count(fault.old) != 1:
        raise ValueError(f"{fault.name}: {fault.file} has not once the text {fault.old!r}.")
    return text.replace(fault.old, fault.new)


def copied(folder: Path) -> Path:
    """A copy of the repository, and beside it the package that its folders are."""
    root = folder / "repository"
    shutil.copytree(ROOT, root, ignore=shutil.ignore_patterns(".*", "__pycache__", "dist", "out"))
    package = folder / "package" / "backlit"
    package.mkdir(parents=True)
    for part in ("export", "runtime", "models"):
        (package / part).symlink_to(root / part)
    for file in ("__init__.py", "py.typed"):
        (package / file).symlink_to(root / "backlit" / file)
    return folder


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python with the copy's package, its threads few and its bytecode unsaved."""
    paths = os.pathsep.join(map(str, (folder / "package", folder / "repository")))
    environment = {
        **os.environ, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder / "repository", env=environment, text=True,
        capture_output=True,
    )  # fmt: skip


def exported(folder: Path, network: str) -> tuple[dict[str, str], dict[str, Array]]:
    """What trial.py wrote: what was said, and the outputs (none, where the export failed)."""
    with tempfile.TemporaryDirectory() as name:
        done = run(folder, "-W", "ignore", "-m", "benchmarks.planted.trial", network, name)
        if done.returncode:
            return {"refused": "", "failed": done.stderr.strip().splitlines()[-1]}, {}
        said = json.loads((Path(name) / "said.json").read_text(encoding="utf-8"))
        file = Path(name) / "outputs.npz"
        return said, dict(np.load(file)) if file.exists() else {}


@contextlib.contextmanager
def planted(fault: Fault, folder: Path) -> Iterator[None]:
    """While it lasts, the copy has the fault."""
    file = folder / "repository" / fault.file
    whole = file.read_text(encoding="utf-8")
    file.write_text(plant(fault, folder / "repository"), encoding="utf-8")
    try:
        yield
    finally:
        file.write_text(whole, encoding="utf-8")


def tried(fault: Fault, folder: Path, every_test: bool) -> Trial:
    """Plant a fault in a copy, export, test."""
    before, right = exported(folder, fault.network)
    if before["refused"] or before["failed"]:
        raise ValueError(f"{fault.network} as it is: {before['refused'] or before['failed']}")
    with planted(fault, folder):
        said, found = exported(folder, fault.network)
        changed = tuple(name for name in found if not _same(found[name], right[name]))
        tests = first_failure(folder, fault.tests)
        if not tests and every_test:
            tests = first_failure(folder, ("tests",))
    return Trial(fault, changed, said["refused"], said["failed"], tests)


def _same(found: Array, right: Array) -> bool:
    off = np.abs(found.astype(np.float64) - right)
    return found.shape == right.shape and bool(off.max() <= SAME * np.abs(right).max())


def first_failure(folder: Path, tests: Sequence[str]) -> str:
    """The test that fails first; empty: none does.

    Raises:
        ValueError: there are no such tests.
    """
    done = run(folder, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", *tests)
    if done.returncode == 0:
        return ""
    found = re.search(r"^(?:FAILED|ERROR) (?:tests/)?(\S+)", done.stdout, re.MULTILINE)
    if found is None:
        raise ValueError(f"pytest {' '.join(tests)}: {done.stdout[-500:]}{done.stderr[-500:]}")
    return found[1].split("[")[0]


def markdown(trials: Sequence[Trial]) -> str:
    """The table of the page."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    lines += [f"| {' | '.join(trial.row())} |" for trial in trials]
    return "\n".join([*lines, "", summary(trials)])


def summary(trials: Sequence[Trial]) -> str:
    """How many of how many."""
    change = [t for t in trials if t.changed or t.failed]
    refused = sum(not t.slips for t in change)
    return (
        f"{len(change)} of {len(trials)} faults change an output of their network's file; "
        f"verification refuses {refused} of them. Tests catch {sum(bool(t.test) for t in trials)} "
        f"of {len(trials)}."
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Plant faults in copies of the package.")
    parser.add_argument("--only", default="", help="faults whose name or file has these words")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--all", action="store_true", help="all tests where the near ones pass")
    parser.add_argument("--write", action="store_true", help="into docs/measured/planted.md")
    asked = parser.parse_args()
    console = Console(stderr=True)
    faults = [f for f in FAULTS if asked.only in f"{f.name} {f.file}"]
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(asked.workers) as pool:
        copies: queue.Queue[Path] = queue.Queue()
        for number in range(asked.workers):
            copies.put(copied(Path(name) / str(number)))

        def one(fault: Fault) -> Trial:
            folder = copies.get()
            try:
                trial = tried(fault, folder, asked.all)
            except ValueError as error:  # a trial that says nothing is none of the others' fault
                trial = Trial(fault, (), "", str(error), "")
            finally:
                copies.put(folder)
            console.print(" | ".join(trial.row()), soft_wrap=True)
            return trial

        trials = list(pool.map(one, faults))
    table = Table(*COLUMNS)
    for trial in trials:
        table.add_row(*(cell.replace("`", "").replace("**", "") for cell in trial.row()))
    Console().print(table)
    print(summary(trials))
    if asked.write:
        put(markdown(trials), "planted")
    return int(any(t.slips or t.failed or not t.test for t in trials))


if __name__ == "__main__":
    raise SystemExit(main())
