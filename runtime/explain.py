"""Class scores and averaged maps of a batch of images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from . import crops as crops_module
from .contract import Contract
from .errors import no_map
from .image import Prepared

if TYPE_CHECKING:
    from .session import Outputs, Session

Array = npt.NDArray[np.float32]
Kind = Literal["gradient", "features", "gradcam", "layercam"]
"""Which of a file's maps: ``gradient`` is the paper's saliency, max over channels of its abs."""


def map_name(kind: Kind, contract: Contract) -> str:
    """The output of a file that a kind of map is made of.

    Raises:
        OptionError: the file has none.
    """
    names = [made.name for made in contract.maps]
    name = kind if kind != "gradient" or "saliency" not in names else "saliency"
    if name not in names:
        raise no_map("saliency" if kind == "gradient" else kind, names)
    return name


def explain(
    session: Session,
    images: list[Prepared],
    index: npt.NDArray[np.int64],
    batch: int,
    kind: Kind = "gradient",
) -> list[tuple[npt.NDArray[np.int64], Array, Array]]:
    """Classes, scores and averaged maps of some images with the same number V of views.

    Args:
        session: an open file.
        images: N prepared images.
        index: int64 [N,K] class indices or (negative) ranks, of the scores averaged over views.
        batch: views per run.
        kind: which map; a coarse one is enlarged to the view's pixels, linear between its cells.

    Returns:
        Per image int64 [K], float32 [K] (mean over the views) and float32 [K,fh,fw].

    Raises:
        OptionError: the file has no such map.
    """
    views = np.concatenate([image.views for image in images])
    count = len(images[0].views)
    # Views may rank the classes differently; what counts is the rank of their mean score. Mostly
    # they agree, or see the same classes in another order.
    scores, classes, maps = _run(session, views, np.repeat(index, count, axis=0), batch, kind)
    mean = scores.reshape(len(images), count, -1).astype(np.float64).mean(axis=1)
    order = np.argsort(-mean, axis=1, kind="stable")
    by_rank = np.take_along_axis(order, np.clip(-1 - index, 0, order.shape[1] - 1), axis=1)
    target = np.repeat(np.where(index < 0, by_rank, index), count, axis=0)
    same = target[:, :, None] == classes[:, None, :]
    maps = np.take_along_axis(maps, same.argmax(2)[:, :, None, None], axis=1)
    lacks = ~same.any(2)
    for most in sorted(set(lacks.sum(1)) - {0}):  # the views that lack so many classes
        rows = np.flatnonzero(lacks.sum(1) == most)
        places = np.nonzero(lacks[rows])[1].reshape(-1, most)
        wanted = np.take_along_axis(target[rows], places, axis=1)
        maps[rows[:, None], places] = _run(session, views[rows], wanted, batch, kind)[2]
    found = []
    for row, image in enumerate(images):
        own = _enlarged(maps[row * count : (row + 1) * count], *image.views.shape[1:3])
        height, width = image.frame.shape[:2]
        averaged = [crops_module.assemble(own[:, k], height, width) for k in range(own.shape[1])]
        chosen = target[row * count].astype(np.int64)
        found.append((chosen, mean[row, chosen].astype(np.float32), np.stack(averaged)))
    return found


def _run(
    session: Session, views: npt.NDArray[np.uint8], index: npt.NDArray[np.int64], batch: int,
    kind: Kind,
) -> tuple[Array, npt.NDArray[np.int64], Array]:  # fmt: skip
    parts = [
        session.run(views[start : start + batch], index[start : start + batch])
        for start in range(0, len(views), batch)
    ]
    return (
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.classes for part in parts]),
        np.concatenate([_map(part, kind) for part in parts]),
    )


def _map(outputs: Outputs, kind: Kind) -> Array:
    return outputs.saliency if kind == "gradient" else outputs[kind]


def _enlarged(maps: Array, height: int, width: int) -> Array:
    """[V,K,h,w] as [V,K,height,width]."""
    if maps.shape[2:] == (height, width):
        return maps
    import cv2  # 0.2 s that maps in pixels do without

    large = np.empty((*maps.shape[:2], height, width), np.float32)
    for place in np.ndindex(*maps.shape[:2]):
        cv2.resize(maps[place], (width, height), dst=large[place], interpolation=cv2.INTER_LINEAR)
    return large
