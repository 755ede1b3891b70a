"""A question of the trust report: measured, recorded, told in lines, shown on the page."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from ...runtime.arrays import Floats, Index
from ...runtime.drawing.html import Part
from ...runtime.session import Session
from ..sources.classifier import Classifier
from .numbers import Record
from .sample import Sampling

Maps = dict[str, Floats]

NEEDS_SOURCE = (
    "give the classifier that the file was made of: backlit verify FILE SOURCE --report ..."
)


class Watch(Protocol):
    """Who is told how far it is."""

    def begin(self, what: str, steps: int) -> None:
        """A section begins, of so many steps."""

    def step(self) -> None:
        """A step is done."""


@dataclasses.dataclass(frozen=True, eq=False)
class Study:
    """What is measured: a file, its source, images, and the file's maps of them.

    Attributes:
        path: the file.
        session: of it, with all of its maps.
        scorer: of it, with none: for what needs scores alone.
        classifier: the source as loaded; None: it was not given.
        source: the source as ONNX; None without one.
        sampling: the N images.
        views: uint8 [N,H,W,C], as the file takes them.
        top: int64 [N], the top-scoring class of each image.
        probability: float64 [N], of that class.
        maps: by name, those of the top classes: float32 [N,h,w].
        by_class: for each image by map and true class: float32 [H,W]; for images with boxes.
        seed: of all that is drawn.
        watch: told how far it is.
    """

    path: Path
    session: Session
    scorer: Session
    classifier: Classifier | None
    source: ir.Model | None
    sampling: Sampling
    views: npt.NDArray[np.uint8]
    top: Index
    probability: npt.NDArray[np.float64]
    maps: Maps
    by_class: list[dict[str, dict[int, Any]]]
    seed: int
    watch: Watch


@dataclasses.dataclass(frozen=True, eq=False)
class Answer:
    """What a question found.

    Attributes:
        record: for JSON; ``{"missing": what it needs}`` where it could not be measured.
        per_image: for each image, what is added to its row of the record; empty: nothing.
        more: what the page shows besides, as the question likes it.
    """

    record: Record
    per_image: tuple[Record, ...] = ()
    more: Any = None

    @property
    def missing(self) -> str | None:
        """What the question needs; None if it was measured."""
        text: str | None = self.record.get("missing")
        return text


class Question(Protocol):
    """A row of the table.

    Attributes:
        name: its section in the record.
        short: in the head of the page.
    """

    name: str
    short: str

    def measure(self, study: Study) -> Answer:
        """Measure it; what it lacks is no error, but the answer's ``missing``."""

    def lines(self, record: Record) -> list[str]:
        """What was found, with thresholds and baselines, for a terminal; a line or several."""

    def pictures(self, answer: Answer) -> int:
        """How many its part of the page has."""

    def part(self, answer: Answer, study: Study, most: int) -> Part:
        """Its part of the page; each picture has at most so many bytes."""


def not_measured(title: str, answer: Answer, *text: str) -> Part:
    """The part of a question that could not be measured."""
    return Part(title, (*text, f"Not measured: {answer.missing}"), verdict="not measured")


class Plain:
    """A question whose part has no pictures."""

    def pictures(self, answer: Answer) -> int:
        """None."""
        return 0
