"""Boxes and masks: what they are, and how they compare."""

from __future__ import annotations

import numpy as np

from ..arrays import Mask
from ..errors import OptionError

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels; x1 and y1 exclusive."""


def mask_box(mask: Mask) -> Box | None:
    """The tightest box around the true pixels of a mask [h,w]; None if there are none."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def iou(a: Box | None, b: Box | None) -> float:
    """Intersection over union of two boxes, 0..1; 0 if either is None or has no area."""
    if a is None or b is None:
        return 0.0
    overlap = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap
    return overlap / both if overlap > 0 else 0.0


def centred_box(width: int, height: int, fraction: float = 0.8) -> Box:
    """The box that needs no classifier, to measure others by: ``fraction`` of each side, centred.

    Raises:
        OptionError: fraction is not in (0, 1].
    """
    if not 0 < fraction <= 1:
        raise OptionError(f"fraction={fraction} is not a share of the side.", "use 0 < f <= 1.")
    wide, high = max(1, round(width * fraction)), max(1, round(height * fraction))
    x0, y0 = (width - wide) // 2, (height - high) // 2
    return x0, y0, x0 + wide, y0 + high
