"""Class scores and averaged maps of a batch of images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..images import crops as crops_module
from ..images.prepare import Prepared
from . import attribution
from .attribution import Many
from .kinds import Kind, map_name, method

if TYPE_CHECKING:
    from ..backend.outputs import Outputs
    from ..backend.runner import Runner

Array = npt.NDArray[np.float32]


def explain(
    runner: Runner,
    images: list[Prepared],
    index: npt.NDArray[np.int64],
    batch: int,
    kind: Kind = "gradient",
) -> list[tuple[npt.NDArray[np.int64], Array, Array]]:
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
        OptionError: the file has no such map.
    """
    how = method(kind)
    map_name(how, runner.contract)  # or an error before anything runs
    views = np.concatenate([image.views for image in images])
    count = len(images[0].views)
    # Views may rank the classes differently; what counts is the rank of their mean score. Mostly
    # they agree, or see the same classes in another order. Before a method that takes many points
    # this run is for the scores alone, and one class is the least it can have.
    many = isinstance(how, Many)
    asked = np.repeat(index[:, :1] if many else index, count, axis=0)
    scores, classes, maps = _run(runner, views, asked, batch, how)
    mean = scores.reshape(len(images), count, -1).astype(np.float64).mean(axis=1)
    order = np.argsort(-mean, axis=1, kind="stable")
    by_rank = np.take_along_axis(order, np.clip(-1 - index, 0, order.shape[1] - 1), axis=1)
    target = np.repeat(np.where(index < 0, by_rank, index), count, axis=0)
    if isinstance(how, Many):
        maps = attribution.maps(runner, views, target, how, batch)
    else:
        maps = _of_targets(runner, views, target, classes, maps, batch, how)
    found = []
    for row, image in enumerate(images):
        own = enlarged(maps[row * count : (row + 1) * count], *image.views.shape[1:3])
        height, width = image.frame.shape[:2]
        averaged = [crops_module.assemble(own[:, k], height, width) for k in range(own.shape[1])]
        chosen = target[row * count].astype(np.int64)
        found.append((chosen, mean[row, chosen].astype(np.float32), np.stack(averaged)))
    return found


def _of_targets(
    runner: Runner,
    views: npt.NDArray[np.uint8],
    target: npt.NDArray[np.int64],
    classes: npt.NDArray[np.int64],
    maps: Array,
    batch: int,
    kind: Kind,
) -> Array:
    """The maps of the target classes [V,K]: those that were made, and runs for the rest."""
    same = target[:, :, None] == classes[:, None, :]
    maps = np.take_along_axis(maps, same.argmax(2)[:, :, None, None], axis=1)
    lacks = ~same.any(2)
    for most in sorted(set(lacks.sum(1)) - {0}):  # the views that lack so many classes
        rows = np.flatnonzero(lacks.sum(1) == most)
        places = np.nonzero(lacks[rows])[1].reshape(-1, most)
        wanted = np.take_along_axis(target[rows], places, axis=1)
        maps[rows[:, None], places] = _run(runner, views[rows], wanted, batch, kind)[2]
    return maps


def _run(
    runner: Runner, views: npt.NDArray[np.uint8], index: npt.NDArray[np.int64], batch: int,
    kind: Kind,
) -> tuple[Array, npt.NDArray[np.int64], Array]:  # fmt: skip
    """Scores, classes and maps; those of the one-run kinds."""
    values = attribution.graph_values(runner, views)
    parts, maps = [], []
    for start in range(0, len(views), batch):
        part = values[start : start + batch]
        parts.append(runner.run(part, index[start : start + batch]))
        maps.append(_map(runner, parts[-1], part, kind))
    return (
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.classes for part in parts]),
        np.concatenate(maps),
    )


def _map(runner: Runner, outputs: Outputs, values: npt.NDArray[Any], kind: Kind) -> Array:
    if kind == "gradxinput":
        return attribution.gradient_times_input(runner, outputs, values)
    return outputs[kind] if isinstance(kind, str) and kind != "gradient" else outputs.saliency


def enlarged(maps: Array, height: int, width: int) -> Array:
    """Maps [...,h,w] as [...,height,width], linear between their cells."""
    if maps.shape[-2:] == (height, width):
        return maps
    import cv2  # 0.2 s that maps in pixels do without

    large = np.empty((*maps.shape[:-2], height, width), np.float32)
    for place in np.ndindex(*maps.shape[:-2]):
        cv2.resize(maps[place], (width, height), dst=large[place], interpolation=cv2.INTER_LINEAR)
    return large
