"""A map made fit for thresholds, and the threshold that parts it best."""

from __future__ import annotations

import cv2
import numpy as np

from ..arrays import Floats


def evidence(values: Floats, power: float = 1.0, smoothing: float = 0.0) -> Floats:
    """A map made fit for thresholds.

    The gradient of a classifier is a spray of isolated spikes. A power below 1 keeps a few spikes
    from deciding; a Gaussian blur joins what lies together. Outside the image there is no evidence
    (zeros), which also tempers the spikes that padded convolutions leave along the border.

    Args:
        values: float [h,w], any scale; NaN and infinity count as 0, negative values by magnitude.
        power: exponent applied after scaling to 0..1.
        smoothing: standard deviation of the blur as a share of the height and of the width; 0 for
            none.

    Returns:
        float32 [h,w] in 0..1: minimum 0 and maximum 1, or all zero where the map is constant.
    """
    strength = np.abs(np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float64))
    # A constant map says nothing; scaled and blurred it would become a blob in the middle.
    if strength.size == 0 or strength.max() == strength.min():
        return np.zeros(strength.shape, np.float32)
    scaled = ((strength / strength.max()) ** power).astype(np.float32)
    height, width = scaled.shape
    if smoothing > 0:
        scaled = cv2.GaussianBlur(
            scaled,
            (0, 0),
            sigmaX=smoothing * width,
            sigmaY=smoothing * height,
            borderType=cv2.BORDER_CONSTANT,
        )
    low, high = float(scaled.min()), float(scaled.max())
    if not high > low:
        return np.zeros_like(scaled)
    stretched: Floats = ((scaled - low) / (high - low)).astype(np.float32)
    return stretched


def otsu_threshold(values: Floats) -> float:
    """Otsu's threshold (1979): the split of the histogram into the two most distinct halves.

    Args:
        values: float32 [h,w] in 0..1, read in 256 steps.

    Returns:
        The threshold, 0..1: values above it are the upper half.
    """
    steps = np.round(values * 255).astype(np.uint8)
    threshold, _ = cv2.threshold(steps, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return float(threshold) / 255
