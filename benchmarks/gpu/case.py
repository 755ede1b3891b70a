"""Cases of the GPU benchmark: who takes part, their turns, and parity with the CPU."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from backlit.export.bench.process import Failed, Worker

from benchmarks.gpu import worker as gpu_worker
from benchmarks.gpu.result import Key, Result, distances, expected, figures, finite
from benchmarks.gpu.worker import MODES, Job

Array = np.ndarray[Any, Any]
PARITY = 1e-3  # relative; or three times what the CPU provider is off itself
OWN = 5e-2  # the CPU provider's own distance from float64; beyond it is no reference
HALF_PARITY = 3e-2  # of a file in half precision
TURN = 0.05  # seconds
LEAST = 3  # runs of a turn
TIMEOUT = 420.0  # seconds to open a contender (torch.compile measures kernels), or for one turn


class OutOfTime(Exception):
    """The time that was given is over."""


def jobs(
    precision: str, providers: Sequence[str], torch_device: str, tf32: bool, threads: int
) -> dict[str, tuple[Job, str | None]]:
    """Every contender of a precision by name, and its yardstick."""
    found: dict[str, tuple[Job, str | None]] = {}

    def add(kind: str, provider: str, graph: bool, yardstick: str | None) -> str:
        name = "-".join([kind, provider, *(["graph"] if graph else [])])
        if kind not in ("forward", "backlit"):
            name = kind
        found[name] = (Job(name, kind, provider, precision, graph, tf32, threads), yardstick)
        return name

    for provider in providers:
        for graph in (False, True) if provider == "cuda" else (False,):
            add("backlit", provider, graph, add("forward", provider, graph, None))
    plain = add("torch-forward", torch_device, False, None)
    kinds = ["torch", "captum"]
    if precision == "fp16":
        kinds[1:1] = ["torch-half", "torch-compile"]
    for kind in kinds:
        add(kind, torch_device, False, plain)
    return found


def absent(job: Job) -> str:
    """Why a contender cannot run here at all, or an empty text."""
    wanted = {"torch": ("torch",), "captum": ("torch", "captum")}.get(job.kind.split("-")[0], ())
    for name in wanted:
        if importlib.util.find_spec(name) is None:
            return f"{name} is not installed"
    if wanted and job.provider != "cpu" and importlib.import_module("torch").version.cuda is None:
        return "this torch is built without CUDA"
    return ""


class Pool:
    """The workers of all contenders, each started when it is first wanted."""

    def __init__(self, deadline: float = math.inf, timeout: float = TIMEOUT) -> None:
        """No worker yet.

        Args:
            deadline: of time.monotonic().
            timeout: seconds for an answer.
        """
        self._deadline, self._timeout = deadline, timeout
        self._workers: dict[tuple[Job, tuple[tuple[str, str], ...]], Worker] = {}

    @property
    def left(self) -> float:
        """Seconds."""
        return self._deadline - time.monotonic()

    def ask(self, job: Job, environment: Mapping[str, str] | None = None, **what: Any) -> Any:
        """Have a contender do something.

        Raises:
            Failed: it could not; its process is ended, and the next question starts another.
            OutOfTime: the deadline is near or over.
        """
        key = (job, tuple(sorted((environment or {}).items())))
        if self.left <= 0:
            raise OutOfTime
        try:
            if key not in self._workers:
                # Compilers may use all threads: nobody is timed meanwhile.
                own = {"TORCHINDUCTOR_COMPILE_THREADS": str(job.threads), **(environment or {})}
                if not job.tf32:
                    # TensorRT has no option for it, and where cuDNN has no plan without TF32 ONNX
                    # Runtime takes one with it, whatever use_tf32 says.
                    own["NVIDIA_TF32_OVERRIDE"] = "0"
                self._workers[key] = Worker(
                    job, min(self._timeout, self.left), script=Path(gpu_worker.__file__),
                    environment=own,
                )  # fmt: skip
            return self._workers[key].ask(json.dumps(what), min(self._timeout, self.left))
        except Failed:
            if key in self._workers:
                self._workers.pop(key).close()
            if self.left <= 0:
                raise OutOfTime from None
            raise

    def close(self) -> None:
        """End all processes."""
        while self._workers:
            self._workers.popitem()[1].close()


def measure(
    pool: Pool,
    folder: Path,
    key: Key,
    contenders: Mapping[str, tuple[Job, str | None]],
    rounds: int,
    say: Callable[[str], None],
) -> list[Result]:
    """Run a case: open all, take turns, compare the answers.

    Raises:
        OutOfTime: it is not finished; nothing of it counts.
    """
    case = {"folder": str(folder), "batch": key.batch, "k": key.k}
    results: dict[str, Result] = {}
    said: dict[str, dict[str, Any]] = {}
    turns: dict[str, dict[str, list[float]]] = {}
    answers: dict[str, dict[str, Array]] = {}

    def attempt(name: str, **what: Any) -> Any:
        try:
            return pool.ask(contenders[name][0], **what)
        except Failed as failure:
            results[name] = Result(name, "failed", str(failure))
            turns.pop(name, None)
            return None

    for name, (job, _) in contenders.items():
        if reason := absent(job):
            results[name] = Result(name, "absent", reason)
            continue
        say(f"{key}: opening {name}")
        opened = {mode: attempt(name, do="open", case=case, mode=mode)
                  for mode in MODES if name not in results}  # fmt: skip
        if name not in results:
            said[name], turns[name] = opened["host"], {mode: [] for mode in MODES}
    for number in range(rounds):
        say(f"{key}: round {number + 1} of {rounds}")
        running = list(turns)
        start = number % max(1, len(running))  # nobody always runs after the same one
        for name in running[start:] + running[:start]:
            for mode in MODES:
                turn = None
                if name in turns:
                    turn = attempt(name, do="turn", mode=mode, seconds=TURN, least=LEAST)
                if turn is not None:
                    turns[name][mode].append(statistics.median(turn["times"]))
    with tempfile.TemporaryDirectory(prefix="backlit-gpu-bench-") as place:
        for name in list(turns):
            file = Path(place, f"{name}.npz")
            if attempt(name, do="answer", path=str(file)) is not None:
                with np.load(file) as arrays:
                    answers[name] = dict(arrays)
                attempt(name, do="close")
    reference = expected(folder, key.batch, key.k)
    for name, values in turns.items():
        yardstick, told = contenders[name][1], said[name]
        distance, scores_distance, _ = distances(answers[name], reference)
        results[name] = Result(
            name, "ok", "", yardstick, figures(values, turns.get(yardstick or "")),
            told["open_seconds"], told["first_seconds"], told["memory_bytes"],
            distance, scores_distance, told["elsewhere"], told["versions"],
        )  # fmt: skip
    return [results[name] for name in contenders if name in results]


def parity(
    pool: Pool,
    folder: Path,
    contenders: Mapping[str, tuple[Job, str | None]],
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Backlit's contenders with TF32 off against the CPU provider, in both precisions.

    Returns:
        A line for each: ``contender``, ``precision``, ``map`` and ``worst`` (relative L2 distance,
        median and largest over images and classes), ``scores``, ``own`` (what the CPU provider is
        off from float64 itself, the median), ``limit`` and ``good``; or ``reason``.
    """
    with np.load(folder / "reference.npz") as kept:
        reference = {"scores": kept["scores"], "saliency": kept["saliency"]}
        exact = {"scores": kept["exact_scores"], "saliency": kept["exact_saliency"]}
        batch, k = kept["index"].shape
    own, _, _ = distances(reference, exact)
    case = {"folder": str(folder), "batch": batch, "k": k}
    lines = []
    for name, (given, _) in contenders.items():
        if not name.startswith("backlit"):
            continue
        job = dataclasses.replace(given, tf32=False)
        line: dict[str, Any] = {"contender": name, "precision": job.precision, "own": own}
        if own is None or own > OWN:
            reason = f"the CPU provider's own maps are off from float64 by {own}"
            lines.append({**line, "own": finite(own), "reason": reason, "good": False})
            continue
        say(f"{folder.name}: parity of {name}, {job.precision}")
        try:
            pool.ask(job, do="open", case=case, mode="host")
            with tempfile.TemporaryDirectory(prefix="backlit-gpu-bench-") as place:
                pool.ask(job, do="answer", path=f"{place}/answer.npz")
                with np.load(f"{place}/answer.npz") as arrays:
                    off, scores, worst = distances(dict(arrays), reference)
            pool.ask(job, do="close")
            least = PARITY if job.precision == "fp32" else HALF_PARITY
            limit = max(least, 3 * own)
            good = off is not None and off <= limit and scores <= least
            lines.append({**line, "map": finite(off), "scores": finite(scores),
                          "worst": finite(worst), "limit": limit, "good": good})  # fmt: skip
        except Failed as failure:
            lines.append({**line, "reason": str(failure), "good": False})
    return lines
