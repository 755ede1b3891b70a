"""Localisation and classification metrics, each by its paper's definition.

`best_iou` and `pointing_hit` measure one image; the other functions make a figure of
what all images gave, one row per image or per pair of image and class, and are NaN without rows.
Images that a metric does not apply to (no true box, say) have no row in it. Boxes are
(x0, y0, x1, y1) in pixels, x1 and y1 exclusive. Errors and accuracies are shares, 0 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence

import numpy as np
import numpy.typing as npt

from ..arrays import Doubles

Box = tuple[float, float, float, float]

IOU_THRESHOLDS = (0.3, 0.5, 0.7)
"""From where on a box is right in MaxBoxAccV2."""

POINTING_TOLERANCE = 15.0
"""Pixels of the original image (Zhang et al. 2016, section 4.1)."""


def box_iou(a: npt.ArrayLike, b: npt.ArrayLike) -> Doubles:
    """Intersection over union of every box of one list with every box of another.

    Args:
        a: [N,4]; N may be 0.
        b: [M,4]; M may be 0.

    Returns:
        float64 [N,M] in 0..1; 0 where a box has no area.
    """
    first = np.asarray(a, np.float64).reshape(-1, 1, 4)
    second = np.asarray(b, np.float64).reshape(1, -1, 4)
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., 2:], second[..., 2:])
    overlap = np.clip(high - low, 0, None).prod(-1)
    area_a, area_b = (np.clip(x[..., 2:] - x[..., :2], 0, None).prod(-1) for x in (first, second))
    union = area_a + area_b - overlap
    ious: Doubles = np.divide(overlap, union, out=np.zeros_like(union), where=union > 0)
    return ious


def best_iou(box: Sequence[float] | None, boxes: Collection[Box]) -> float:
    """The IoU of a box with the true box it fits best; 0 without a box or without true boxes."""
    if box is None or not boxes:
        return 0.0
    return float(box_iou([box], list(boxes)).max())


def top_k_classification_error(right: npt.ArrayLike, k: int) -> float:
    """Top-k classification error (Russakovsky et al. 2015, ILSVRC, section 4.1).

    Args:
        right: bool [n,K], whether a class is one of the image's true classes, for its K
            top-scoring classes, best first.
        k: how many guesses an image has; fewer classes are all guessed.

    Returns:
        The share of images none of whose first k classes is true.
    """
    return _mean(~np.asarray(right, np.bool_)[:, :k].any(1))


def top_k_localization_error(hits: npt.ArrayLike, k: int) -> float:
    """Top-k localisation error (Russakovsky et al. 2015, ILSVRC, section 4.2).

    Args:
        hits: bool [n,K], whether the class is one of the image's true classes and its box has an
            IoU of at least 0.5 with one of that class's true boxes, for the K top-scoring classes,
            best first.
        k: how many pairs of class and box an image has; fewer are all used.

    Returns:
        The share of images none of whose first k pairs is a hit. An IoU of exactly 0.5 is right, as
        in the challenge's eval_localization_flat.m.
    """
    return _mean(~np.asarray(hits, np.bool_)[:, :k].any(1))


def gt_known_accuracy(ious: npt.ArrayLike, threshold: float = 0.5) -> float:
    """GT-known localisation accuracy (Singh & Lee 2017, "Hide-and-Seek"): the class is given.

    Args:
        ious: [n], `best_iou` of the box found for a true class with that class's true boxes.
        threshold: IoU from which a box is right, itself included.
    """
    return _mean(np.asarray(ious) >= threshold)


def accuracy_curve(ious: npt.ArrayLike, thresholds: Sequence[float]) -> Doubles:
    """`gt_known_accuracy` over IoU thresholds.

    Args:
        ious: [n].
        thresholds: T of them.

    Returns:
        float64 [T].
    """
    return np.array([gt_known_accuracy(ious, threshold) for threshold in thresholds])


def class_means(values: npt.ArrayLike, classes: npt.ArrayLike) -> dict[int, float]:
    """Each class's mean.

    Args:
        values: [n], one per pair of image and class.
        classes: [n], its class index.

    Returns:
        By class, in ascending order; classes without values are not there.
    """
    names, index = np.unique(np.asarray(classes, np.int64), return_inverse=True)
    means = np.bincount(index, np.asarray(values, np.float64)) / np.bincount(index)
    return dict(zip(names.tolist(), means.tolist(), strict=True))


def cor_loc(hits: npt.ArrayLike, classes: npt.ArrayLike) -> float:
    """CorLoc (Deselaers, Alexe & Ferrari 2012, IJCV), the mean over classes.

    A class's CorLoc is the share of the images that show it whose one box for it has an IoU of at
    least 0.5 with one of its objects.

    Args:
        hits: bool [n], one per pair of image and class shown in it.
        classes: [n], the class index.
    """
    means = class_means(hits, classes)
    return math.fsum(means.values()) / len(means) if means else math.nan


def pointing_game(hits: npt.ArrayLike, classes: npt.ArrayLike) -> float:
    """The pointing game's accuracy (Zhang et al. 2016, section 4.1), the mean over classes.

    Args:
        hits: bool [n], `pointing_hit` of every pair of image and class shown in it.
        classes: [n], the class index.
    """
    return cor_loc(hits, classes)


def peak(saliency: npt.NDArray[np.floating]) -> tuple[float, float] | None:
    """The centre (x, y) of a map's highest pixel, in pixels; the first in reading order of equals.

    None for a map that is constant or has values that are not finite.
    """
    if not np.isfinite(saliency).all() or saliency.min() == saliency.max():
        return None
    row, column = divmod(int(saliency.argmax()), saliency.shape[1])
    return column + 0.5, row + 0.5


def pointing_hit(
    point: tuple[float, float] | None,
    boxes: Collection[Box],
    tolerance: float = POINTING_TOLERANCE,
) -> bool:
    """One round of the pointing game (Zhang et al. 2016, section 4.1).

    Args:
        point: (x, y) of the map's `peak` in pixels of the original image, a pixel's centre being
            at .5; None is a miss.
        boxes: the true boxes of the class.
        tolerance: a hit is nearer than this many pixels to the centre of a pixel of a box (so
            TorchRay's pointing_game.py has it).
    """
    if point is None:
        return False
    x, y = point
    return any(
        math.hypot(max(x0 + 0.5 - x, 0.0, x - x1 + 0.5), max(y0 + 0.5 - y, 0.0, y - y1 + 0.5))
        < tolerance
        for x0, y0, x1, y1 in boxes
    )


def bootstrap(
    statistic: Callable[..., float],
    *arrays: npt.ArrayLike,
    seed: int = 0,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Percentile confidence interval by the bootstrap (Efron & Tibshirani 1993, chapter 13).

    Args:
        statistic: of the arrays, such as `max_box_acc`.
        arrays: [n,...], one row per image; rows are drawn together, with replacement.
        seed: of the draws: the same seed, the same interval.
        resamples: how many times n rows are drawn.
        confidence: share of the resamples inside the interval.

    Returns:
        Its lower and upper end; NaN without rows.
    """
    columns = [np.asarray(array) for array in arrays]
    n = len(columns[0])
    if not n:
        return math.nan, math.nan
    generator = np.random.default_rng(seed)
    found = np.empty(resamples)
    for index in range(resamples):
        rows = generator.integers(0, n, n)
        found[index] = statistic(*(column[rows] for column in columns))
    tail = (1 - confidence) / 2
    low, high = np.quantile(found, (tail, 1 - tail))
    return float(low), float(high)


def _mean(values: npt.ArrayLike) -> float:
    array = np.asarray(values)
    return float(array.mean()) if array.size else math.nan
