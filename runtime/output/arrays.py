"""Maps and masks as files."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from ..arrays import NPY, Floats, Mask, npy
from ..drawing import encode
from ..files import NOTHING_READ, whole_file
from ..guard import Guard


def save_maps(path: Path, maps: Floats, guard: Guard = NOTHING_READ) -> None:
    """Write maps float32 [K,h,w] as a NumPy file, whole or not at all.

    Raises:
        OutputError: it cannot be written, or would replace what must stay.
    """
    with whole_file(path, NPY, guard) as file:
        file.write(npy(maps))


def save_mask(path: Path, mask: Mask, guard: Guard = NOTHING_READ) -> None:
    """Write a mask bool [h,w] as a PNG of one bit per pixel, 1 (white) inside.

    Raises:
        OutputError: it cannot be written, or would replace what must stay.
    """
    with whole_file(path, encode.PNG, guard) as file:
        encode.encode(Image.fromarray(mask), file, "png")
