"""What a request for boxes is answered: the JSON of ``backlit localize``, and pictures in it."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..drawing.display import encoded
from ..drawing.panels import shares
from ..drawing.pictures import overlay_pictures
from ..output.lines import localization_line

if TYPE_CHECKING:
    from ..arrays import Floats
    from ..results import Localization, Result
    from .uploads import Question

LONGEST = 1024
"""Longest side of an overlay in pixels."""


def answer(result: Result[Localization], question: Question, colormap: str) -> bytes:
    """The objects of one image as JSON.

    Args:
        result: of the pipeline; with the image kept, if the question asks for overlays.
        question: what was asked for.
        colormap: of overlays, one of `colormaps.NAMES`.
    """
    found = result.value
    if found is None:
        raise ValueError("an error has no objects")
    line: dict[str, Any] = localization_line(found)
    if question.map:
        height, width = found.maps.shape[1:]
        line["map_box"] = list(found.prepared.box_to_original((0, 0, width, height)))
        for one, values in zip(line["results"], found.maps, strict=True):
            one["map_png"] = _text(map_picture(values))
    if question.overlay:
        pictures = overlay_pictures(result, colormap)
        for one, picture in zip(line["results"], pictures, strict=True):
            one["overlay_png"] = _text(picture)
    return json.dumps(line).encode()


def map_picture(values: Floats) -> Image.Image:
    """A map float32 [h,w] as greys: 255 is its scale's end, of either sign."""
    greys = np.rint(255 * np.clip(np.abs(shares(values)), 0, 1)).astype(np.uint8)
    return Image.fromarray(greys)


def _text(picture: Image.Image) -> str:
    return base64.b64encode(encoded(picture, "png")).decode()
