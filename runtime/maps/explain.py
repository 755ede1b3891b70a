"""Class scores and averaged maps of a batch of images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..arrays import Doubles, Floats, Index, Pixels
from ..images import crops as crops_module
from ..images.prepare import Prepared
from .enlarged import enlarged
from .kind import Kind, ManyRuns, OneRun
from .kinds import AnyKind, file_outputs, get_kind
from .points import graph_values

if TYPE_CHECKING:
    from ..backend.outputs import Outputs
    from ..backend.runner import Runner

    Runs = list[tuple[Outputs, Floats | Pixels]]  # what a run returned, and what was run


def explain(
    runner: Runner,
    images: list[Prepared],
    index: Index,
    batch: int,
    kind: AnyKind = "saliency",
) -> list[tuple[Index, Floats, Floats]]:
    """Classes, scores and averaged maps of some images with the same number V of views.

    Args:
        runner: an open file.
        images: N prepared images.
        index: int64 [N,K] class indices or (negative) ranks, of the scores averaged over views.
        batch: views, or points of a method that takes many, per run.
        kind: which map; a coarse one is enlarged to the view's pixels, linear between its cells.

    Returns:
        Per image int64 [K], float32 [K] (mean over the views) and float32 [K,fh,fw].

    Raises:
        OptionError: no kind has that name, or the file lacks what it is made of.
    """
    chosen = get_kind(kind)
    file_outputs(chosen, runner.contract)  # or an error before anything runs
    views = np.concatenate([image.views for image in images])
    count = len(images[0].views)
    mean, target, maps = _explained(runner, views, index, count, batch, chosen)
    found = []
    for row, image in enumerate(images):
        own = enlarged(maps[row * count : (row + 1) * count], *image.views.shape[1:3])
        height, width = image.frame.shape[:2]
        averaged = [crops_module.assemble(own[:, k], height, width) for k in range(own.shape[1])]
        classes = target[row * count].astype(np.int64)
        found.append((classes, mean[row, classes].astype(np.float32), np.stack(averaged)))
    return found


def _explained(
    runner: Runner, views: Pixels, index: Index, count: int, batch: int, kind: Kind
) -> tuple[Doubles, Index, Floats]:
    """Mean scores [N,classes], the classes to explain [V,K], and their maps [V,K,h,w]."""
    if isinstance(kind, ManyRuns):
        # The first run is for the scores alone, and one class is the least it can have.
        runs = _run(runner, views, np.repeat(index[:, :1], count, axis=0), batch)
        mean, target = _targets(runs, index, count)
        return mean, target, kind.of_views(runner, views, target, batch)
    if isinstance(kind, OneRun):
        runs = _run(runner, views, np.repeat(index, count, axis=0), batch)
        mean, target = _targets(runs, index, count)
        return mean, target, _of_targets(runner, views, target, runs, batch, kind)
    raise TypeError(f"{type(kind).__name__} is neither a kind of one run nor of many")


def _targets(runs: Runs, index: Index, count: int) -> tuple[Doubles, Index]:
    """Scores averaged over the views of an image [N,classes], and the classes asked for [V,K].

    Views may rank the classes differently; what counts is the rank of their mean score.
    """
    scores = np.concatenate([outputs.scores for outputs, _ in runs])
    mean = scores.reshape(len(index), count, -1).astype(np.float64).mean(axis=1)
    order = np.argsort(-mean, axis=1, kind="stable")
    by_rank = np.take_along_axis(order, np.clip(-1 - index, 0, order.shape[1] - 1), axis=1)
    return mean, np.repeat(np.where(index < 0, by_rank, index), count, axis=0)


def _of_targets(
    runner: Runner, views: Pixels, target: Index, runs: Runs, batch: int, kind: OneRun
) -> Floats:
    """The maps of the target classes [V,K]: those that were made, and runs for the rest.

    Mostly the views agree on the best classes, or see the same classes in another order.
    """
    classes = np.concatenate([outputs.classes for outputs, _ in runs])
    same = target[:, :, None] == classes[:, None, :]
    maps = np.take_along_axis(_maps(runner, runs, kind), same.argmax(2)[:, :, None, None], axis=1)
    lacks = ~same.any(2)
    for most in sorted(set(lacks.sum(1)) - {0}):  # the views that lack so many classes
        rows = np.flatnonzero(lacks.sum(1) == most)
        places = np.nonzero(lacks[rows])[1].reshape(-1, most)
        wanted = np.take_along_axis(target[rows], places, axis=1)
        more = _run(runner, views[rows], wanted, batch)
        maps[rows[:, None], places] = _maps(runner, more, kind)
    return maps


def _run(runner: Runner, views: Pixels, index: Index, batch: int) -> Runs:
    values = graph_values(runner, views)
    parts = [slice(start, start + batch) for start in range(0, len(views), batch)]
    return [(runner.run(values[part], index[part]), values[part]) for part in parts]


def _maps(runner: Runner, runs: Runs, kind: OneRun) -> Floats:
    return np.concatenate([kind.of_run(runner, *run) for run in runs])
