"""What keeps a class model smooth, beyond the paper: shifts, total variation, a Gaussian filter."""

from __future__ import annotations

import numpy as np

from ..arrays import Floats

# Of the length of a colour difference, in pixels of 0..1: total variation has a kink at 0.
_SMOOTH = 0.01


def shifted(planes: Floats, down: int, across: int) -> Floats:
    """[N,C,H,W] shifted by so many pixels, 0 in the gap."""
    if down == across == 0:
        return planes
    high, wide = planes.shape[2:]
    moved = np.zeros_like(planes)
    to_rows, from_rows = _overlap(high, down)
    to_columns, from_columns = _overlap(wide, across)
    moved[:, :, to_rows, to_columns] = planes[:, :, from_rows, from_columns]
    return moved


def _overlap(size: int, shift: int) -> tuple[slice, slice]:
    """Where the values go, and where they come from."""
    shift = min(max(shift, -size), size)
    return slice(max(shift, 0), size + min(shift, 0)), slice(max(-shift, 0), size + min(-shift, 0))


def variation_gradient(image: Floats) -> Floats:
    """Derivative of the total variation of [N,C,H,W], forward differences."""
    dy = np.diff(image, axis=2, append=image[:, :, -1:])
    dx = np.diff(image, axis=3, append=image[..., -1:])
    length = np.sqrt(dx * dx + dy * dy + np.float32(_SMOOTH**2))
    down, across = dy / length, dx / length
    divergence = np.diff(down, axis=2, prepend=0) + np.diff(across, axis=3, prepend=0)
    return np.asarray(-divergence, np.float32)


def blurred(planes: Floats, sigma: float) -> Floats:
    """[N,C,H,W] under a Gaussian of so many pixels of standard deviation."""
    import cv2

    made = np.empty_like(planes)
    for row, column in np.ndindex(planes.shape[:2]):
        made[row, column] = cv2.GaussianBlur(planes[row, column], (0, 0), sigma)
    return made
