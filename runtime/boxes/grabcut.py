"""From a map to a mask: seeds, and the graph cut that grows them along colour edges.

Paper, section 3.2: pixels of high saliency teach a foreground colour model, pixels of low saliency
a background one (Gaussian mixtures), and a graph cut (Boykov & Jolly 2001; GrabCut, Rother 2004)
finds the segmentation that the two models and the image's edges agree on.

A *trimap* is uint8 [h,w] holding OpenCV's four labels: ``cv2.GC_BGD`` and ``cv2.GC_FGD`` are seeds
that never change, ``cv2.GC_PR_BGD`` and ``cv2.GC_PR_FGD`` are the start of what the cut decides.
"""

from __future__ import annotations

import math
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from ..arrays import Floats, Mask, Pixels
from ..maps.evidence import otsu_threshold

Trimap = npt.NDArray[np.uint8]
Middle = Literal["foreground", "background"]

_MIXTURES = 65
"""Numbers OpenCV keeps per colour model: 5 Gaussians of 1 weight, 3 means and 9 covariances."""


def quantile_seeds(
    values: Floats,
    foreground: float = 0.95,
    background: float = 0.30,
    middle: Middle = "background",
) -> Trimap:
    """Seeds by rank, as the paper takes them: a fixed share of the pixels, whatever the object.

    Args:
        values: float32 [h,w].
        foreground: values above this quantile are foreground for certain (paper: 0.95).
        background: values below this quantile are background for certain (paper: 0.30).
        middle: what the pixels between start as.

    Returns:
        Trimap [h,w]. Without any contrast it has no foreground seed. Where ties leave one side
        empty (a map that is mostly zero), that side takes the pixels at its quantile.
    """
    low, high = np.quantile(values, [background, foreground])
    above, below = values > high, values < low
    if not above.any():
        above = (values >= high) & (values > values.min())
    if not below.any():
        below = (values <= low) & ~above
    start = cv2.GC_PR_FGD if middle == "foreground" else cv2.GC_PR_BGD
    trimap = np.full(values.shape, start, np.uint8)
    trimap[below] = cv2.GC_BGD
    trimap[above] = cv2.GC_FGD
    return trimap


def otsu_seeds(values: Floats, foreground: float = 0.5, background: float = 0.8) -> Trimap:
    """Seeds by level around Otsu's threshold: small objects get few seeds, large ones many.

    Args:
        values: float32 [h,w] in 0..1.
        foreground: certain from this share of the way from the threshold up to 1.
        background: certain up to this share of the threshold.

    Returns:
        Trimap [h,w]; the pixels between start on their side of the threshold. Without any contrast
        it has no foreground seed.
    """
    threshold = otsu_threshold(values)
    certain = min(threshold + foreground * (1 - threshold), float(values.max(initial=0.0)))
    trimap = np.full(values.shape, cv2.GC_PR_BGD, np.uint8)
    trimap[values > threshold] = cv2.GC_PR_FGD
    trimap[values <= background * threshold] = cv2.GC_BGD
    trimap[(values >= certain) & (values > threshold)] = cv2.GC_FGD
    return trimap


def cut(frame: Pixels, trimap: Trimap, iterations: int = 1) -> Mask:
    """Segment an image by graph cut.

    Deterministic, also from several threads at once: the mixtures are started by k-means with
    OpenCV's random generator, which is one per thread and is seeded here before every use.

    Args:
        frame: uint8 [h,w,3], or [h,w] or [h,w,1] grey.
        trimap: uint8 [h,w].
        iterations: rounds of GrabCut, each refitting both mixtures to the whole image; 0 is the
            paper's way: the mixtures are fitted to the seeds alone and stay, and one cut is made.

    Returns:
        bool [h,w]. Without seeds on both sides there is nothing to learn colours from: then it is
        the foreground of the trimap itself, seeds and start.
    """
    seeds = (trimap == cv2.GC_FGD, trimap == cv2.GC_BGD)
    # The middle counts when GrabCut fits its mixtures, not when the seeds alone teach them.
    sides = (seeds[0] | (trimap == cv2.GC_PR_FGD), seeds[1] | (trimap == cv2.GC_PR_BGD))
    if not all(side.any() for side in (sides if iterations else seeds)):
        foreground: Mask = sides[0]
        return foreground
    colours = _three_channels(frame)
    labels = trimap.copy()
    models = np.zeros((1, _MIXTURES)), np.zeros((1, _MIXTURES))
    whole = (0, 0, colours.shape[1], colours.shape[0])  # Only read when started from a rectangle.
    cv2.setRNGSeed(0)
    if iterations:
        cv2.grabCut(colours, labels, whole, *models, iterations, cv2.GC_INIT_WITH_MASK)
    else:
        # With no iteration GrabCut only fits the mixtures: here to an image that is all seeds.
        pixels = np.concatenate([colours[seed] for seed in seeds])[None]
        sizes = [int(seed.sum()) for seed in seeds]
        kinds = np.repeat(np.array([cv2.GC_FGD, cv2.GC_BGD], np.uint8), sizes)[None]
        cv2.grabCut(pixels, kinds, whole, *models, 0, cv2.GC_INIT_WITH_MASK)
        cv2.grabCut(colours, labels, whole, *models, 1, cv2.GC_EVAL_FREEZE_MODEL)
    found: Mask = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
    return found


def shrink(frame: Pixels, values: Floats, side: int | None) -> tuple[Pixels, Floats]:
    """Frame and map with a longer side of at most ``side`` pixels, averaged by area.

    Args:
        frame: uint8 [h,w,3].
        values: float32 [h,w].
        side: pixels; None leaves both as they are.

    Returns:
        uint8 [a,b,3] and float32 [a,b].
    """
    height, width = values.shape
    if side is None or side >= max(height, width):
        return frame, values
    scale = side / max(height, width)
    size = max(1, math.floor(width * scale + 0.5)), max(1, math.floor(height * scale + 0.5))
    small = cv2.resize(_three_channels(frame), size, interpolation=cv2.INTER_AREA)
    coarse = cv2.resize(values, size, interpolation=cv2.INTER_AREA)
    return small.astype(np.uint8, copy=False), coarse.astype(np.float32, copy=False)


def enlarge(mask: Mask, height: int, width: int) -> Mask:
    """A mask at another size, bool [height,width]: linear between its pixels, cut at one half."""
    if mask.shape == (height, width):
        return mask
    soft = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    large: Mask = soft > 0.5
    return large


def _three_channels(frame: Pixels) -> Pixels:
    grey = frame[..., None] if frame.ndim == 2 else frame
    if grey.shape[2] == 1:
        grey = np.repeat(grey, 3, axis=2)
    return np.ascontiguousarray(grey)
