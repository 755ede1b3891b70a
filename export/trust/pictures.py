"""Maps over a sample's picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ...runtime.drawing.panels import blended, resized
from .sample import Sample


def overlay(one: Sample, values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """A map over the image, in the image's own shape: uint8 [h,w,3]."""
    return blended(one.picture, placed(one, values))


def placed(one: Sample, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """A map in the shape of the sample's picture: float32 [h,w]."""
    high, wide = one.picture.shape[:2]
    frame = resized(np.asarray(values, np.float32), *one.view.shape[:2])
    return resized(one.prepared.map_to_original(frame), high, wide)
