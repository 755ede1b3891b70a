"""Is the gradient in the file the classifier's?

The section ``parity`` of the record: ``agrees``, ``problems``, all fields of the metadata's
``verification``, ``compared``: per test image and class ``image``, ``class``, ``cosine``,
``relative_l2``.
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
        word = "agrees" if record["agrees"] else "DISAGREES"
        return [
            f"parity: {word} with {record['reference']}, relative L2 {record['relative_l2']:.1e}"
        ]

    def part(self, answer: Answer, study: Study, most: int) -> Part:
        """A table, image by image."""
        return _part(answer, study, most)


def _part(answer: Answer, study: Study, most: int) -> Part:
    title = "Is it the classifier's gradient?"
    text = (
        "The file's gradient against that of the classifier it was made of, on seeded noise.",
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
    whole = Cell(f"{section['relative_l2']:.1e}"), Cell(f"{section['cosine']:.7f}")
    exact = "" if section["exact"] is None else f"; computed in float64 {section['exact']:.1e}"
    table = Table(
        f"Against {section['reference']}",
        ("", "relative distance", "cosine")[: 2 + cosines],
        (Row("all", whole[: 1 + cosines]), *rows),
        f"Largest difference of scores, over the largest score: {section['scores_relative']:.1e}"
        f"{exact}." + ("" if cosines else " Derivatives along a random direction were compared."),
    )
    agrees = section["agrees"]
    verdict = f"yes, within {section['relative_l2']:.1e}"
    if not agrees:
        verdict = f"no: {'; '.join(section['problems'])}"
    return Part(title, text, (table,), verdict, agrees)


def record(found: Compared) -> Record:
    """As JSON takes it."""
    return {
        "agrees": not found.problems,
        "problems": list(found.problems),
        **dataclasses.asdict(found.verification),
        "compared": [
            {
                "image": one.image, "class": one.index, "cosine": number(one.cosine),
                "relative_l2": number(one.relative_l2),
            }
            for one in found.compared
        ],
    }  # fmt: skip
