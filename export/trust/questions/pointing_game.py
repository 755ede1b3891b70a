"""Is the highest point of a map on the object? The pointing game.

The section ``pointing`` of the record: ``rounds``, ``classes``, ``maps``: by name ``accuracy``,
``low``, ``high``.
"""

from __future__ import annotations

from ....runtime.drawing.html import Cell, Part, Row, Table
from .. import pointing
from ..numbers import Record, number, percent
from ..pointing import CENTRE
from ..question import Answer, Plain, Study, not_measured


class PointingGame(Plain):
    """The pointing game, for images that came with boxes."""

    name, short = "pointing", "pointing game"

    def measure(self, study: Study) -> Answer:
        """Play it."""
        played = pointing.play(study.sampling.samples, study.by_class)
        if played is None:
            text = "no image came with boxes: give a data set that has some."
            return Answer({"missing": text})
        return Answer(record(played, study.seed))

    def lines(self, record: Record) -> list[str]:
        """The accuracy of each map."""
        return [
            f"pointing game: {name} {100 * one['accuracy']:.1f} %"
            for name, one in record["maps"].items()
        ]

    def part(self, answer: Answer, study: Study, most: int) -> Part:
        """A table by map."""
        return _part(answer, study, most)


def _part(answer: Answer, study: Study, most: int) -> Part:
    title = "Is the highest point on the object?"
    text = (
        "The pointing game (Zhang et al. 2016), for every class whose boxes are known: a hit is "
        "within 15 pixels of a box (in images smaller than 500 pixels, as much less).",
        "Shows: where one pixel of a map lies. Does not show: what the rest of it does. Baseline: "
        "the centre of the image.",
    )
    if answer.missing is not None:
        return not_measured(title, answer, *text)
    section, maps = answer.record, list(study.maps)
    order = [*maps, CENTRE]
    best = max(section["maps"][name]["accuracy"] for name in order)
    cells = [
        Cell(percent(one["accuracy"]), f"{100 * one['low']:.1f} to {100 * one['high']:.1f}",
             one["accuracy"] == best)
        for one in (section["maps"][name] for name in order)
    ]  # fmt: skip
    table = Table(
        f"Accuracy, {section['rounds']} objects of {section['classes']} classes", ("", *order),
        (Row("hits", tuple(cells), "mean over classes; higher is better"),),
        "Small: 95 % bootstrap interval. Marked: the best.",
    )  # fmt: skip
    said = [f"{name} {percent(section['maps'][name]['accuracy'])}" for name in order]
    return Part(title, text, (table,), ", ".join(said))


def record(played: pointing.Pointing, seed: int) -> Record:
    """As JSON takes it."""
    found = {}
    for name in played.hits:
        low, high = played.interval(name, seed)
        found[name] = {
            "accuracy": number(played.accuracy(name)), "low": number(low), "high": number(high)
        }  # fmt: skip
    return {"rounds": len(played.classes), "classes": len(set(played.classes)), "maps": found}
