"""How many forward passes does a saliency map cost? Backlit and its peers, side by side.

Every contender runs in a process of its own, so that no allocator, thread pool or library disturbs
another, with the same number of threads and cores. They take turns, one run each in every round,
so that whatever slows the machine down slows them all; a contender's ratio is taken against the
plain forward pass of the same round, and the median of the ratios is reported.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...runtime.arrays import Array
from ...runtime.backend.probing import parse, probe
from ...runtime.backend.providers.table import PROVIDERS
from ...runtime.errors import OptionError
from .files import Subject, inputs, preprocessing
from .process import Failed, Worker
from .result import WARM_UP, Case, Result, compared, measured
from .worker import CONTENDERS, Job

YARDSTICK = "forward"
TIMEOUT = 1800.0  # seconds to open (torch.compile compiles), or for one run
_COMPILERS = [c for c in (os.environ.get("CXX"), "g++", "clang++", "c++", "cl") if c]


def contenders(
    subject: Subject,
    k: int,
    providers: str | Sequence[str] | None = None,
) -> dict[str, str]:
    """Every contender there is for a subject, with the reason why it cannot run (empty: it can)."""
    found = {YARDSTICK: "", "classifier": ""}
    if subject.classifier is None:
        found["classifier"] = "only the Backlit file is known, not its source"
    named = parse(providers)
    for name in PROVIDERS if named is None else named:
        tried = probe(name)
        found[f"backlit-{name}"] = "" if tried.loads else tried.reason
        if k > 1:
            found[f"backlit-{name}-singly"] = found[f"backlit-{name}"]
    for name, kind in CONTENDERS.items():
        if name in found or (name == "torch-batched" and k == 1):
            continue
        missing = [m for m in kind.imports if importlib.util.find_spec(m.partition(".")[0]) is None]
        found[name] = f"{missing[0].partition('.')[0]} is not installed" if missing else ""
        if not missing and "torch" in kind.imports and subject.module is None:
            found[name] = "the source is no torch module, or one that cannot be pickled"
        if name == "torch-compile" and not found[name] and not any(map(shutil.which, _COMPILERS)):
            found[name] = "no C++ compiler is installed"
    return found


def run(
    subject: Subject,
    batch: int = 1,
    k: int = 1,
    *,
    threads: int = 1,
    rounds: int = 20,
    wanted: Sequence[str] = (),
    providers: str | Sequence[str] | None = None,
    timeout: float = TIMEOUT,
    progress: Callable[[str], None] = lambda text: None,
) -> Case:
    """Benchmark one classifier.

    Args:
        subject: from bench_files.
        batch: images per run.
        k: classes explained per image.
        threads: for every contender; on Linux also the number of cores it may use.
        rounds: that are counted, after ``WARM_UP`` others.
        wanted: contenders; none: all that can run here. The yardstick always runs. One of your own
            is ``package.module:callable`` (see worker.Job).
        providers: short names for Backlit; None: every one that loads.
        timeout: seconds to open a contender, or for one run.
        progress: called with what is going on.

    Raises:
        OptionError: an unknown contender, or numbers that cannot be run.
    """
    known = contenders(subject, k, providers)
    _check(wanted, known, rounds, threads)
    names = list(dict.fromkeys([YARDSTICK, *(wanted or known)]))
    race = _Race(subject, threads, timeout)
    for name in names:
        if known.get(name):
            race.results[name] = Result(name, "failed" if wanted else "absent", known[name])
    images, index = inputs(subject.contract, batch, k)
    with tempfile.TemporaryDirectory(prefix="backlit-bench-") as folder:
        np.save(Path(folder, "images.npy"), images)
        np.save(Path(folder, "index.npy"), index)
        try:
            race.open([name for name in names if not known.get(name)], Path(folder), progress)
            race.run(rounds, progress)
            said, answers = race.answers(Path(folder))
        finally:
            race.close()
    # ONNX Runtime's own provider first: the fault of another must not make the others look wrong.
    mine = ["backlit-cpu", *(name for name in answers if name.startswith("backlit-"))]
    reference = next((answers[name] for name in mine if name in answers), None)
    yardstick = race.turns[YARDSTICK] if YARDSTICK in said else None
    for name, values in said.items():
        result = measured(name, race.turns[name], yardstick, values, batch)
        race.results[name] = (
            result if reference is None else compared(result, answers[name], reference)
        )
    spec = subject.contract.image
    ordered = [race.results[name] for name in names]
    return Case(subject.name, batch, k, threads, rounds, spec.height, spec.width, ordered)


def _check(wanted: Sequence[str], known: Collection[str], rounds: int, threads: int) -> None:
    unknown = [name for name in wanted if name not in known and ":" not in name]
    if unknown:
        raise OptionError(
            f"there is no contender {', '.join(unknown)} here.", f"choose among {', '.join(known)}."
        )
    if rounds < 1 or not 1 <= threads <= (os.cpu_count() or 1):
        raise OptionError(
            f"{rounds} rounds with {threads} threads cannot be run on {os.cpu_count()} cores.",
            "give 1 or more rounds, and no more threads than there are cores.",
        )


class _Race:
    """The contenders, each in a process of its own, taking turns.

    Attributes:
        results: of those that cannot run, or that failed.
        turns: seconds and CPU seconds of each turn, by contender.
    """

    def __init__(self, subject: Subject, threads: int, timeout: float) -> None:
        self.results: dict[str, Result] = {}
        self.turns: dict[str, list[tuple[float, float]]] = {}
        self._subject, self._threads = subject, threads
        self._timeout = timeout
        self._workers: dict[str, Worker] = {}

    def open(self, names: Sequence[str], folder: Path, progress: Callable[[str], None]) -> None:
        """Start the contenders on the input that lies in a folder."""
        for name in names:
            progress(f"opening {name}")
            try:
                job = _job(name, self._subject, folder, self._threads)
                self._workers[name] = Worker(job, self._timeout)
                self.turns[name] = []
            except Failed as failure:
                self.results[name] = Result(name, "failed", str(failure))

    def run(self, rounds: int, progress: Callable[[str], None]) -> None:
        """Let everybody run once in each round."""
        for number in range(WARM_UP + rounds):
            progress(f"round {number + 1} of {WARM_UP + rounds}")
            running = list(self._workers)
            start = number % max(1, len(running))  # nobody always runs after the same one
            for name in running[start:] + running[:start]:
                if self._threads > 1:
                    time.sleep(0.02)  # thread pools spin on for a while after their work
                try:
                    answer = self._workers[name].ask("run")
                except Failed as failure:
                    self.results[name] = Result(name, "failed", str(failure))
                    self._workers.pop(name).close()
                    continue
                self.turns[name].append((answer["seconds"], answer["cpu_seconds"]))

    def answers(
        self, folder: Path
    ) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Array]]]:
        """What the contenders say of themselves, and the maps that they made."""
        said, answers = {}, {}
        file = folder / "answer.npz"
        for name, worker in self._workers.items():
            try:
                said[name] = worker.opened | worker.ask(str(file))
                answers[name] = _arrays(file)
            except Failed as failure:
                self.results[name] = Result(name, "failed", str(failure))
        return said, answers

    def close(self) -> None:
        """End all processes."""
        for worker in self._workers.values():
            worker.close()


def _job(name: str, subject: Subject, folder: Path, threads: int) -> Job:
    return Job(
        contender=name,
        threads=threads,
        images=str(folder / "images.npy"),
        index=str(folder / "index.npy"),
        classes=subject.contract.score.classes,
        backlit=str(subject.openvino if name.startswith("backlit-openvino") else subject.backlit),
        forward=str(subject.forward),
        classifier=None if subject.classifier is None else str(subject.classifier),
        module=None if subject.module is None else str(subject.module),
        **preprocessing(subject.contract),
        version=importlib.metadata.version("backlit"),
    )


def _arrays(file: Path) -> dict[str, Array]:
    with np.load(file) as arrays:
        return dict(arrays)
