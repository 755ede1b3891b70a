"""The figures of a benchmark: from the turns of its contenders to ratios, memory and agreement."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...runtime.arrays import Array

WARM_UP = 3  # first rounds, thrown away
AGREES = 0.1  # relative L2 distance; float32 flips ReLU masks near zero, a wrong map is off by 1


@dataclasses.dataclass(frozen=True)
class Result:
    """What one contender did.

    Attributes:
        contender: its name.
        status: ``ok``, ``failed`` (asked for, or installed, and it did not run) or ``absent``.
        reason: why, unless ok.
        ratio, low, high: median and quartiles of time over the forward's of the same round.
        cpu_ratio: median of the same ratios in CPU time, all threads of the process.
        seconds: median of a run; times, cpu_times: of every round counted.
        import_seconds, open_seconds: until it could run; first_seconds: the first run.
        opening_bytes: most that was resident while it was opened; running_bytes: and afterwards.
        per_image_bytes: how much more that was than before the first run, over the batch. None
            where the system does not say (other than Linux).
        distance: relative L2 distance of its saliency from Backlit's, in its first run.
        scores_distance: largest difference of a score, over the largest score.
        versions: of the packages it ran on.
    """

    contender: str
    status: str
    reason: str = ""
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    cpu_ratio: float | None = None
    seconds: float | None = None
    times: list[float] = dataclasses.field(default_factory=list, repr=False)
    cpu_times: list[float] = dataclasses.field(default_factory=list, repr=False)
    import_seconds: float | None = None
    open_seconds: float | None = None
    first_seconds: float | None = None
    opening_bytes: int | None = None
    running_bytes: int | None = None
    per_image_bytes: float | None = None
    distance: float | None = None
    scores_distance: float | None = None
    versions: dict[str, str | None] = dataclasses.field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        """Whether its answers are Backlit's, as far as both give them; NaN is not."""
        known = [d for d in (self.distance, self.scores_distance) if d is not None]
        return all(d <= AGREES for d in known)


@dataclasses.dataclass(frozen=True)
class Case:
    """One classifier at one batch size and number of classes."""

    model: str
    batch: int
    k: int
    threads: int
    rounds: int
    height: int
    width: int
    results: list[Result]

    def line(self) -> dict[str, Any]:
        """Ready for JSON, which has no infinity: a distance that is none is null, and disagrees."""
        results = []
        for result in self.results:
            values = dataclasses.asdict(result) | {"agrees": result.agrees}
            for key in ("distance", "scores_distance"):
                if values[key] is not None and not math.isfinite(values[key]):
                    values[key] = None
            results.append(values)
        return {**dataclasses.asdict(self), "results": results}

    @staticmethod
    def read(line: dict[str, Any]) -> Case:
        """The case of a ``line``."""
        results = []
        for values in line["results"]:
            made = Result(**{key: v for key, v in values.items() if key != "agrees"})
            if made.agrees and not values["agrees"]:
                made = dataclasses.replace(made, distance=math.inf)
            results.append(made)
        return Case(**{**line, "results": results})

    def get(self, contender: str) -> Result | None:
        """The result of a contender; None where it was not there."""
        return next((r for r in self.results if r.contender == contender), None)


def measured(
    name: str,
    turns: Sequence[tuple[float, float]],
    yardstick: Sequence[tuple[float, float]] | None,
    said: dict[str, Any],
    batch: int,
) -> Result:
    """A contender's figures from its turns (wall and CPU seconds, first rounds included)."""
    counted = turns[WARM_UP:]
    ratio = low = high = cpu_ratio = per_image = None
    if yardstick is not None:
        pairs = list(zip(counted, yardstick[WARM_UP:], strict=True))
        ratios = [mine[0] / forward[0] for mine, forward in pairs]
        low, ratio, high = quartiles(ratios)
        # The CPU clock of some systems ticks coarsely; a forward of no ticks says nothing.
        in_cpu = [mine[1] / forward[1] for mine, forward in pairs if forward[1] > 0]
        cpu_ratio = statistics.median(in_cpu) if in_cpu else None
    if said.get("running_bytes") is not None and said.get("before_bytes") is not None:
        per_image = max(0, said["running_bytes"] - said["before_bytes"]) / batch
    return Result(
        name, "ok", "", ratio, low, high, cpu_ratio,
        seconds=statistics.median(wall for wall, _ in counted),
        times=[wall for wall, _ in counted],
        cpu_times=[cpu for _, cpu in counted],
        import_seconds=said.get("import_seconds"),
        open_seconds=said.get("open_seconds"),
        first_seconds=turns[0][0],
        opening_bytes=said.get("opening_bytes"),
        running_bytes=said.get("running_bytes"),
        per_image_bytes=per_image,
        versions=said.get("versions", {}),
    )  # fmt: skip


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def compared(result: Result, answer: dict[str, Array], reference: dict[str, Array]) -> Result:
    """The result with how far its first scores and saliency are from Backlit's."""
    found, wanted = answer.get("saliency"), reference["saliency"]
    distance = None if found is None else distance_of(found, wanted, np.linalg.norm)
    scores = distance_of(answer["scores"], reference["scores"], lambda x: np.abs(x).max())
    return dataclasses.replace(result, distance=distance, scores_distance=scores)


def distance_of(found: Array, wanted: Array, norm: Callable[[Array], Any]) -> float:
    """Norm of the difference over the norm; infinite where the shapes differ or it is no number."""
    if found.shape != wanted.shape:
        return math.inf
    distance = float(norm((found - wanted).ravel()) / max(float(norm(wanted.ravel())), 1e-30))
    return distance if math.isfinite(distance) else math.inf
