"""How alike two maps are: rank correlation, structural similarity, overlap of the highest tenth.

The measures of Adebayo et al. 2018 (arXiv 1810.03292, section 4), in NumPy and OpenCV.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from ...runtime.arrays import Doubles

METRICS = ("spearman", "ssim", "top")
"""Rank correlation, structural similarity, overlap of the highest tenth: 1 for equal maps."""

TOP = 0.1
_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2


class Reference:
    """A map that others are compared with; what the comparisons share is computed once."""

    def __init__(self, values: npt.NDArray[np.floating]) -> None:
        """Begin with the map, [h,w]."""
        self._flat = is_flat(values)
        self._ranks = _centred(ranks(values))
        self._scaled = scaled(values)
        self._top = np.zeros(values.size, np.bool_)
        self._top[highest(values)] = True

    def similarity(self, values: npt.NDArray[np.floating]) -> dict[str, float]:
        """The `METRICS` of another map [h,w]; all NaN where one of the two is flat."""
        if self._flat or is_flat(values):
            return dict.fromkeys(METRICS, math.nan)
        other = _centred(ranks(values))
        return {
            "spearman": float((self._ranks * other).sum()),
            "ssim": ssim(self._scaled, scaled(values)),
            "top": float(self._top[highest(values)].mean()),
        }


def is_flat(values: npt.NDArray[np.floating]) -> bool:
    """Whether a map says nothing: one value everywhere, or not a number."""
    return not bool(np.isfinite(values).all() and values.min() < values.max())


def ranks(values: npt.NDArray[np.floating]) -> Doubles:
    """Ranks [h*w], equals at their mean rank, as Spearman's correlation wants them."""
    _, place, count = np.unique(values.reshape(-1), return_inverse=True, return_counts=True)
    ends = np.cumsum(count)
    found: Doubles = (ends - (count - 1) / 2)[place.reshape(-1)]
    return found


def scaled(values: npt.NDArray[np.floating]) -> Doubles:
    """A map as it is looked at: from 0, with its 99 % quantile at 1 and all above it too."""
    above = np.nan_to_num(values.astype(np.float64))
    above = above - above.min()
    top = float(np.quantile(above, 0.99)) or float(above.max()) or 1.0
    shown: Doubles = np.clip(above / top, 0, 1)
    return shown


def ssim(a: Doubles, b: Doubles) -> float:
    """Mean structural similarity (Wang et al. 2004, IEEE TIP 13(4), equation 13) of two maps.

    Args:
        a, b: float64 [h,w] in 0..1. The Gaussian window is theirs, 11 pixels of sigma 1.5, with the
            borders mirrored; no larger than a coarse map.
    """
    side = min(_WINDOW, *(n if n % 2 else n - 1 for n in a.shape))

    def mean(values: Doubles) -> Doubles:
        return np.asarray(cv2.GaussianBlur(values, (side, side), _SIGMA), np.float64)

    mean_a, mean_b = mean(a), mean(b)
    variance_a, variance_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    covariance = mean(a * b) - mean_a * mean_b
    alike = (2 * mean_a * mean_b + _C1) * (2 * covariance + _C2)
    whole = (mean_a**2 + mean_b**2 + _C1) * (variance_a + variance_b + _C2)
    return float((alike / whole).mean())


def highest(values: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
    """Places [k] of the highest tenth of a map's pixels, of equals those first in reading order."""
    rows = np.nan_to_num(values.reshape(-1))
    return np.argsort(-rows, kind="stable")[: max(1, round(TOP * rows.size))]


def _centred(values: Doubles) -> Doubles:
    """Values with mean 0 and length 1; zeros of a flat map."""
    moved = values - values.mean()
    unit: Doubles = moved / (float(np.linalg.norm(moved)) or 1.0)
    return unit
