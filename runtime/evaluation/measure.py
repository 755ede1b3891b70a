"""Measure a file's boxes and maps on labelled images: one record of plain numbers per image.

An image's top classes and its true classes are explained in one run. Each method then gives a box
per class and a score map per true class; a record keeps what the metrics need of them and no
pixels. Records go into a log, and a run that was killed goes on where the log ends.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import itertools
import json
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal

import numpy as np

from .. import pipeline
from ..arrays import NPY, Floats, Index
from ..boxes.geometry import centred_box
from ..boxes.recipes import Recipe, get_recipe
from ..errors import BacklitError, ImageError
from ..files import NOTHING_READ, file_hash
from ..guard import Guard
from ..images.load import load
from ..images.prepare import prepare
from ..located import boxes_of
from ..maps.classes import ranks
from ..maps.kinds import offers
from ..output.run_log import RunLog
from ..results import Result, Saliency
from ..session import Session
from .datasets import Dataset, Example
from .maps import Record, centred_map, heatmap_paths, measures, save_heatmap, score_map

Baselines = Literal["all", "centred", "none"]

TOP = 5
"""Classes that an image's guesses are taken from (Russakovsky et al. 2015)."""

CENTRED, TEXTBOOK = "centred", "textbook"
_CHUNK = 256


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What is measured, and how.

    Attributes:
        session: an open file.
        dataset: labelled images.
        recipe: how a map becomes a box.
        crops: views whose maps are averaged; None: as many as the recipe wants.
        baselines: ``all`` measures the textbook recipe and the centred box as well; ``centred``
            only the latter.
        batch: views per run, as in `pipeline.saliency_results`.
        runs: batches in the network at once, as there.
        heatmaps: folder for the score maps of the true classes; None writes none.
        guard: what must not be replaced.
    """

    session: Session
    dataset: Dataset
    recipe: Recipe
    crops: int | None = None
    baselines: Baselines = "all"
    batch: int | None = None
    runs: int = 1
    heatmaps: Path | None = None
    guard: Guard = NOTHING_READ

    @property
    def views(self) -> int:
        """Views whose maps are averaged."""
        return self.recipe.crops if self.crops is None else self.crops

    @property
    def methods(self) -> tuple[str, ...]:
        """What is compared: the recipe, and the baselines that it is not itself.

        Without the textbook recipe where the file lacks the map that it starts from.
        """
        others = {"all": (TEXTBOOK, CENTRED), "centred": (CENTRED,), "none": ()}[self.baselines]
        if not offers("saliency", self.session.contract):
            others = tuple(name for name in others if name != TEXTBOOK)
        return self.recipe.name, *(name for name in others if name != self.recipe.name)

    @property
    def top(self) -> int:
        """How many of the best classes are explained."""
        return min(TOP, self.session.contract.score.classes)

    def settings(self) -> Record:
        """What the records depend on; a run with other settings is not gone on with."""
        recipe = self.recipe.settings()
        return {
            "backlit": importlib.metadata.version("backlit"),
            "file_sha256": file_hash(self.session.path),
            "dataset": self.dataset.name,
            "examples_sha256": _examples_hash(self.dataset),
            "recipe": recipe.pop("name"),
            "crops": self.views,
            "recipe_settings": recipe,
            "baselines": self.baselines,
            "provider": self.session.provider,
            "provider_options": self.session.options,
        }


def measure(
    evaluation: Evaluation, examples: Sequence[Example], log: RunLog
) -> Generator[tuple[Example, BacklitError | None], None, None]:
    """Measure the images that the log has no record of, and append their records.

    Args:
        evaluation: what and how.
        examples: the images.
        log: open, with the evaluation's settings.

    Yields:
        Every image that was tried, with the error if it cannot be read; such an image gets no
        record, so that a later run tries it again.

    Raises:
        ModelError: ONNX Runtime fails.
        OutputError: the log or a heatmap cannot be written, or would replace what must stay.
    """
    todo = [
        one
        for one in examples
        if one.name not in log
        or not all(path.exists() for path in heatmap_paths(evaluation.heatmaps, one))
    ]

    for one in todo:
        for path in heatmap_paths(evaluation.heatmaps, one):
            evaluation.guard.check(path, NPY)

    def record(
        pair: tuple[Example, Result[Saliency]],
    ) -> tuple[Example, Record | None, BacklitError | None]:
        example, result = pair
        if result.value is None:
            return example, None, result.error
        try:
            return example, _record(evaluation, example, result.value), None
        except ImageError as error:
            return example, None, error

    with closing(pipeline.after(_explained(evaluation, todo), record)) as records:
        for example, line, error in records:
            if line is not None and example.name not in log:
                log.add(line)
            yield example, error


def class_rows(evaluation: Evaluation, examples: Sequence[Example]) -> Index:
    """The classes to explain: int64 [N, top + true classes], the best first, then the true ones.

    Where a true class stands for several of the classifier's, it is the one that scores best.

    Args:
        evaluation: what and how.
        examples: images with the same number of true classes.
    """
    best = ranks(evaluation.top, evaluation.session.contract.score.classes)[0].tolist()
    rows = []
    for example in examples:
        groups = [evaluation.dataset.members(index) for index in example.boxes]
        if all(len(group) == 1 for group in groups):
            rows.append([*best, *(group[0] for group in groups)])
        else:
            scores = _scores(evaluation.session, example)
            rows.append([*best, *(max(group, key=lambda index: scores[index]) for group in groups)])
    return np.array(rows, np.int64)


def _explained(
    evaluation: Evaluation, examples: Sequence[Example]
) -> Iterator[tuple[Example, Result[Saliency]]]:
    """Maps of the top classes and the true ones, in groups of as many true classes."""
    # Grouped rather than padded: every class has its own backward pass.
    ordered = sorted(examples, key=lambda one: len(one.boxes))
    for _, same in itertools.groupby(ordered, key=lambda one: len(one.boxes)):
        for group in _batched(list(same), _CHUNK):
            results = pipeline.saliency_results(
                evaluation.session,
                [one.path for one in group],
                class_rows(evaluation, group),
                evaluation.views,
                evaluation.batch,
                runs=evaluation.runs,
                map=evaluation.recipe.map,
            )
            with closing(results):
                yield from zip(group, results, strict=True)


def _record(evaluation: Evaluation, example: Example, found: Saliency) -> Record:
    """What the metrics need of one image; boxes in the pixels that the true boxes are given in."""
    size = example.size or (found.width, found.height)
    top = evaluation.top
    # A true class is mostly among the top ones too; every class is cut once.
    _, first, place = np.unique(found.classes, return_index=True, return_inverse=True)
    distinct = dataclasses.replace(
        found,
        classes=found.classes[first],
        labels=None,
        scores=found.scores[first],
        maps=found.maps[first],
    )
    methods = {}
    for name in evaluation.methods:
        if name == CENTRED:
            boxes: list[Sequence[float] | None] = [centred_box(*size)] * len(place)
            maps = [centred_map()] * len(example.boxes)
        else:
            recipe, explained = evaluation.recipe, distinct
            if name != recipe.name:
                recipe = get_recipe(name)
                explained = _single_view(evaluation.session, example, distinct)
            cut = _boxes(explained, recipe, size)
            boxes = [cut[index] for index in place]
            true = explained.maps[place[top:]]
            maps = [score_map(explained.prepared, one, recipe) for one in true]
        if name == evaluation.recipe.name and evaluation.heatmaps is not None:
            for path, one in zip(heatmap_paths(evaluation.heatmaps, example), maps, strict=True):
                save_heatmap(path, one, evaluation.guard)
        methods[name] = {
            "ranked": boxes[:top],
            "true": boxes[top:],
            **measures(maps, list(example.boxes.values()), size),
        }
    classes = found.classes.tolist()
    return {
        "image": example.name,
        "size": list(size),
        "ranked": [_category(evaluation.dataset, example, index) for index in classes[:top]],
        "classes": classes,
        "true": list(example.boxes),
        "boxes": [[list(box) for box in boxes] for boxes in example.boxes.values()],
        "methods": methods,
    }


def _boxes(found: Saliency, recipe: Recipe, size: tuple[int, int]) -> list[Sequence[float] | None]:
    """The boxes that ``localize`` finds, in the pixels of the true boxes."""
    located = boxes_of(found, recipe, masks=False)
    scale = size[0] / found.width, size[1] / found.height
    return [
        None if box is None else [edge * scale[i % 2] for i, edge in enumerate(box)]
        for box in located.boxes
    ]


def _single_view(session: Session, example: Example, found: Saliency) -> Saliency:
    """The same classes, explained by the gradient of the plain image alone."""
    prepared, spec = found.prepared, session.contract.image
    if prepared.frame.shape[:2] != (spec.height, spec.width):  # the ten crops' larger frame
        prepared = prepare(load(example.path), spec)
    outputs = session.run(prepared.views[:1], found.classes[None])
    return dataclasses.replace(found, prepared=prepared, maps=outputs.saliency[0])


def _scores(session: Session, example: Example) -> Floats:
    """Scores of all classes, float32 [classes]; zeros for an image that cannot be read."""
    try:
        prepared = prepare(load(example.path), session.contract.image)
    except ImageError:  # reported when it is measured
        return np.zeros(session.contract.score.classes, np.float32)
    scores: Floats = session.run(prepared.views, np.array([[-1]])).scores[0]
    return scores


def _category(dataset: Dataset, example: Example, index: int) -> int:
    """The true class that a class of the classifier counts as; itself if it is none of them."""
    return next((true for true in example.boxes if index in dataset.members(true)), index)


def _examples_hash(dataset: Dataset) -> str:
    digest = hashlib.sha256()
    for one in dataset.examples:
        truth = [[index, dataset.members(index), boxes] for index, boxes in one.boxes.items()]
        line = [one.name, os.path.abspath(one.path), one.size, truth]
        digest.update(json.dumps(line).encode() + b"\n")
    return digest.hexdigest()


def _batched(items: list[Example], size: int) -> Iterator[list[Example]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
