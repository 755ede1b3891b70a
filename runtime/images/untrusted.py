"""Images that strangers send: which formats are decoded, and how many pixels at most."""

from __future__ import annotations

import io

from PIL import Image, UnidentifiedImageError

from ..errors import ImageError
from .load import Encoded

FORMATS = (
    *("AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "QOI", "TGA", "TIFF"),
    "WEBP",
)
"""The formats of Pillow that strangers may send: none that runs another program, as EPS does."""

MOST_PIXELS = 50_000_000
"""Pixels of an image, unless a service is told otherwise."""


def encoded(data: bytes) -> Encoded:
    """A stranger's bytes as the pipeline takes them.

    Raises:
        ImageError: they are of none of `FORMATS`.
    """
    Image.init()
    known = [name for name in FORMATS if name in Image.OPEN]  # any other one ends the search
    try:
        with Image.open(io.BytesIO(data), formats=known):
            pass
    except UnidentifiedImageError as error:
        raise ImageError(
            "the data is not an image of a format that the service takes.",
            "convert it to JPEG or PNG.",
        ) from error
    except Exception:  # noqa: S110  what is wrong with it, the decoder says
        pass
    return Encoded(data)
