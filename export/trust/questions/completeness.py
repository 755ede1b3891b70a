"""Do the attributions of Integrated Gradients add up to the score?

The section ``completeness`` of the record: ``gradient_of`` ("file" or "source"), ``images``,
``baseline``, ``steps``, ``median`` and ``upper_quartile`` of the relative error by step, ``plain``
(median of one gradient instead), ``per_image``: ``gain`` and ``sums`` by step.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ....runtime.contract import Contract, ImageInput, Map
from ....runtime.drawing.html import Cell, Part, Row, Table
from ....runtime.session import Session
from ...write import save, stamp
from .. import complete
from ..numbers import Record, number, percent
from ..question import Answer, Plain, Study, not_measured
from ..rebuild import rebuilt

IMAGES = 10
"""How many it takes, being dear; it varies little between images."""

WITHIN = 0.05
"""Largest median error of completeness, at the most steps, that is taken for complete."""


class Completeness(Plain):
    """Completeness of Integrated Gradients, by the number of steps."""

    name, short = "completeness", "completeness"

    def measure(self, study: Study) -> Answer:
        """Of the file's own gradient; where its maps leave that out, of the source's."""
        contract = study.session.contract
        if contract.relu != "gradient":
            text = f"the file returns {contract.relu} maps, which no path adds up."
            return Answer({"missing": text})
        views, top = study.views[:IMAGES], study.top[:IMAGES]
        study.watch.begin("Integrated Gradients", len(views) * len(complete.STEPS))
        if contract.map("gradient") is not None:
            found = complete.measure(study.session, views, top, done=study.watch.step)
            return Answer(record("file", found))
        if study.source is None:
            return Answer({
                "missing": "the file returns no gradient with its signs: give its source as well, "
                "or export it with --maps saliency,features,gradient."
            })  # fmt: skip
        with tempfile.TemporaryDirectory(prefix="backlit-") as folder:
            other = with_gradient(study.source, contract, Path(folder) / "gradient.onnx")
            found = complete.measure(other, views, top, done=study.watch.step)
            return Answer(record("source", found))

    def lines(self, record: Record) -> list[str]:
        """The error by steps."""
        errors = ", ".join(
            f"{100 * error:.1f} % at {steps}"
            for steps, error in zip(record["steps"], record["median"], strict=True)
        )
        return [f"completeness: off by {errors} steps; one gradient {100 * record['plain']:.1f} %"]

    def part(self, answer: Answer, study: Study, most: int) -> Part:
        """A table by steps."""
        return _part(answer, study, most)


def _part(answer: Answer, study: Study, most: int) -> Part:
    title = "Do attributions add up to the score?"
    text = (
        "Integrated Gradients (Sundararajan et al. 2017): along the path from a black image to the "
        "image, the gradient must add up to what the class score gains.",
        "Shows: the gradient is right on real images, end to end, as its error falls with the "
        "steps. Does not show: that the path is a good one. Baseline: gradient times image, which "
        "takes one gradient for the whole path.",
    )
    if answer.missing is not None:
        return not_measured(title, answer, *text)
    section, precision = answer.record, study.session.contract.precision
    steps, median, upper = section["steps"], section["median"], section["upper_quartile"]
    rows = [
        Row(f"{count} steps", (Cell(percent(m)), Cell(percent(u))))
        for count, m, u in zip(steps, median, upper, strict=True)
    ]
    rows.append(Row("gradient times image", (Cell(percent(section["plain"])), Cell("")), "1 step"))
    good, smooth = median[-1] <= WITHIN, precision in ("float32", "float64")
    whose = "the file's own gradient"
    if section["gradient_of"] == "source":
        whose = "the source differentiated again with signs, which the file's maps leave out"
    table = Table(
        f"Error by steps, {section['images']} images",
        ("|sum - gain| / gain", "median", "upper quartile"),
        tuple(rows),
        f"Of {whose}. Within {percent(WITHIN)} is a yes: rounding to pixels takes 1 to 2 %, kinks "
        "of the classifier the rest; a wrong gradient does not converge. "
        + ("" if smooth else f"In {precision} scores are a staircase, which no gradient adds up."),
    )
    verdict = (
        f"{'yes' if good else 'no'}, off by {percent(median[-1])} at {steps[-1]} steps (one "
        f"gradient: {percent(section['plain'])})"
    )
    return Part(title, text, (table,), verdict, True if good else False if smooth else None)


def with_gradient(source: ir.Model, contract: Contract, path: Path) -> Session:
    """The source differentiated again with its signs, as a file that takes float32.

    float32, because between pixels a path has points that uint8 would round.
    """
    spec = contract.image
    plain: ImageInput = dataclasses.replace(spec, dtype="float32", layout="NCHW")
    gradient: str = "gradient"
    made = dataclasses.replace(
        contract, image=plain, maps=(Map(gradient, spec.height, spec.width, "d score / d image"),),
        precision="float32", verification=None,
    )  # fmt: skip
    model = rebuilt(source, made, [gradient])
    stamp(model, made)
    save(model, path)
    return Session(path)


def record(whose: str, found: complete.Completeness) -> Record:
    """As JSON takes it, of the file's own gradient or the source's."""
    errors = {steps: found.errors(sums) for steps, sums in found.sums.items()}
    return {
        "gradient_of": whose,
        "images": len(found.gain),
        "baseline": complete.BASELINE,
        "steps": list(found.sums),
        "median": [number(np.median(each)) for each in errors.values()],
        "upper_quartile": [number(np.quantile(each, 0.75)) for each in errors.values()],
        "plain": number(np.median(found.errors(found.plain))),
        "per_image": [
            {"gain": number(gain), "sums": [number(sums[n]) for sums in found.sums.values()]}
            for n, gain in enumerate(found.gain)
        ],
    }
