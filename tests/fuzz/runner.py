"""Many cases in worker processes, with limits of time and memory, counted."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import queue
import select
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from .judge import Verdict

SECONDS = 20
"""Seconds of processor that one case may take; more is a hang."""
PATIENCE = 120
"""Seconds in which a case must end on a busy machine, whatever it waits for; more is a hang."""
WORKER = str(Path(__file__).with_name("worker.py"))
FINE: tuple[Verdict, ...] = ("worked", "refused")


@dataclasses.dataclass(frozen=True)
class Failure:
    """A case that neither worked nor was refused in words.

    Attributes:
        seed: its number.
        verdict: what happened.
        said: the exception and where it was raised, or what was written.
        folder: its files, with ``arguments.json``, to be run again.
    """

    seed: int
    verdict: Verdict
    said: str
    folder: Path


def fuzz(
    kind: str, seeds: Iterable[int], folder: Path, workers: int = 1, patience: float = PATIENCE
) -> tuple[Counter[Verdict], list[Failure]]:
    """Run cases.

    Args:
        kind: a name of ``KINDS``.
        seeds: numbers of the cases.
        folder: for the files of failures; others are removed.
        workers: processes at a time.
        patience: seconds in which each must end.

    Returns:
        How often which verdict, and the failures in order of their numbers.
    """
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for seed in seeds:
        waiting.put(seed)
    counts: Counter[Verdict] = Counter()
    failures: list[Failure] = []
    threads = [
        threading.Thread(target=_serve, args=(kind, waiting, folder, patience, counts, failures))
        for _ in range(workers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return counts, sorted(failures, key=lambda one: one.seed)


def _serve(
    kind: str, waiting: queue.SimpleQueue[int], folder: Path, patience: float,
    counts: Counter[Verdict], failures: list[Failure],
) -> None:  # fmt: skip
    """Feed one worker after another until no number is left."""
    worker = None
    while not waiting.empty():
        try:
            seed = waiting.get_nowait()
        except queue.Empty:
            break
        shutil.rmtree(folder / str(seed), ignore_errors=True)
        if worker is None:
            worker = _worker(kind, folder)
        verdict, said = _ask(worker, seed, patience)
        if verdict in ("hang", "death"):
            _end(worker)
            worker = None
        counts[verdict] += 1
        arguments, case = folder / f"{seed}.json", folder / str(seed)
        if verdict in FINE:
            arguments.unlink(missing_ok=True)
            shutil.rmtree(case, ignore_errors=True)
        else:
            if arguments.exists():
                arguments.replace(case / "arguments.json")
            failures.append(Failure(seed, verdict, said, case))
    if worker is not None:
        _end(worker)


def _worker(kind: str, folder: Path) -> subprocess.Popen[str]:
    tests = Path(__file__).parents[1]
    paths = [str(tests), *([os.environ["PYTHONPATH"]] if "PYTHONPATH" in os.environ else [])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    folder.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        [sys.executable, WORKER, kind, os.path.abspath(folder)], env=environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def _ask(worker: subprocess.Popen[str], seed: int, limit: float) -> tuple[Verdict, str]:
    if worker.stdin is None or worker.stdout is None:
        raise ValueError("the worker has no pipes")
    try:
        worker.stdin.write(f"{seed}\n")
        worker.stdin.flush()
    except BrokenPipeError:
        return "death", f"exit code {worker.wait()} before the case"
    if not select.select([worker.stdout], [], [], limit)[0]:
        return "hang", f"nothing after {limit:g} s"
    line = worker.stdout.readline()
    if not line:
        code = worker.wait()
        if code == -signal.SIGPROF:
            return "hang", f"more than {SECONDS} s of processor"
        return "death", f"exit code {code}"
    _, verdict, said = json.loads(line)
    return verdict, said


def _end(worker: subprocess.Popen[str]) -> None:
    """End a worker with what it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(worker.pid, signal.SIGKILL)
    for pipe in (worker.stdin, worker.stdout):
        if pipe is not None:
            pipe.close()
    worker.wait()
