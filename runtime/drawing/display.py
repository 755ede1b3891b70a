"""Results as pictures for a person: the map over the image, and what a notebook shows."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from ..arrays import Floats, Pixels
from .encode import encode
from .panels import blended, peak
from .raster import BRIGHT, raster, rectangle

if TYPE_CHECKING:
    from .panels import Row
    from .seen import Box

_USUAL = 640
"""Longest side of a picture whose lines have the usual width, in pixels."""
_STRIP = 64
"""Rows that are blended at once; what fits the cache takes a quarter of the time."""


def overlay(
    image: Pixels,
    values: Floats,
    box: Box | None = None,
    colormap: str = "inferno",
) -> Image.Image:
    """A map in colour over the image in grey, with what was found in it.

    Args:
        image: uint8 [h,w,3] RGB.
        values: float32 [h,w], the map at the image's size.
        box: x0, y0, x1, y1 in pixels of the image, x1 and y1 exclusive.
        colormap: one of `colormaps.NAMES`.

    Raises:
        OptionError: there is no such colour map.
    """
    # The scale's end from a part of a large map, and all else in strips: seconds, with a photo.
    step = max(1, max(image.shape[:2]) // _USUAL)
    top = peak(values[::step, ::step]) or peak(values)
    pixels = np.empty_like(image)
    for start in range(0, len(image), _STRIP):
        rows = slice(start, start + _STRIP)
        pixels[rows] = blended(image[rows], values[rows], colormap, top)
    thick = max(1, round(max(image.shape[:2]) / _USUAL))
    picture = Image.fromarray(pixels)
    if box is not None:
        rectangle(ImageDraw.Draw(picture), box, picture.size, BRIGHT, thick=thick)
    return picture


def drawn(rows: Sequence[Row]) -> Image.Image:
    """Rows below each other as a Pillow image."""
    return Image.fromarray(raster(rows))


def encoded(picture: Image.Image, kind: str) -> bytes:
    """A picture as the bytes of a file, ``png``, ``jpeg`` or ``webp``."""
    file = io.BytesIO()
    # Full colour resolution: maps are thin and coloured.
    options = {"jpeg": {"quality": 90, "subsampling": 0}, "png": {"compress_level": 4}}
    encode(picture, file, kind, **options.get(kind, {}))
    return file.getvalue()
