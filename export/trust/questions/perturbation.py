"""Does the score follow the pixels? Insertion and deletion.

The section ``perturbation`` of the record: ``images``, ``share``, ``orders``: by name ``insertion``
and ``deletion``: ``area``, ``low``, ``high`` (95 % bootstrap interval), ``beats`` (how many images
are better than in the centred order), ``mean``, ``lower_quartile``, ``upper_quartile`` by share.
Each image's row has ``insertion`` and ``deletion``: areas by order.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from ....runtime.arrays import Index
from ....runtime.drawing.charts import Chart, Series
from ....runtime.drawing.html import Cell, Part, Row, Table
from ....runtime.evaluation import metrics
from ....runtime.maps.enlarged import enlarged
from .. import perturb
from ..numbers import Record, number, numbers, three
from ..question import Answer, Plain, Study

RANDOM, CENTRED = "random order", "centred Gaussian"
KINDS: tuple[perturb.Kind, ...] = ("insertion", "deletion")
_BASELINES = (RANDOM, CENTRED)


class Perturbation(Plain):
    """Insertion and deletion in the order of each map, and in two blind ones."""

    name, short = "perturbation", "pixels"

    def measure(self, study: Study) -> Answer:
        """Follow the probability of the top class."""
        count, (height, width) = len(study.views), study.views.shape[1:3]
        study.watch.begin("insertion and deletion", count)
        orders: dict[str, Index] = {
            name: perturb.order(enlarged(each, height, width), study.seed)
            for name, each in study.maps.items()
        }
        orders[RANDOM] = perturb.random_order(count, height, width, study.seed)
        orders[CENTRED] = perturb.centred_order(count, height, width, study.seed)
        curves = perturb.curves(study.scorer, study.views, study.top, orders, done=study.watch.step)
        rows: tuple[Record, ...] = tuple(
            {
                kind: {name: number(curve.areas(kind)[n]) for name, curve in curves.items()}
                for kind in KINDS
            }
            for n in range(count)
        )
        return Answer(record(curves, CENTRED, study.seed), rows)

    def lines(self, record: Record) -> list[str]:
        """The areas of each order."""
        return [
            f"{name}: insertion {one['insertion']['area']:.3f}, deletion "
            f"{one['deletion']['area']:.3f}"
            for name, one in record["orders"].items()
        ]

    def part(self, answer: Answer, study: Study, most: int) -> Part:
        """Areas and curves."""
        return _part(answer, study, most)


def _part(answer: Answer, study: Study, most: int) -> Part:
    section = answer.record
    text = (
        "Insertion and deletion (RISE, Petsiuk et al. 2018): in the order of a map, pixels are put "
        "into a blurred image, or replaced in the image by the mean pixel, and the probability of "
        "its top class is followed.",
        "Shows: whether the pixels that a map calls important change the score. Does not show: "
        "that they are the object, and half-deleted images are like none that the classifier has "
        "learned: scattered pixels destroy a class in any order. Baselines: a random order, and a "
        "Gaussian in the middle.",
    )
    orders = section["orders"]
    rows, charts = [], []
    for kind, better, best in (("insertion", "higher", max), ("deletion", "lower", min)):
        top = best(one[kind]["area"] for one in orders.values())
        cells = [
            Cell(three(one[kind]["area"]), f"{three(one[kind]['low'])} to "
                 f"{three(one[kind]['high'])}", one[kind]["area"] == top)
            for one in orders.values()
        ]  # fmt: skip
        rows.append(Row(kind, tuple(cells), f"area under the curve; {better} is better"))
        wins = [
            Cell("-" if name == CENTRED else f"{one[kind]['beats']} of {section['images']}")
            for name, one in orders.items()
        ]
        rows.append(Row("", tuple(wins), "images on which it beats the centred Gaussian"))
        charts.append(
            Chart(
                kind.capitalize(),
                f"share of pixels {'inserted' if kind == 'insertion' else 'deleted'}",
                "probability of the top class",
                tuple(
                    Series(
                        name, section["share"], one[kind]["mean"],
                        None if name in _BASELINES
                        else (one[kind]["lower_quartile"], one[kind]["upper_quartile"]),
                    )
                    for name, one in orders.items()
                ),
                (0, 1), (0, 1), percent=True,
                note="Mean over the images; pale: the middle half of them.",
            )
        )  # fmt: skip
    table = Table(
        f"Areas, {section['images']} images", ("", *orders), tuple(rows),
        "Small: 95 % bootstrap interval over the images. Marked: the best of the row.",
    )  # fmt: skip
    verdicts = [
        f"{name} {three(orders[name]['insertion']['area'])} and "
        f"{three(orders[name]['deletion']['area'])}"
        for name in (*study.maps, *_BASELINES)
    ]
    title = "Does the score follow the pixels?"
    return Part(title, text, (table, *charts), f"insertion and deletion: {', '.join(verdicts)}")


def record(curves: Mapping[str, perturb.Curves], blind: str, seed: int) -> Record:
    """As JSON takes it; ``blind`` is the order that the others are to beat."""

    def one(name: str, kind: perturb.Kind) -> Record:
        areas, others = curves[name].areas(kind), curves[blind].areas(kind)
        values: npt.NDArray[np.float64] = getattr(curves[name], kind)
        low, high = metrics.bootstrap(lambda rows: float(np.mean(rows)), areas, seed=seed)
        better = areas > others if kind == "insertion" else areas < others
        return {
            "area": number(areas.mean()), "low": number(low), "high": number(high),
            "beats": int(better.sum()), "mean": numbers(values.mean(0)),
            "lower_quartile": numbers(np.quantile(values, 0.25, axis=0)),
            "upper_quartile": numbers(np.quantile(values, 0.75, axis=0)),
        }  # fmt: skip

    some = next(iter(curves.values()))
    return {
        "images": len(some.insertion),
        "share": numbers(some.share),
        "orders": {name: {kind: one(name, kind) for kind in KINDS} for name in curves},
    }
