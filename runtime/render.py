"""Pictures for people: where the classifier looked, beside what was found."""

from __future__ import annotations

import bisect
import functools
import math
import unicodedata
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from .localize import Box

Pixels = npt.NDArray[np.uint8]

# Every panel has about this area, whatever the image's size and shape, and sides within these.
_AREA = 320 * 320
_LEAST, _MOST = 128, 640
_GAP = 8
# Sheets of very many pictures get smaller ones.
_WIDEST = 4096
_FONT = 17

_PLAIN = {"ß": "ss", "ø": "o", "æ": "ae", "\N{MULTIPLICATION SIGN}": "x"} | dict.fromkeys(
    "\N{EN DASH}\N{EM DASH}\N{MINUS SIGN}", "-"
)
"""Stand-ins for letters that have no accent to lose."""

_PAPER = (250, 250, 250)
_INK = (28, 28, 30)
_FAINT = (110, 110, 116)
_EDGE = (205, 205, 208)
BRIGHT = (255, 214, 10)
_DARK = (16, 16, 16)


def heatmap(saliency: npt.NDArray[np.float32]) -> Pixels:
    """A saliency map in colour: black, purple, orange, pale yellow (perceptually even).

    Args:
        saliency: float [h,w]. 0 is black and the 99 % quantile the brightest, so that single
            spikes do not leave the rest black. NaN and infinity count as 0.

    Returns:
        uint8 [h,w,3] RGB.
    """
    values = np.abs(np.nan_to_num(saliency, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float64))
    top = float(np.quantile(values, 0.99)) or float(values.max())
    levels = np.round(255 * np.clip(values / top, 0, 1) if top > 0 else values).astype(np.uint8)
    colours = cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)
    return cv2.cvtColor(colours, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def overlay(
    image: Pixels,
    saliency: npt.NDArray[np.float32],
    mask: npt.NDArray[np.bool_] | None,
    box: Box | None,
    caption: str,
) -> Pixels:
    """One row: image, saliency, mask (if given), box (if any); titles above, caption below.

    Args:
        image: uint8 [h,w,3] RGB, or [h,w] or [h,w,1] grey; any size. Small images are enlarged,
            large ones reduced.
        saliency: float [fh,fw], the map over the whole image, of any size.
        mask: bool [h,w]; None leaves its panel out.
        box: in pixels of the image; with a mask but without a box the panel says so, without both
            it is left out.
        caption: class and score; cut with an ellipsis where the row is too narrow.

    Returns:
        uint8 [H2,W2,3] RGB.
    """
    picture = _rgb(image)
    height, width = picture.shape[:2]
    high, wide = panel_size(height, width)
    base = resized(picture, high, wide).astype(np.uint8, copy=False)
    # The map is coloured after it is resized: averaged colours are not colours of the scale.
    heat = heatmap(resized(_finite(saliency), high, wide).astype(np.float32, copy=False))
    panels = [("image", base), ("saliency", heat)]
    if mask is not None:
        panels.append(("mask", _masked(base, mask)))
    if box is not None:
        panels.append(("box", _boxed(base, box, wide / width, high / height)))
    elif mask is not None:
        panels.append(("nothing found", base))
    row_width = len(panels) * wide + (len(panels) + 1) * _GAP
    strip = round(_FONT * 1.9)
    sheet = Image.new("RGB", (row_width, 2 * strip + high), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for index, (title, panel) in enumerate(panels):
        left = _GAP + index * (wide + _GAP)
        pen.text((left, strip / 2), title, fill=_FAINT, font=_font(_FONT - 3), anchor="lm")
        # A hairline, or a white picture has no edge on the sheet.
        pen.rectangle((left - 1, strip - 1, left + wide, strip + high), outline=_EDGE)
        sheet.paste(Image.fromarray(panel), (left, strip))
    text = shorten(caption, row_width - 2 * _GAP)
    pen.text((_GAP, strip + high + strip / 2), text, fill=_INK, font=_font(_FONT), anchor="lm")
    return np.asarray(sheet)


def contact_sheet(pictures: Sequence[Pixels], captions: Sequence[str]) -> Pixels:
    """Pictures of one size in rows, each above its caption.

    Args:
        pictures: uint8 [h,w,3] RGB, or [h,w,1] grey, at least one. Small ones are enlarged.
        captions: one each; cut with an ellipsis where the picture is too narrow.

    Returns:
        uint8 [H2,W2,3] RGB.
    """
    columns = _columns(len(pictures))
    high, wide = panel_size(*pictures[0].shape[:2])
    scale = min(1.0, _WIDEST / (columns * wide))
    high, wide = max(1, round(high * scale)), max(1, round(wide * scale))
    strip = round(_FONT * 1.9)
    rows = -(-len(pictures) // columns)
    size = columns * (wide + _GAP) + _GAP, rows * (high + strip) + _GAP
    sheet = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(sheet)
    for number, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        row, column = divmod(number, columns)
        left, top = _GAP + column * (wide + _GAP), _GAP + row * (high + strip)
        panel = resized(_rgb(picture), high, wide).astype(np.uint8, copy=False)
        pen.rectangle((left - 1, top - 1, left + wide, top + high), outline=_EDGE)
        sheet.paste(Image.fromarray(panel), (left, top))
        text = shorten(caption, wide)
        pen.text((left, top + high + strip / 2), text, fill=_INK, font=_font(_FONT), anchor="lm")
    return np.asarray(sheet)


def _columns(count: int) -> int:
    """At least as many columns as rows, and full rows if some sane number gives them."""
    least = math.isqrt(count - 1) + 1
    whole = (columns for columns in range(least, 2 * least) if count % columns == 0)
    return next(whole, least)


def panel_size(height: int, width: int) -> tuple[int, int]:
    """Height and width of a panel for an image: equal areas, the shape kept where it is sane."""
    scale = (_AREA / (height * width)) ** 0.5
    high, wide = (int(min(max(round(side * scale), _LEAST), _MOST)) for side in (height, width))
    return high, wide


def shorten(text: str, width: float, size: int = _FONT) -> str:
    """The text on one line, cut with an ellipsis to at most ``width`` pixels.

    Letters that the font lacks lose their accents, or become question marks.
    """
    font = _font(size)
    # No letter is narrower than a pixel: what lies beyond is not worth measuring.
    composed = unicodedata.normalize("NFC", " ".join(text.split()))
    line = "".join(_drawable(letter, size) for letter in composed[: int(width) + 1])
    if len(composed) <= int(width) + 1 and font.getlength(line) <= width:
        return line

    def length(keep: int) -> float:
        return font.getlength(line[:keep].rstrip() + "…")

    keep = bisect.bisect_right(range(len(line)), width, key=length) - 1
    return line[: max(keep, 0)].rstrip() + "…"


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


@functools.lru_cache(maxsize=4096)
def _drawable(letter: str, size: int) -> str:
    """The letter if the font has it, else without its accent, else a question mark."""
    if letter.isascii() or letter.isspace():
        return letter
    font = _font(size)
    absent = bytes(font.getmask("\U0010fffe"))
    if bytes(font.getmask(letter)) != absent:
        return letter
    plain = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    return plain or _PLAIN.get(letter, "?")


def _finite(saliency: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.nan_to_num(saliency, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float32)


def _rgb(image: Pixels) -> Pixels:
    planes = image[..., None] if image.ndim == 2 else image
    return np.repeat(planes, 3, axis=2) if planes.shape[2] == 1 else planes


def resized(array: npt.NDArray[Any], high: int, wide: int) -> npt.NDArray[Any]:
    """A picture uint8 [h,w,3] or a map float32 [h,w] at another size."""
    smaller = high * wide < array.shape[0] * array.shape[1]
    # Cubic overshoots: sharp in a picture, but in a map it would draw saliency that is not there.
    larger = cv2.INTER_CUBIC if array.dtype == np.uint8 else cv2.INTER_LINEAR
    way = cv2.INTER_AREA if smaller else larger
    return cv2.resize(np.ascontiguousarray(array), (wide, high), interpolation=way)


def _masked(base: Pixels, mask: npt.NDArray[np.bool_]) -> Pixels:
    """The image with everything but the mask dim and grey, and the mask's contour."""
    high, wide = base.shape[:2]
    way = cv2.INTER_AREA if mask.size > high * wide else cv2.INTER_LINEAR
    soft = cv2.resize(mask.astype(np.float32), (wide, high), interpolation=way)
    grey = base.mean(axis=2, keepdims=True)
    dim = 0.3 * (0.35 * base + 0.65 * grey) + 12
    mixed = soft[..., None] * base + (1 - soft[..., None]) * dim
    panel = np.ascontiguousarray(np.rint(mixed).astype(np.uint8))
    contours, _ = cv2.findContours(
        (soft > 0.5).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
    )
    cv2.drawContours(panel, contours, -1, _DARK, 4, cv2.LINE_AA)
    cv2.drawContours(panel, contours, -1, BRIGHT, 2, cv2.LINE_AA)
    return panel


def _boxed(base: Pixels, box: Box, scale_x: float, scale_y: float) -> Pixels:
    """The image with the box."""
    panel = Image.fromarray(base)
    x0, y0, x1, y1 = box
    scaled = x0 * scale_x, y0 * scale_y, x1 * scale_x, y1 * scale_y
    rectangle(ImageDraw.Draw(panel), scaled, panel.size, BRIGHT)
    return np.asarray(panel)


def rectangle(
    pen: ImageDraw.ImageDraw,
    box: Sequence[float],
    size: tuple[int, int],
    colour: tuple[int, int, int],
    dash: int = 0,
) -> None:
    """Draw a box just inside its edges; a bright line inside a dark one is seen on any picture.

    Args:
        pen: of the picture.
        box: x0, y0, x1, y1 in its pixels, x1 and y1 exclusive.
        size: width and height of the picture, which the box is kept within.
        colour: of the bright line.
        dash: length of its dashes in pixels; 0 draws it whole.
    """
    # Inclusive for Pillow, inside the picture, and never turned inside out by rounding.
    x0, y0 = (min(max(round(edge), 0), side - 1) for edge, side in zip(box[:2], size, strict=True))
    x1 = min(max(round(box[2]) - 1, x0), size[0] - 1)
    y1 = min(max(round(box[3]) - 1, y0), size[1] - 1)
    pen.rectangle((x0, y0, x1, y1), outline=_DARK, width=5)
    if min(x1 - x0, y1 - y0) < 4:
        return
    x0, y0, x1, y1 = x0 + 1, y0 + 1, x1 - 1, y1 - 1
    if not dash:
        pen.rectangle((x0, y0, x1, y1), outline=colour, width=3)
        return
    for start in range(x0, x1, 2 * dash):
        end = min(start + dash, x1)
        pen.rectangle((start, y0, end, y0 + 2), fill=colour)
        pen.rectangle((start, y1 - 2, end, y1), fill=colour)
    for start in range(y0, y1, 2 * dash):
        end = min(start + dash, y1)
        pen.rectangle((x0, start, x0 + 2, end), fill=colour)
        pen.rectangle((x1 - 2, start, x1, end), fill=colour)
