"""Multispectral images: any number of bands but the 1 or 3 of a picture, as they are."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageSequence

from ..arrays import Pixels
from ..errors import ImageError
from .crops import resized
from .load import Encoded, Frame, Source, Unreadable, content, describe, fetched, load
from .reading import check_size, decode, image_errors

_PICTURE = (1, 3)


def load_for(source: Source, channels: int) -> Pixels:
    """Decode an image for a file that takes so many channels.

    For 1 and 3 that is `load`. Of other numbers it takes arrays, and the files whose bands Pillow
    has: TIFF with a page for each band, or with so many bands in one (as RGBA has).

    Args:
        source: as for `load`; an array is uint8 [H,W,C].
        channels: C.

    Returns:
        uint8 [h,w,3] RGB for 1 or 3; else [h,w,C].

    Raises:
        ImageError: as for `load`, or it has another number of bands.
    """
    if channels in _PICTURE:
        return load(source)
    where = describe(source)
    with image_errors(where):
        return _load(fetched(source), channels, where)


def _load(source: Source, channels: int, where: str) -> Pixels:
    if isinstance(source, Unreadable):
        raise source.error
    if isinstance(source, Frame):
        source = source.pixels
    if isinstance(source, np.ndarray):
        return _array(source, channels, where)
    if isinstance(source, Image.Image):
        return _bands(source, channels, where)
    if not isinstance(source, str | os.PathLike | bytes | Encoded):
        load(source)  # says what is wrong with it
        raise _other(where, "is a picture", channels)
    with content(source, where) as file, Image.open(file) as image:
        check_size(image, where)
        decode(image, where)
        check_size(image, where)
        return _bands(image, channels, where)


def seen(pixels: Pixels) -> Pixels:
    """What is shown of an image uint8 [h,w,C]: itself, RGB; of bands their mean, [h,w,3]."""
    if pixels.shape[2] in _PICTURE:
        return pixels
    grey = pixels.mean(2).round().astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def resize(
    pixels: Pixels, size: tuple[int, int], box: tuple[int, int, int, int], how: Image.Resampling
) -> Pixels:
    """`crops.resized` of every band of uint8 [h,w,C]."""
    planes = [Image.fromarray(np.ascontiguousarray(pixels[..., c])) for c in range(pixels.shape[2])]
    return np.stack([np.asarray(resized(plane, size, box, how)) for plane in planes], 2)


def _array(array: npt.NDArray[Any], channels: int, where: str) -> Pixels:
    if array.dtype != np.uint8:
        raise ImageError(
            f"{where} has dtype {array.dtype}, not uint8.",
            "pass 0..255 as uint8; of a file made with --input float32, Session.run takes floats.",
        )
    if array.ndim != 3 or array.shape[2] != channels or 0 in array.shape:
        raise _other(where, f"has shape {list(array.shape)}", channels)
    return np.ascontiguousarray(array)


def _bands(image: Image.Image, channels: int, where: str) -> Pixels:
    if len(image.getbands()) == channels and image.mode != "P":
        found = np.asarray(image)
        return _array(found, channels, where)
    pages = getattr(image, "n_frames", 1)
    if pages == channels and image.mode == "L":
        return np.stack([np.asarray(page) for page in ImageSequence.Iterator(image)], 2)
    several = f"{pages} pages of " if pages > 1 else ""
    has = f"{several}{len(image.getbands())} bands ({image.mode})"
    raise _other(where, f"has {has}", channels)


def _other(where: str, has: str, channels: int) -> ImageError:
    return ImageError(
        f"{where} {has}; the file takes {channels} bands.",
        f"pass arrays uint8 [H,W,{channels}] in Python, or a TIFF with a grey page for each band.",
    )


__all__ = ["load_for", "resize", "seen"]
