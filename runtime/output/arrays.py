"""Maps and masks as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ..arrays import Floats, Mask
from ..files import whole_file


def save_maps(path: Path, maps: Floats) -> None:
    """Write maps float32 [K,h,w] as a NumPy file, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    with whole_file(path) as file:
        np.save(file, maps)


def save_mask(path: Path, mask: Mask) -> None:
    """Write a mask bool [h,w] as a PNG of one bit per pixel, 1 (white) inside.

    Raises:
        OutputError: it cannot be written.
    """
    with whole_file(path) as file:
        Image.fromarray(mask).save(file, "png")
