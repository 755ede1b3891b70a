"""From records to numbers: metrics with intervals, curves, a table of images, notable cases."""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..text import cell
from . import metrics, sweep
from .maps import Record

Statistic = Callable[..., float]
"""A metric as a function of arrays with one row for each image."""

Arrays = tuple[npt.NDArray[Any], ...]

CLASSIFIER = "classifier"
"""Stands for the method where a metric is about the scores alone."""

IOU_GRID = tuple(round(step * 0.02, 2) for step in range(51))
"""The IoU thresholds of the accuracy curve."""


@dataclasses.dataclass(frozen=True)
class Metric:
    """What a row of the table is.

    Attributes:
        key: in the JSON.
        name: in the field's terms.
        note: the definition, in a few words.
        lower: less is better.
    """

    key: str
    name: str
    note: str
    lower: bool = False


@dataclasses.dataclass(frozen=True)
class Pick:
    """One image and true class to show: position in the image's true classes, and the IoU."""

    image: str
    position: int
    iou: float


@dataclasses.dataclass
class _Measures:
    """Of one method: hits per image with true boxes, the rest per pair of such an image and class.

    Attributes:
        hits: bool [top] of each image: the ranked class is true and its box right.
        ious: of the true class's box.
        pointing: whether the map's peak is a hit.
        largest, best: IoUs over score thresholds in thousandths, as `sweep.box_sweep` has them.
    """

    hits: list[list[bool]] = dataclasses.field(default_factory=list)
    ious: list[float] = dataclasses.field(default_factory=list)
    pointing: list[bool] = dataclasses.field(default_factory=list)
    largest: list[npt.NDArray[np.uint16]] = dataclasses.field(default_factory=list)
    best: list[npt.NDArray[np.uint16]] = dataclasses.field(default_factory=list)


class Summary:
    """All that the records say.

    Attributes:
        methods: what is compared; the first is the recipe.
        ranks: the k of the top-k errors.
        images: how many records there are.
    """

    def __init__(self, records: Iterable[Record], methods: Sequence[str], top: int) -> None:
        """Read the records once; what is kept are numbers.

        Args:
            records: of the images, in the order of the data set.
            methods: what is compared; the first is the recipe.
            top: how many classes are ranked.
        """
        self.methods = tuple(methods)
        self.ranks = (1, top) if top > 1 else (1,)
        self.images = 0
        self._right: list[list[bool]] = []
        self._measures = {name: _Measures() for name in methods}
        self._pairs: list[tuple[str, int]] = []
        self._classes: list[int] = []
        self._pairs_of: list[list[int]] = []
        for record in records:
            self._add(record)

    def metrics(self) -> tuple[Metric, ...]:
        """The rows of the table, in order."""
        rows = []
        for kind, word in (("classification", "classification"), ("localization", "localisation")):
            ends = "no true class among the first {k}"
            if kind == "localization":
                ends = "no true class with its box right (IoU 0.5) among the first {k}"
            rows += [
                Metric(f"top{k}_{kind}_error", f"top-{k} {word} error", ends.format(k=k), True)
                for k in self.ranks
            ]
        rows += [
            Metric(_known(iou), f"GT-known accuracy, IoU {iou}", "box right, the class given")
            for iou in metrics.IOU_THRESHOLDS
        ]
        return (
            *rows,
            Metric("gt_known_mean", "GT-known accuracy, mean", "over IoU 0.3, 0.5, 0.7"),
            Metric("max_box_acc", "MaxBoxAcc", "largest contour, best threshold, IoU 0.5"),
            Metric("max_box_acc_v2", "MaxBoxAccV2", "any contour, best thresholds, mean over IoU"),
            Metric("corloc", "CorLoc", "GT-known at IoU 0.5, mean over classes"),
            Metric("pointing_game", "pointing game", "highest pixel in the box, mean over classes"),
        )

    def table(self, seed: int = 0, resamples: int = 1000) -> dict[str, dict[str, Record]]:
        """Every metric for every method: ``value`` and its 95 % interval, ``low`` and ``high``.

        Images are resampled, with all their classes. NaN, where a metric applies to no image, is
        None.
        """
        found: dict[str, dict[str, Record]] = {}
        for (key, method), (statistic, arrays) in self._statistics().items():
            low, high = metrics.bootstrap(statistic, *arrays, seed=seed, resamples=resamples)
            cell = {
                "value": _number(statistic(*arrays)),
                "low": _number(low),
                "high": _number(high),
            }
            found.setdefault(key, {})[method] = cell
        return found

    def curves(self) -> Record:
        """Accuracy over IoU (class given), and over the score threshold at IoU 0.5."""
        over_iou: Record = {"threshold": list(IOU_GRID)}
        over_score: Record = {"threshold": [round(t, 2) for t in sweep.SCORE_THRESHOLDS]}
        for name, of in self._measures.items():
            if of.ious:
                accuracy = metrics.accuracy_curve(of.ious, IOU_GRID)
                over_iou[name] = [_number(share) for share in accuracy]
                shares = sweep.score_threshold_curve(_sweeps(of.largest), 0.5)
                over_score[name] = [_number(share) for share in shares]
        return {"iou": over_iou, "score_threshold": over_score}

    def picks(self, count: int) -> dict[str, list[Pick]]:
        """The best, the median and the worst cases of the recipe by IoU; none twice."""
        ious = self._measures[self.methods[0]].ious
        order = sorted(range(len(ious)), key=lambda pair: (-ious[pair], self._pairs[pair]))
        sizes = [min(count, len(order)) // 3 + (min(count, len(order)) % 3 > n) for n in range(3)]
        middle = (len(order) - sizes[1]) // 2
        middle = min(max(middle, sizes[0]), len(order) - sizes[2] - sizes[1])
        parts = {
            "best": order[: sizes[0]],
            "median": order[middle : middle + sizes[1]],
            "worst": order[len(order) - sizes[2] :][::-1],
        }
        return {
            kind: [Pick(*self._pairs[pair], ious[pair]) for pair in pairs]
            for kind, pairs in parts.items()
        }

    def _add(self, record: Record) -> None:
        truth = dict(zip(record["true"], record["boxes"], strict=True))
        ranked = record["ranked"]
        self.images += 1
        self._right.append([index in truth for index in ranked])
        shown = [position for position, boxes in enumerate(record["boxes"]) if boxes]
        if not shown:
            return
        for name, of in self._measures.items():
            found = record["methods"][name]
            of.hits.append(
                [
                    metrics.best_iou(box, truth.get(index, ())) >= 0.5
                    for index, box in zip(ranked, found["ranked"], strict=True)
                ]
            )
            for position in shown:
                of.ious.append(metrics.best_iou(found["true"][position], record["boxes"][position]))
                of.pointing.append(found["pointing"][position])
                of.largest.append(np.array(found["largest"][position], np.uint16))
                of.best.append(np.array(found["best"][position], np.uint16))
        first = len(self._pairs)
        self._pairs_of.append(list(range(first, first + len(shown))))
        self._pairs += [(record["image"], position) for position in shown]
        self._classes += [record["true"][position] for position in shown]

    def _statistics(self) -> dict[tuple[str, str], tuple[Statistic, Arrays]]:
        """By key and method: the metric as a function of rows, one for each image, and the rows."""
        found: dict[tuple[str, str], tuple[Statistic, Arrays]] = {}
        if not self._right:
            return found
        for k in self.ranks:
            error = functools.partial(metrics.top_k_classification_error, k=k)
            found[f"top{k}_classification_error", CLASSIFIER] = error, (np.array(self._right),)
        if not self._pairs:
            return found
        # Classes of one image are drawn together, for they are not independent.
        most = max(map(len, self._pairs_of))
        pairs = np.array([own + [-1] * (most - len(own)) for own in self._pairs_of])
        classes = np.array(self._classes)
        for name, of in self._measures.items():
            for k in self.ranks:
                error = functools.partial(metrics.top_k_localization_error, k=k)
                found[f"top{k}_localization_error", name] = error, (np.array(of.hits),)
            ious, largest, best = np.array(of.ious), _sweeps(of.largest), _sweeps(of.best)
            statistics: dict[str, Statistic] = {
                **{
                    _known(iou): _over(
                        functools.partial(metrics.gt_known_accuracy, threshold=iou), ious
                    )
                    for iou in metrics.IOU_THRESHOLDS
                },
                "gt_known_mean": _over(_mean_accuracy, ious),
                "max_box_acc": _over(sweep.max_box_acc, largest),
                "max_box_acc_v2": _over(sweep.max_box_acc_v2, best),
                "corloc": _over(metrics.cor_loc, ious >= 0.5, classes),
                "pointing_game": _over(metrics.pointing_game, np.array(of.pointing), classes),
            }
            found |= {(key, name): (one, (pairs,)) for key, one in statistics.items()}
        return found


def csv_text(records: Iterable[Record], methods: Sequence[str], errors: dict[str, str]) -> str:
    """One row per image: what was true, what was said, and how good each box is.

    Where an image has several true classes, a cell holds one value for each, by space.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    per_method = [f"{what}_{name}" for name in methods for what in ("iou", "pointing", "box")]
    writer.writerow(["image", "width", "height", "true", "ranked", *per_method, "error"])
    for record in records:
        writer.writerow([*_cells(record, methods), ""])
    for name, problem in errors.items():
        writer.writerow([cell(name), *[""] * (4 + len(per_method)), problem])
    return file.getvalue()


def _cells(record: Record, methods: Sequence[str]) -> Iterator[Any]:
    yield cell(record["image"])
    yield from record["size"]
    yield " ".join(map(str, record["true"]))
    yield " ".join(map(str, record["ranked"]))
    for name in methods:
        found = record["methods"][name]
        pairs = list(zip(found["true"], record["boxes"], strict=True))
        yield " ".join(f"{metrics.best_iou(box, true):.4f}" if true else "-" for box, true in pairs)
        yield " ".join("-" if hit is None else f"{hit:.0f}" for hit in found["pointing"])
        yield "; ".join(
            "-" if box is None else " ".join(f"{edge:g}" for edge in box) for box, _ in pairs
        )


def _known(iou: float) -> str:
    return f"gt_known_iou_{iou}"


def _sweeps(thousandths: Sequence[npt.NDArray[np.uint16]]) -> npt.NDArray[np.float32]:
    return (np.array(thousandths) / 1000).astype(np.float32)


def _over(metric: Statistic, *values: npt.NDArray[Any]) -> Statistic:
    """A metric of pairs as one of images: rows of the numbers of their pairs, filled with -1."""

    def statistic(rows: npt.NDArray[np.int64]) -> float:
        pairs = rows[rows >= 0]
        return metric(*(value[pairs] for value in values))

    return statistic


def _mean_accuracy(ious: npt.NDArray[np.float64]) -> float:
    return float(metrics.accuracy_curve(ious, metrics.IOU_THRESHOLDS).mean())


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 6)
