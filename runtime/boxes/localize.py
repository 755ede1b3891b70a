"""Object boxes from maps (paper, section 3.2).

A map becomes evidence (compressed, blurred), evidence becomes seeds, seeds and the image's colours
become a mask by graph cut, and the mask's largest connected component gives the box. How exactly
is a `Recipe`; `RECIPES` holds what measures best on real photos under ``default``, the paper's own
under ``paper``, and two to compare with.
"""

from __future__ import annotations

import cv2
import numpy as np

from ..arrays import Floats, Mask, Pixels
from ..errors import OptionError
from ..maps.evidence import otsu_threshold
from . import grabcut
from .geometry import Box, mask_box
from .recipes import Recipe


def localize_maps(frame: Pixels, maps: Floats, recipe: Recipe) -> list[tuple[Box | None, Mask]]:
    """Find one object per map of an image.

    Args:
        frame: uint8 [fh,fw,3] RGB, or [fh,fw,1] or [fh,fw] grey: the pixels the classifier saw.
        maps: float32 [K,fh,fw]. NaN and infinity count as no evidence.
        recipe: how.

    Returns:
        K pairs of the box in pixels of the frame and the mask bool [fh,fw], one connected
        component. A map without contrast (constant, all zero) has no box and an empty mask.

    Raises:
        OptionError: frame and maps differ in size.
    """
    if maps.ndim != 3 or frame.ndim not in (2, 3) or maps.shape[1:] != frame.shape[:2]:
        raise OptionError(
            f"maps of shape {list(maps.shape)} do not lie over a frame of {list(frame.shape)}.",
            "give maps [K,fh,fw] and the frame [fh,fw,3] they were computed on.",
        )
    masks = [largest_component(_segment(frame, values, recipe)) for values in maps]
    return [(mask_box(mask), mask) for mask in masks]


def largest_component(mask: Mask) -> Mask:
    """The largest 8-connected component of a mask, bool [h,w]; the first of equals."""
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=8
    )
    if count < 2:
        return np.zeros(mask.shape, np.bool_)
    largest: Mask = labels == 1 + int(statistics[1:, cv2.CC_STAT_AREA].argmax())
    return largest


def _segment(frame: Pixels, values: Floats, recipe: Recipe) -> Mask:
    """The mask before its largest component is taken, bool [fh,fw]."""
    evidence = recipe.evidence(values)
    if not evidence.any():
        return np.zeros(evidence.shape, np.bool_)
    if recipe.engine == "threshold":
        above: Mask = evidence > otsu_threshold(evidence)
        return above
    small, coarse = grabcut.shrink(frame, evidence, recipe.side)
    if recipe.seeds == "otsu":
        trimap = grabcut.otsu_seeds(coarse, recipe.foreground, recipe.background)
    else:
        trimap = grabcut.quantile_seeds(coarse, recipe.foreground, recipe.background, recipe.middle)
    return grabcut.enlarge(grabcut.cut(small, trimap, recipe.iterations), *evidence.shape)
