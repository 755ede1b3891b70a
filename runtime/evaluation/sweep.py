"""Boxes over all score thresholds: MaxBoxAcc and MaxBoxAccV2, as wsolevaluation has them.

`boxes_in_map` and `box_sweep` measure one image; the other functions make a figure of what all
images gave, one row per image. Boxes are (x0, y0, x1, y1) in pixels, x1 and y1 exclusive.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from ..arrays import Doubles
from .metrics import IOU_THRESHOLDS, Box, box_iou

Sweep = npt.NDArray[np.float32]

SCORE_THRESHOLDS = tuple(np.arange(0, 1, 0.01).tolist())
"""The 100 thresholds of wsolevaluation's evaluation.py (``--cam_curve_interval``, 0.01)."""

_BINARY = cv2.THRESH_BINARY


def boxes_in_map(
    boxes: Collection[Box], size: tuple[int, int], map_size: tuple[int, int]
) -> tuple[Box, ...]:
    """True boxes in the pixels of a map that covers the whole image, as wsolevaluation has them.

    Its ``resize_bbox`` scales the first and the last pixel of a box and cuts off the fractions.

    Args:
        boxes: in pixels of the image.
        size: (width, height) in which the boxes are given.
        map_size: (width, height) of the map.

    Returns:
        The boxes in whole pixels of the map, at least 1x1.
    """

    def scaled(value: float, axis: int) -> int:
        # Not value * (map_size / size): 180 * 224 / 640 is 63, 180 * (224 / 640) is less.
        return math.floor(value * map_size[axis] / size[axis])

    return tuple(
        (
            scaled(x0, 0),
            scaled(y0, 1),
            scaled(max(x1 - 1, x0), 0) + 1,
            scaled(max(y1 - 1, y0), 1) + 1,
        )
        for x0, y0, x1, y1 in boxes
    )


def box_sweep(score_map: npt.NDArray[np.floating], boxes: Collection[Box]) -> tuple[Sweep, Sweep]:
    """What `max_box_acc` and `max_box_acc_v2` need of one image: IoU over score thresholds.

    The same as wsolevaluation's (normalize_scoremap, compute_bboxes_from_scoremaps, BoxEvaluator),
    if the map is 224x224 and the true boxes come from `boxes_in_map`: the map is scaled to 0..1 by
    its own minimum and maximum, then to 8 bits; foreground is what lies above ``int(t * 255)``;
    contours are ``cv2.findContours``'s with ``RETR_TREE``, holes' included; the largest has the
    greatest ``cv2.contourArea``; a contour's box is its bounding rectangle, made one pixel wider
    and higher to the right and below, where the map has room.
    Different: a map that is constant or not finite has no box and IoU 0; there, it gets the pixel
    at the upper left.

    Args:
        score_map: [h,w]. Some milliseconds for 224x224 if it is smooth; a map of thousands of
            specks takes a few tenths of a second.
        boxes: the true boxes in pixels of the map.

    Returns:
        Two arrays float32 [100], over `SCORE_THRESHOLDS`: the best IoU with a true box of the
        largest contour's box, and the best of all contours' boxes.
    """
    values = np.asarray(score_map, np.float64)
    if not boxes or not np.isfinite(values).all() or values.min() == values.max():
        nothing = np.zeros(len(SCORE_THRESHOLDS), np.float32)
        return nothing, nothing.copy()
    values = values - values.min()
    image = (values / values.max() * 255).astype(np.uint8)
    height, width = image.shape
    rectangles: list[Sequence[int]] = []
    starts: list[int] = []
    largest: list[int] = []
    levels = [int(threshold * 255) for threshold in SCORE_THRESHOLDS]
    above = np.bincount(image.reshape(-1), minlength=256)[::-1].cumsum()[::-1]
    distinct, which = np.unique(above[np.array(levels) + 1], return_inverse=True)
    for index in range(len(distinct)):  # levels with as many pixels above have the same pixels
        mask = cv2.threshold(image, levels[int(np.argmax(which == index))], 255, _BINARY)[1]
        contours = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0]
        starts.append(len(rectangles))
        areas = [cv2.contourArea(contour) for contour in contours]
        largest.append(len(rectangles) + areas.index(max(areas)))
        rectangles += [cv2.boundingRect(contour) for contour in contours]
    found = np.array(rectangles, np.float64)
    found[:, 2:] += found[:, :2] + 1
    np.minimum(found, (width, height, width, height), out=found)
    ious = box_iou(found, list(boxes)).max(1).astype(np.float32)
    return ious[largest][which], np.maximum.reduceat(ious, starts)[which]


def score_threshold_curve(sweeps: npt.ArrayLike, iou: float) -> Doubles:
    """Share of images whose box is right, over `SCORE_THRESHOLDS`.

    Args:
        sweeps: [n,T], of `box_sweep`.
        iou: from which a box is right, itself included.

    Returns:
        float64 [T].
    """
    # A float32 IoU is compared with the threshold's float32, or .7 would fall short of .7.
    right = np.asarray(sweeps, np.float32) >= np.float32(iou)
    return right.mean(0) if len(right) else np.full(right.shape[1:], math.nan)


def max_box_acc(sweeps: npt.ArrayLike) -> float:
    """MaxBoxAcc (Choe et al. 2020, section 4.1): accuracy at the best score threshold, IoU 0.5.

    Args:
        sweeps: [n,T], the first array of `box_sweep` for each image.
    """
    return float(score_threshold_curve(sweeps, 0.5).max())


def max_box_acc_v2(sweeps: npt.ArrayLike) -> float:
    """MaxBoxAccV2 (Choe et al. 2020, in wsolevaluation and arXiv 2007.04178).

    The mean over `IOU_THRESHOLDS` of the accuracy at each one's own best score threshold, where
    the box of any contour may hit.

    Args:
        sweeps: [n,T], the second array of `box_sweep` for each image.
    """
    return float(np.mean([score_threshold_curve(sweeps, iou).max() for iou in IOU_THRESHOLDS]))
