"""Reasons to trust a file's maps: the questions of the table, measured on images of one's own.

The record that JSON takes: ``{"schema": 1, "backlit", "file", "file_sha256", "source": name or
null, "source_is_recorded", "precision", "provider", "seconds": {section: s}, "images": {"drawn",
"of", "seed", "sources": [..], "notes": [..]}, "maps": [names], a section for each question,
"per_image"}``. A section is what its question's module says, or has ``"missing"``, a sentence that
says what it needs. A row of ``per_image`` has ``image``, ``class``, ``label``, ``probability``, and
what the questions add. A number that does not exist is null.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...runtime.arrays import Index
from ...runtime.backend.outputs import Outputs
from ...runtime.files import file_hash
from ...runtime.maps.enlarged import enlarged
from ...runtime.session import Session
from ..sources.classifier import Classifier
from ..sources.load import as_exported
from . import perturb, sample
from .numbers import Record, number
from .question import Answer, Maps, Study, Watch
from .questions.table import QUESTIONS
from .sample import Sampling

SCHEMA = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Findings:
    """What was measured, and what the page shows besides.

    Attributes:
        record: the numbers.
        study: what they are of.
        answers: of the questions, by name.
    """

    record: Record
    study: Study
    answers: dict[str, Answer]


def measure(
    path: Path,
    arguments: Sequence[str],
    watch: Watch,
    *,
    classifier: Classifier | None = None,
    constants: Mapping[str, Any] | None = None,
    samples: int = 50,
    seed: int = 0,
) -> Findings:
    """Measure a file.

    Args:
        path: a Backlit file.
        arguments: images, folders, data sets; see `sample.draw`.
        watch: told how far it is.
        classifier: the source, for the questions that need it.
        constants: values for its other inputs, as they were for the file.
        samples: how many images to draw.
        seed: of all that is drawn: images, orders, weights.

    Raises:
        BacklitError: file, source or images cannot be read. A wrong gradient is no error: the
            findings say so.
    """
    seconds: dict[str, float] = {}
    started = time.perf_counter()
    study = _study(path, arguments, watch, classifier, constants, samples, seed)
    seconds["maps"] = round(time.perf_counter() - started, 1)
    answers = {}
    for question in QUESTIONS:
        started = time.perf_counter()
        answers[question.name] = question.measure(study)
        seconds[question.name] = round(time.perf_counter() - started, 1)
    contract, sampling = study.session.contract, study.sampling
    record = {
        "schema": SCHEMA,
        "backlit": importlib.metadata.version("backlit"),
        "file": path.name,
        "file_sha256": file_hash(path),
        "source": None if classifier is None else classifier.name,
        "source_is_recorded": None
        if classifier is None
        else classifier.sha256 == contract.source.sha256,
        "precision": contract.precision,
        "provider": study.session.provider,
        "seconds": seconds,
        "images": {
            "drawn": len(study.views), "of": sampling.total, "seed": seed,
            "sources": list(sampling.sources), "notes": list(sampling.notes),
        },
        "maps": list(study.maps),
        **{name: answer.record for name, answer in answers.items()},
        "per_image": _per_image(study, answers),
    }  # fmt: skip
    return Findings(record, study, answers)


def lines(record: Record) -> list[str]:
    """What a report found, a line or several for each question; last what was not measured."""
    said, missing = [], []
    for question in QUESTIONS:
        section = record[question.name]
        if "missing" in section:
            missing.append(f"{question.name}: not measured: {section['missing']}")
        else:
            said += question.lines(section)
    return said + missing


def _study(
    path: Path,
    arguments: Sequence[str],
    watch: Watch,
    classifier: Classifier | None,
    constants: Mapping[str, Any] | None,
    samples: int,
    seed: int,
) -> Study:
    session, scorer = Session(path), Session(path, maps=())
    contract = session.contract
    sampling = sample.draw(arguments, contract, samples, seed)
    source = None
    if classifier is not None:
        source = as_exported(classifier, contract, constants)
    views = sampling.views()
    watch.begin("maps", len(views))
    probability, top, maps, by_class = _explained(session, scorer, sampling, watch.step)
    return Study(
        path, session, scorer, classifier, source, sampling, views, top, probability, maps,
        by_class, seed, watch,
    )  # fmt: skip


def _explained(
    session: Session, scorer: Session, sampling: Sampling, done: Callable[[], None]
) -> tuple[npt.NDArray[Any], Index, Maps, list[dict[str, dict[int, Any]]]]:
    """The top class of each image, its probability and maps, and maps of the true classes."""
    first, top, true = [], [], []
    maps: dict[str, list[Any]] = {}
    for one in sampling.samples:
        view = one.view[None]
        scores = scorer.run(view, np.array([[-1]])).scores
        index = int(scores[0].argmax())
        top.append(index)
        first.append(perturb.probabilities(scores, session.contract)[0, index])
        # Where a true class stands for several of the classifier's, it is the one scoring best.
        right = {key: max(group, key=lambda i: scores[0, i]) for key, group in one.members.items()}
        found = _own(session, session.run(view, np.array([[index, *right.values()]])))
        by_class: dict[str, dict[int, Any]] = {}
        for name, rows in found.items():
            maps.setdefault(name, []).append(rows[0, 0].copy())
            pixels = enlarged(rows[0, 1:], *one.view.shape[:2])
            by_class[name] = dict(zip(right, pixels, strict=True))
        true.append(by_class)
        done()
    stacked = {name: np.stack(each) for name, each in maps.items()}
    return np.array(first), np.array(top, np.int64), stacked, true


def _own(session: Session, outputs: Outputs) -> Maps:
    """The file's maps [N,K,h,w]; of ``gradient`` the saliency."""
    names = [made.name for made in session.contract.maps]
    found: Maps = {name: outputs[name] for name in names if name != "gradient"}
    return found if "gradient" not in names else {"saliency": outputs.saliency, **found}


def _per_image(study: Study, answers: dict[str, Answer]) -> list[Record]:
    """A row for each image: its top class, and what the questions add."""
    rows, labels = [], study.session.contract.labels
    for n, one in enumerate(study.sampling.samples):
        index = int(study.top[n])
        row: Record = {
            "image": one.name, "class": index, "label": None if labels is None else labels[index],
            "probability": number(study.probability[n]),
        }  # fmt: skip
        for answer in answers.values():
            row |= answer.per_image[n] if answer.per_image else {}
        rows.append(row)
    return rows
