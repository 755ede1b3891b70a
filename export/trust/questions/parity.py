"""Is what the file returns the classifier's?

The section ``parity`` of the record: ``agrees`` (null where nothing was measured), all fields of
the metadata's ``verification``, ``compared``: per test image and class ``image``, ``class``,
``cosine``, ``relative_l2``.
"""

from __future__ import annotations

import dataclasses

from ....runtime.drawing.html import Cell, Part, Row, Table
from ...sources.load import load, to_onnx
from ...verify.verify import Parity as Compared
from ...verify.verify import compare
from ..numbers import Record, number
from ..question import NEEDS_SOURCE, Answer, Plain, Study, not_measured


class Parity(Plain):
    """Parity with the source, as at export."""

    name, short = "parity", "gradient"

    def measure(self, study: Study) -> Answer:
        """Compare the file's gradient with the source's."""
        if study.classifier is None or study.source is None:
            return Answer({"missing": NEEDS_SOURCE})
        study.watch.begin("parity with the source", 1)
        made, _ = to_onnx(load(study.path))
        found = compare(made, study.source, study.classifier.module, study.session.contract)
        study.watch.step()
        return Answer(record(found))

    def lines(self, record: Record) -> list[str]:
        """Whether it agrees."""
        if record["agrees"] is None:
            return [f"parity: not measured, because {'; '.join(record['because'])}"]
        if not record["agrees"]:
            because = "; ".join(record["because"])
            return [f"parity: DISAGREES with {record['reference']}: {because}"]
        return [f"parity: agrees with {record['reference']}, relative L2 "
                f"{record['relative_l2']:.1e}"]  # fmt: skip

    def part(self, answer: Answer, study: Study, most: int) -> Part:
        """A table, image by image."""
        return _part(answer, study, most)


def _part(answer: Answer, study: Study, most: int) -> Part:
    title = "Is it the classifier's gradient?"
    text = (
        "What the file returns against the classifier it was made of, on seeded test images.",
        "Shows: the graph computes the derivative of this classifier's scores. Does not show: that "
        "a derivative is a good explanation. Baseline: a wrong gradient is off by about 1.",
    )
    if answer.missing is not None:
        return not_measured(title, answer, *text)
    section = answer.record
    rows = [
        Row(
            f"image {one['image']}, class {one['class']}",
            (
                Cell(f"{one['relative_l2']:.1e}"),
                *([] if one["cosine"] is None else [Cell(f"{one['cosine']:.7f}")]),
            ),
        )
        for one in section["compared"]
    ]
    cosines = all(len(row.cells) == 2 for row in rows)
    whole = Cell(_told(section["relative_l2"], ".1e")), Cell(_told(section["cosine"], ".7f"))
    exact = "" if section["exact"] is None else f"; computed in float64 {section['exact']:.1e}"
    table = Table(
        f"Against {section['reference']}",
        ("", "relative distance", "cosine")[: 2 + cosines],
        (Row("all", whole[: 1 + cosines]), *rows),
        "Largest difference of scores, over the largest score: "
        f"{_told(section['scores_relative'], '.1e')}"
        f"{exact}." + ("" if cosines else " Derivatives along a random direction were compared."),
    )
    outputs = Table(
        "Each output",
        ("", "off by", "expected at most"),
        tuple(
            Row(one["name"], (Cell(_told(one["error"], ".1e")), Cell(f"{one['allowed']:.0e}")))
            for one in section["outputs"]
        ),
        "class, ranks: the share that is wrong; batch: what a batch moves; the rest: relative.",
    )
    because = "; ".join(section["because"])
    verdict = {
        "agrees": f"yes, within {_told(section['relative_l2'], '.1e')}",
        "disagrees": f"no: {because}",
        "not measured": f"nothing was measured, because {because}",
    }[section["outcome"]]
    return Part(title, text, (table, outputs), verdict, section["agrees"])


def _told(value: float | None, digits: str) -> str:
    return "none" if value is None else format(value, digits)


def record(found: Compared) -> Record:
    """As JSON takes it."""
    outcome = found.verification.outcome
    return {
        "agrees": None if outcome == "not measured" else outcome == "agrees",
        **dataclasses.asdict(found.verification),
        "compared": [
            {
                "image": one.image, "class": one.index, "cosine": number(one.cosine),
                "relative_l2": number(one.relative_l2),
            }
            for one in found.compared
        ],
    }  # fmt: skip
