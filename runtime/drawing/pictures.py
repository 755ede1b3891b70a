"""Pictures of results, at a size that people look at, and result files."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..arrays import Floats, Pixels
from ..errors import OutputError
from ..files import NOTHING_READ, whole_file
from ..guard import Guard
from . import encode
from .display import overlay
from .panels import Heat, Row, row
from .raster import PAPER, contact_sheet, raster
from .seen import Box, Kept, Objects, Seen

if TYPE_CHECKING:
    from ..maps.classmodel import ClassModel

Value = TypeVar("Value")

LONGEST = 640
"""Longest side in pixels that is worth keeping of an image for a picture."""


# A sheet of pictures, in pixels.
_WIDEST, _HIGHEST = 4096, 8192
_SIZE = re.compile('<svg [^>]*width="([0-9]+)" height="([0-9]+)"')


@dataclasses.dataclass(frozen=True)
class Look:
    """How pictures look; as it is, the default.

    Attributes:
        panels: as `render.row` takes them.
        colormaps: of `colormaps.NAMES`, by the map's name; inferno where none is given.
        tops: ends of the scales, by the map's name; each picture's own where none is given.
        vector: SVG instead of PNG.
    """

    panels: tuple[str, ...] | None = None
    colormaps: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tops: Mapping[str, float] = dataclasses.field(default_factory=dict)
    vector: bool = False

    def row(
        self,
        image: Pixels,
        maps: Mapping[str, Floats],
        mask: npt.NDArray[np.bool_] | None,
        box: tuple[int, int, int, int] | None,
        caption: str,
    ) -> Row:
        """`render.row` with this look."""
        heats = {
            title: Heat(values, self.colormaps.get(title, "inferno"), self.tops.get(title))
            for title, values in maps.items()
        }
        # Vectors are enlarged by whoever looks at them.
        return row(image, heats, mask, box, caption, self.panels, 2 if self.vector else 1)


PLAIN = Look()


def saliency_rows(explained: Mapping[str, Kept[Seen]], look: Look = PLAIN) -> list[Row]:
    """Image beside maps, one row for each class.

    Args:
        explained: one image's maps of one or more kinds, by name, of the same classes; the first
            result has kept the image.
        look: panels, colours and scales.

    Raises:
        ValueError: there is no image or no map.
    """
    small, found = (
        _kept(next(iter(explained.values())).picture),
        {title: _kept(one.value) for title, one in explained.items()},
    )
    first = next(iter(found.values()))
    view = first.prepared.at(small.shape[1], small.shape[0])
    labels = first.labels or (None,) * len(first.classes)
    captions = [_caption(*one) for one in zip(first.classes, labels, first.scores, strict=True)]
    return [
        look.row(
            small,
            {title: view.map_to_original(one.maps[index]) for title, one in found.items()},
            None,
            None,
            caption,
        )
        for index, caption in enumerate(captions)
    ]


def localization_rows(result: Kept[Objects], look: Look = PLAIN) -> list[Row]:
    """Image, map, mask and box, one row for each class.

    Args:
        result: the objects in an image, with masks, that has kept the image.
        look: panels, colours and scales.

    Raises:
        ValueError: there is no image or no result.
    """
    small, found, prepared = _kept(result.picture), _kept(result.value), _kept(result.prepared)
    view = prepared.at(small.shape[1], small.shape[0])
    labels = found.labels or (None,) * len(found.classes)
    rows = []
    for index, values in enumerate(found.maps):
        box = _reduced(found.boxes[index], small, found)
        mask = np.asarray(Image.fromarray(found.masks[index]).resize(small.shape[1::-1]))
        caption = _caption(found.classes[index], labels[index], found.scores[index])
        maps = {found.map: view.map_to_original(values)}
        rows.append(look.row(small, maps, mask, box, caption))
    return rows


def overlay_pictures(result: Kept[Objects], colormap: str) -> list[Image.Image]:
    """The map in colour over the image in grey, with the box, one picture for each class.

    Args:
        result: the objects in an image that has kept it; the pictures are of the size kept.
        colormap: of `colormaps.NAMES`.

    Raises:
        ValueError: there is no image or no result.
    """
    small, found, prepared = _kept(result.picture), _kept(result.value), _kept(result.prepared)
    view = prepared.at(small.shape[1], small.shape[0])
    return [
        overlay(small, view.map_to_original(values), _reduced(box, small, found), colormap)
        for values, box in zip(found.maps, found.boxes, strict=True)
    ]


def class_sheet(models: Sequence[ClassModel]) -> Pixels:
    """Class models of one file in rows, each with its class and the score of its picture.

    Returns:
        uint8 [...,...,3].
    """
    return contact_sheet(
        [one.picture for one in models],
        [_caption(one.index, one.label, one.score) for one in models],
    )


def save(path: Path, picture: Pixels, guard: Guard = NOTHING_READ) -> None:
    """Write a picture uint8 [h,w,3] RGB or [h,w,1] grey as PNG, whole or not at all.

    Raises:
        OutputError: it cannot be written, or would replace what must stay.
    """
    with whole_file(path, encode.PNG, guard) as file:
        # Level 6, the default, takes twice the time for 1 % of the size.
        pixels = picture[..., 0] if picture.shape[2] == 1 else picture
        encode.encode(Image.fromarray(pixels), file, "png", compress_level=4)


def save_rows(path: Path, rows: Sequence[Row], guard: Guard = NOTHING_READ) -> None:
    """Write rows below each other as the path's suffix says, ``.png`` or ``.svg``.

    Raises:
        OutputError: it cannot be written, or would replace what must stay.
    """
    if path.suffix != ".svg":
        save(path, raster(rows), guard)
        return
    from .svg import svg

    with whole_file(path, encode.SVG, guard) as file:
        file.write(svg(rows).encode())


def save_sheet(path: Path, pictures: Sequence[Path], guard: Guard = NOTHING_READ) -> None:
    """Put pictures that `save_rows` wrote on one sheet, in order, row by row.

    Args:
        path: of the sheet, ``.png`` or ``.svg`` as the pictures are; with none no sheet is written.
        pictures: their files. Pixels are reduced until the sheet has a sane size.
        guard: what must not be replaced.

    Raises:
        OutputError: a picture cannot be read, or the sheet not be written.
    """
    if not pictures:
        return
    if vector := path.suffix.lower() == ".svg":
        texts = [_read(picture) for picture in pictures]
        sizes = [(int(found[1]), int(found[2])) for found in map(_SIZE.search, texts) if found]
    else:
        sizes = [_opened(picture).size for picture in pictures]
    places, (width, height) = grid(sizes)
    if vector:
        from .svg import document

        parts = [
            text.replace("<svg ", f'<svg x="{x}" y="{y}" ', 1)
            for text, (x, y) in zip(texts, places, strict=True)
        ]
        with whole_file(path, encode.SVG, guard) as file:
            file.write(document(width, height, parts).encode())
        return
    scale = min(1.0, _WIDEST / width, _HIGHEST / height)
    sheet = Image.new("RGB", (round(scale * width), round(scale * height)), PAPER)
    for picture, (x, y) in zip(pictures, places, strict=True):
        image = _opened(picture)  # one at a time, however many there are
        small = max(1, round(scale * image.width)), max(1, round(scale * image.height))
        shown = image.resize(small, Image.Resampling.LANCZOS) if scale < 1 else image
        sheet.paste(shown, (round(scale * x), round(scale * y)))
    save(path, np.asarray(sheet), guard)


def grid(sizes: Sequence[tuple[int, int]]) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """Places for pictures on a sheet that comes near 3:2.

    Args:
        sizes: width and height of each, at least one.

    Returns:
        Left and top of each, and width and height of the sheet.
    """
    wide = max(width for width, _ in sizes)

    def laid(columns: int) -> tuple[list[tuple[int, int]], tuple[int, int]]:
        places, top = [], 0
        for start in range(0, len(sizes), columns):
            part = sizes[start : start + columns]
            places += [(column * wide, top) for column in range(len(part))]
            top += max(height for _, height in part)
        return places, (columns * wide, top)

    sheets = [laid(columns) for columns in range(1, len(sizes) + 1)]
    return min(sheets, key=lambda sheet: abs(math.log(sheet[1][0] / sheet[1][1] / 1.5)))


def _opened(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except OSError as error:
        raise _unreadable(path, error) from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> OutputError:
    return OutputError(f"the picture {path} cannot be read: {error}.", "run again.")


def _kept(value: Value | None) -> Value:
    if value is None:
        raise ValueError("the result has no image, or was an error")
    return value


def _reduced(box: Box | None, small: Pixels, found: Objects) -> Box | None:
    """A box of the original as one of the reduced image."""
    if box is None:
        return None
    across, down = small.shape[1] / found.width, small.shape[0] / found.height
    x0, x1 = round(box[0] * across), round(box[2] * across)
    y0, y1 = round(box[1] * down), round(box[3] * down)
    return x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)


def _caption(index: np.int64 | int, label: str | None, score: np.float32) -> str:
    return f"{label or f'class {index}'}, score {score:.2f}"
