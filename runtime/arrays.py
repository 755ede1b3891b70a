"""Short names for the types of arrays that modules pass to each other, and maps as NumPy files.

Shapes stand in docstrings. They are types for readers and for mypy; at run time every array is a
plain ``numpy.ndarray``.
"""

from __future__ import annotations

import re
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

_HEADER = 256

NPY = re.compile(rb"\A\x93NUMPY\x01\x00\xf6\x00\{'descr': '<f4', [^\n]+ {100}\n")
"""What a NumPy file of Backlit is known by: its header is of 256 bytes, NumPy's own is of 128.

The format (NEP 1) leaves nothing else open to a writer but how many spaces end the header.
"""


def npy(values: Floats) -> bytes:
    """An array float32 as a NumPy file of version 1.0, which is known to be Backlit's."""
    about = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {values.shape}, }}"
    header = about.ljust(_HEADER - 11).encode() + b"\n"
    data = np.ascontiguousarray(values, "<f4").tobytes()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data
