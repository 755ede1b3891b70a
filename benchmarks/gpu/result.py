"""The figures of the GPU benchmark: from turns and answers to times, ratios and distances."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from backlit.export.bench.result import distance_of, quartiles

Array = np.ndarray[Any, Any]
WRONG = 0.5  # relative L2 distance of a map at which it is another map; rounding flips ReLU masks


@dataclasses.dataclass(frozen=True)
class Key:
    """One case."""

    model: str
    precision: str
    batch: int
    k: int

    def __str__(self) -> str:
        name = self.model.replace(":", ".")
        return f"{name}-{self.precision}-batch{self.batch}-k{self.k}"


@dataclasses.dataclass(frozen=True)
class Figure:
    """Seconds of a run, median and quartiles over the rounds; and over the yardstick's."""

    seconds: float
    low: float
    high: float
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None


@dataclasses.dataclass(frozen=True)
class Result:
    """What a contender did in a case.

    Attributes:
        contender: its name.
        status: ``ok``, ``failed`` or ``absent`` (it cannot run here); reason: why.
        yardstick: the contender whose times the ratios are over.
        figures: by mode, ``host`` (with copies) and ``device`` (without).
        open_seconds, first_seconds: until it could run, and the first run (which compiles).
        memory_bytes: of the device, without the context; on the CPU of the process.
        distance: median relative L2 distance of a map from the CPU provider's in float32.
        scores_distance: largest difference of a score, over the largest score.
        elsewhere: nodes of the file that the provider left to another.
        versions: of the libraries.
    """

    contender: str
    status: str
    reason: str = ""
    yardstick: str | None = None
    figures: dict[str, Figure] = dataclasses.field(default_factory=dict)
    open_seconds: float | None = None
    first_seconds: float | None = None
    memory_bytes: int | None = None
    distance: float | None = None
    scores_distance: float | None = None
    elsewhere: int = 0
    versions: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        """Whether it computes the same; NaN does not."""
        known = [d for d in (self.distance, self.scores_distance) if d is not None]
        return all(d <= WRONG for d in known)

    @staticmethod
    def read(line: Mapping[str, Any]) -> Result:
        """A result from JSON, where infinity is null."""
        values = dict(line)
        values.pop("agrees", None)
        values["figures"] = {mode: Figure(**figure) for mode, figure in line["figures"].items()}
        for name in values.pop("infinite", ()):
            values[name] = math.inf
        return Result(**values)

    def line(self) -> dict[str, Any]:
        """Ready for JSON."""
        values = {**dataclasses.asdict(self), "agrees": self.agrees}
        infinite = [n for n in ("distance", "scores_distance") if values[n] == math.inf]
        return {**values, **dict.fromkeys(infinite), **({"infinite": infinite} if infinite else {})}


def figures(
    mine: Mapping[str, Sequence[float]], yardstick: Mapping[str, Sequence[float]] | None
) -> dict[str, Figure]:
    """Medians and quartiles of times (by mode), and of their ratios round by round."""
    found = {}
    for mode, times in mine.items():
        low, seconds, high = quartiles(times)
        ratios: tuple[float, ...] = ()
        if yardstick is not None:
            pairs = zip(times, yardstick[mode], strict=True)
            ratio_low, ratio, ratio_high = quartiles([a / b for a, b in pairs])
            ratios = (ratio, ratio_low, ratio_high)
        found[mode] = Figure(seconds, low, high, *ratios)
    return found


def expected(folder: Path, batch: int, k: int) -> dict[str, Array]:
    """What the CPU provider made of the images of a case, in float32."""
    with np.load(folder / "reference.npz") as kept:
        rows = np.arange(batch) % len(kept["images"])
        return {"scores": kept["scores"][rows], "saliency": kept["saliency"][rows, :k]}


def distances(
    found: Mapping[str, Array], wanted: Mapping[str, Array]
) -> tuple[float | None, float, float | None]:
    """Of the maps the median and the largest relative L2 distance; between them the scores'."""
    scores = distance_of(found["scores"], wanted["scores"], lambda x: np.abs(x).max())
    maps, right = found.get("saliency"), wanted["saliency"]
    if maps is None:
        return None, scores, None
    if maps.shape != right.shape:
        return math.inf, scores, math.inf
    each = [
        distance_of(maps[n, c], right[n, c], np.linalg.norm)
        for n in range(len(maps)) for c in range(maps.shape[1])
    ]  # fmt: skip
    return statistics.median(each), scores, max(each)


def finite(value: float | None) -> float | None:
    """For JSON, which has no infinity."""
    return value if value is not None and math.isfinite(value) else None
