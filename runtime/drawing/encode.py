"""Pictures as bytes that say, in the place that the format has for it, that Backlit drew them."""

from __future__ import annotations

import re
from typing import IO, Any

from PIL import ExifTags, Image, PngImagePlugin

from ..guard import Mark

_SOFTWARE = "Software"
_BY = "backlit"
_EXIF: Mark = re.compile(rb"(Exif\0\0|EXIF).{0,64}backlit\0", re.DOTALL)

PNG: Mark = re.compile(rb"tEXtSoftware\0backlit")
SVG: Mark = re.compile(rb"\A<svg [^>]*>\n<desc>Backlit</desc>")
HTML: Mark = re.compile(rb'<meta name="generator" content="Backlit" />')

MARKS: dict[str, Mark] = {
    ".png": PNG, ".jpg": _EXIF, ".jpeg": _EXIF, ".webp": _EXIF, ".svg": SVG,
}  # fmt: skip
"""What a picture of Backlit is known by, by the suffix of its file."""


def encode(picture: Image.Image, file: IO[bytes], kind: str, **options: Any) -> None:
    """Write a picture as ``png``, ``jpeg`` or ``webp``; further options are Pillow's."""
    if kind == "png":
        text = PngImagePlugin.PngInfo()
        text.add_text(_SOFTWARE, _BY)
        picture.save(file, kind, pnginfo=text, **options)
    else:
        about = Image.Exif()
        about[ExifTags.Base.Software] = _BY
        picture.save(file, kind, exif=about, **options)
