"""What a picture shows: an image, its map in colour, a mask, a box, side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ..arrays import Doubles, Floats, Pixels
from . import colormaps

# Every panel has about this area, whatever the image's size and shape, and sides within these.
_AREA = 320 * 320
_LEAST, _MOST = 128, 640

GAP = 8
FONT = 17
SMALL = FONT - 3
STRIP = round(FONT * 1.9)
"""Height of the titles, and of the caption."""

OPAQUE = 0.85
"""Of an overlay where the map is strongest."""


@dataclasses.dataclass(frozen=True, eq=False)
class Heat:
    """A map over the whole image, and how it is coloured.

    Attributes:
        values: float [h,w], any size. NaN and infinity count as 0.
        colormap: one of `colormaps.NAMES`.
        top: magnitude of the scale's end, and then a bar says so; None: the map's own `peak`.
    """

    values: Floats
    colormap: str = "inferno"
    top: float | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Panel:
    """One picture of a row; lines stay apart from pixels, so that they can be vectors.

    Attributes:
        title: above it.
        pixels: uint8 [h,w,3] RGB.
        outlines: closed polygons int32 [n,1,2], x and y of pixels.
        box: x0, y0, x1, y1 in pixels, x1 and y1 exclusive.
        bar: the heat whose scale is shown above the panel.
    """

    title: str
    pixels: Pixels
    outlines: Sequence[npt.NDArray[np.int32]] = ()
    box: tuple[float, float, float, float] | None = None
    bar: Heat | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """Panels of one size side by side, and a caption below.

    Attributes:
        panels: at least one.
        caption: class and score; cut with an ellipsis where the row is too narrow.
        zoom: pixels of a panel for each unit of the page, across and down.
    """

    panels: tuple[Panel, ...]
    caption: str
    zoom: int = 1

    @property
    def panel(self) -> tuple[int, int]:
        """Height and width of a panel on the page."""
        high, wide = self.panels[0].pixels.shape[:2]
        return high // self.zoom, wide // self.zoom

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the row on the page."""
        high, wide = self.panel
        return high + 2 * STRIP, len(self.panels) * (wide + GAP) + GAP

    def left(self, index: int) -> int:
        """Where a panel begins."""
        return GAP + index * (self.panel[1] + GAP)


def peak(values: Floats) -> float:
    """The magnitude that the brightest colour stands for: the 99 % quantile.

    Single spikes thus do not leave the rest black; where more than 99 % is 0, it is the maximum.
    """
    return _peak(np.abs(_finite(values).astype(np.float64)))


def heatmap(values: Floats, colormap: str = "inferno", top: float | None = None) -> Pixels:
    """A map in colour.

    Args:
        values: float [h,w]. NaN and infinity count as 0.
        colormap: one of `colormaps.NAMES`; in inferno 0 is black, then purple, orange, pale yellow.
        top: magnitude that has the last colour, as has what is above; None: the map's `peak`.

    Returns:
        uint8 [h,w,3] RGB.
    """
    return colormaps.colours(shares(values, top), colormap)


def row(
    image: Pixels,
    heats: Mapping[str, Heat],
    mask: npt.NDArray[np.bool_] | None = None,
    box: tuple[float, float, float, float] | None = None,
    caption: str = "",
    names: Sequence[str] | None = None,
    zoom: int = 1,
) -> Row:
    """The panels of an image.

    Args:
        image: uint8 [h,w,3] RGB, or [h,w] or [h,w,1] grey; any size. Small images are enlarged,
            large ones reduced.
        heats: maps by title.
        mask: bool [h,w].
        box: in pixels of the image.
        caption: class and score.
        names: what to draw: ``image``, titles of heats, ``map`` (the first heat), ``overlay`` (that
            heat over the image, see `blended`), ``mask``, ``box``. None: image, heats, the mask if
            there is one, and the box if there is one or a mask; with neither it is left out.
        zoom: pixels for each unit of the page.
    """
    picture = rgb(image)
    height, width = picture.shape[:2]
    high, wide = (side * zoom for side in panel_size(height, width))
    base = resized(picture, high, wide).astype(np.uint8, copy=False)
    if names is None:
        boxed = ["box"] * (mask is not None or box is not None)
        names = ["image", *heats, *["mask"] * (mask is not None), *boxed]

    def draw(name: str) -> Panel:
        if name == "image" or (name == "box" and box is None):
            return Panel("image" if name == "image" else "nothing found", base)
        if name == "box" and box is not None:
            x, y = wide / width, high / height
            return Panel(name, base, box=(box[0] * x, box[1] * y, box[2] * x, box[3] * y))
        if name == "mask" and mask is not None:
            return _masked(base, mask)
        first = next(iter(heats))
        title = first if name in ("map", "overlay") else name
        heat = heats[title]
        # The map is coloured after it is resized: averaged colours are not colours of the scale.
        values = resized(_finite(heat.values), high, wide).astype(np.float32, copy=False)
        bar = None if heat.top is None else heat
        if name == "overlay":
            pixels = blended(base, values, heat.colormap, heat.top)
            return Panel(f"{title} overlay", pixels, bar=bar)
        return Panel(title, heatmap(values, heat.colormap, heat.top), bar=bar)

    return Row(tuple(draw(name) for name in names), caption, zoom)


def blended(
    image: Pixels,
    values: Floats,
    colormap: str = "inferno",
    top: float | None = None,
) -> Pixels:
    """The map over the image in grey, as opaque as it is strong.

    All colour is the map's; where the map says nothing the image is bare.

    Args:
        image: uint8 [h,w,3] RGB.
        values: float [h,w].
        colormap, top: as in `heatmap`.

    Returns:
        uint8 [h,w,3] RGB: ``grey + alpha * (colour - grey)`` with grey the mean of the channels
        and ``alpha = OPAQUE * min(abs(values) / top, 1)``.
    """
    grey = _grey(image)
    parts = shares(values, top)
    alpha = (OPAQUE * np.clip(np.abs(parts), 0, 1))[..., None]
    mixed = grey + alpha * (colormaps.colours(parts, colormap) - grey)
    panel: Pixels = np.rint(mixed).astype(np.uint8)
    return panel


def panel_size(height: int, width: int) -> tuple[int, int]:
    """Height and width of a panel for an image: equal areas, the shape kept where it is sane."""
    scale = (_AREA / (height * width)) ** 0.5
    high, wide = (int(min(max(round(side * scale), _LEAST), _MOST)) for side in (height, width))
    return high, wide


def _finite(values: Floats) -> Floats:
    return np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float32)


def rgb(image: Pixels) -> Pixels:
    """An image [h,w,3], [h,w,1] or [h,w] as [h,w,3]."""
    planes = image[..., None] if image.ndim == 2 else image
    return np.repeat(planes, 3, axis=2) if planes.shape[2] == 1 else planes


def resized(array: npt.NDArray[Any], high: int, wide: int) -> npt.NDArray[Any]:
    """A picture uint8 [h,w,3] or a map float32 [h,w] at another size."""
    smaller = high * wide < array.shape[0] * array.shape[1]
    # Cubic overshoots: sharp in a picture, but in a map it would draw what is not there.
    larger = cv2.INTER_CUBIC if array.dtype == np.uint8 else cv2.INTER_LINEAR
    way = cv2.INTER_AREA if smaller else larger
    return cv2.resize(np.ascontiguousarray(array), (wide, high), interpolation=way)


def _grey(image: Pixels) -> Doubles:
    """The mean of the channels, [h,w,1]; np.mean takes ten times as long over so short an axis."""
    red, green, blue = (image[..., channel : channel + 1] for channel in range(3))
    return (red.astype(np.float64) + green + blue) / 3


def _peak(values: Doubles) -> float:
    return float(np.quantile(values, 0.99)) or float(values.max())


def shares(values: Floats, top: float | None = None) -> Doubles:
    """A map in units of its scale's end; zero all over where that is 0."""
    whole = _finite(values).astype(np.float64)
    if top is None:
        top = _peak(np.abs(whole))
    return whole / top if top > 0 else np.zeros_like(whole)


def _masked(base: Pixels, mask: npt.NDArray[np.bool_]) -> Panel:
    """The image with everything but the mask dim and grey, and the mask's contour."""
    high, wide = base.shape[:2]
    way = cv2.INTER_AREA if mask.size > high * wide else cv2.INTER_LINEAR
    soft = cv2.resize(mask.astype(np.float32), (wide, high), interpolation=way)
    grey = _grey(base)
    dim = 0.3 * (0.35 * base + 0.65 * grey) + 12
    mixed = soft[..., None] * base + (1 - soft[..., None]) * dim
    outlines, _ = cv2.findContours(
        (soft > 0.5).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
    )
    loops = [outline.astype(np.int32, copy=False) for outline in outlines]
    return Panel("mask", np.rint(mixed).astype(np.uint8), loops)
