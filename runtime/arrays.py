"""Short names for the types of arrays that modules pass to each other. Shapes stand in docstrings.

They are types for readers and for mypy; at run time every array is a plain ``numpy.ndarray``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
"""uint8: pictures [h,w,3] RGB or [h,w,1] grey, views [V,H,W,C], values 0..255."""

Floats = npt.NDArray[np.float32]
"""float32: scores, maps, normalised images; what a file returns."""

Doubles = npt.NDArray[np.float64]
"""float64: sums of many values, and measurements."""

Index = npt.NDArray[np.int64]
"""int64: class indices, or ranks below 0."""

Mask = npt.NDArray[np.bool_]
"""bool [h,w], true inside."""

Array = npt.NDArray[Any]
"""Of any type, which the text says where it matters."""
