"""Pictures of results, at a size that people look at, and result files."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from .image import Prepared
from .localize import Localization
from .output import whole_file
from .render import contact_sheet, overlay
from .saliency import Saliency

if TYPE_CHECKING:
    from .classmodel import ClassModel

LONGEST = 640
"""Longest side in pixels that is worth keeping of an image for a picture."""

Pixels = npt.NDArray[np.uint8]


def saliency_sheet(small: Pixels, found: Saliency) -> Pixels:
    """Image beside saliency, one row for each class.

    Args:
        small: uint8 [h,w,3], the image, reduced or not.
        found: its saliency.

    Returns:
        uint8 [...,...,3].
    """
    view = _at(found.prepared, small)
    labels = found.labels or (None,) * len(found.classes)
    captions = [_caption(*one) for one in zip(found.classes, labels, found.scores, strict=True)]
    return _stack(
        [
            overlay(small, view.map_to_original(heat), None, None, caption)
            for heat, caption in zip(found.maps, captions, strict=True)
        ]
    )


def localization_sheet(small: Pixels, found: Localization, prepared: Prepared) -> Pixels:
    """Image, saliency, mask and box, one row for each class.

    Args:
        small: uint8 [h,w,3], the image, reduced or not.
        found: its objects.
        prepared: the frame that the saliency maps belong to.

    Returns:
        uint8 [...,...,3].
    """
    view = _at(prepared, small)
    factor = small.shape[1] / found.width, small.shape[0] / found.height
    rows = []
    for index, heat in enumerate(found.saliency):
        box = found.boxes[index]
        if box is not None:
            x0, x1 = (round(edge * factor[0]) for edge in (box[0], box[2]))
            y0, y1 = (round(edge * factor[1]) for edge in (box[1], box[3]))
            box = x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)
        mask = Image.fromarray(found.masks[index]).resize(small.shape[1::-1])
        caption = _caption(found.classes[index], found.labels[index], found.scores[index])
        rows.append(overlay(small, view.map_to_original(heat), np.asarray(mask), box, caption))
    return _stack(rows)


def class_sheet(models: Sequence[ClassModel]) -> Pixels:
    """Class models of one file in rows, each with its class and the score of its picture.

    Returns:
        uint8 [...,...,3].
    """
    return contact_sheet(
        [one.picture for one in models],
        [_caption(one.index, one.label, one.score) for one in models],
    )


def save(path: Path, picture: Pixels) -> None:
    """Write a picture uint8 [h,w,3] RGB or [h,w,1] grey as PNG, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    with whole_file(path) as file:
        # Level 6, the default, takes twice the time for 1 % of the size.
        pixels = picture[..., 0] if picture.shape[2] == 1 else picture
        Image.fromarray(pixels).save(file, "png", compress_level=4)


def save_maps(path: Path, maps: npt.NDArray[np.float32]) -> None:
    """Write maps float32 [K,h,w] as a NumPy file, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    with whole_file(path) as file:
        np.save(file, maps)


def _caption(index: np.int64 | int, label: str | None, score: np.float32) -> str:
    return f"{label or f'class {index}'}, score {score:.2f}"


def _at(prepared: Prepared, small: Pixels) -> Prepared:
    """The same frame, mapped to the small image instead of the original."""
    height, width = small.shape[:2]
    return dataclasses.replace(
        prepared,
        width=width,
        height=height,
        scale_x=prepared.scale_x * prepared.width / width,
        scale_y=prepared.scale_y * prepared.height / height,
    )


def _stack(rows: Sequence[Pixels]) -> Pixels:
    """Pictures below each other, on white where one is narrower."""
    width = max(row.shape[1] for row in rows)
    padded = [
        np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255)
        for row in rows
    ]
    return np.concatenate(padded)
