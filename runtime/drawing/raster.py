"""Pictures for people: where the classifier looked, beside what was found."""

from __future__ import annotations

import bisect
import dataclasses
import functools
import math
import unicodedata
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..arrays import Pixels
from . import colormaps
from .panels import FONT, GAP, SMALL, STRIP, Heat, Panel, Row, panel_size, resized, rgb

# Sheets of very many pictures get smaller ones.
_WIDEST = 4096
BAR = 9

_PLAIN = {"ß": "ss", "ø": "o", "æ": "ae", "\N{MULTIPLICATION SIGN}": "x"} | dict.fromkeys(
    "\N{EN DASH}\N{EM DASH}\N{MINUS SIGN}", "-"
)
"""Stand-ins for letters that have no accent to lose."""

PAPER = (250, 250, 250)
INK = (28, 28, 30)
FAINT = (110, 110, 116)
EDGE = (205, 205, 208)
BRIGHT = (255, 214, 10)
DARK = (16, 16, 16)


def raster(rows: Sequence[Row]) -> Pixels:
    """Rows below each other as pixels, on white where one is narrower.

    Args:
        rows: of zoom 1.

    Returns:
        uint8 [H2,W2,3] RGB.
    """
    drawn = [_drawn(one) for one in rows]
    width = max(one.shape[1] for one in drawn)
    padded = [
        np.pad(one, ((0, 0), (0, width - one.shape[1]), (0, 0)), constant_values=255)
        for one in drawn
    ]
    return np.concatenate(padded)


def _drawn(one: Row) -> Pixels:
    """One row: titles above the panels, caption below."""
    (height, width), (high, wide) = one.size, one.panel
    sheet = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    for index, panel in enumerate(one.panels):
        left = one.left(index)
        title = panel.title
        # A hairline, or a white picture has no edge on the sheet.
        pen.rectangle((left - 1, STRIP - 1, left + wide, STRIP + high), outline=EDGE)
        sheet.paste(Image.fromarray(_lined(panel)), (left, STRIP))
        if panel.bar is not None:
            scale = Scale.of(panel.bar, left + wide, wide)
            title = shorten(title, scale.left - left, SMALL)
            colours = np.repeat(scale.colours[None], BAR, axis=0)
            ramp = Image.fromarray(colours).resize((scale.end - scale.begin, BAR))
            sheet.paste(ramp, (scale.begin, (STRIP - BAR) // 2))
            for at, text in ((scale.begin - 5, scale.low), (left + wide, scale.high)):
                pen.text((at, STRIP / 2), text, fill=FAINT, font=_font(SMALL - 2), anchor="rm")
        pen.text((left, STRIP / 2), title, fill=FAINT, font=_font(SMALL), anchor="lm")
    text = shorten(one.caption, width - 2 * GAP)
    pen.text((GAP, STRIP + high + STRIP / 2), text, fill=INK, font=_font(FONT), anchor="lm")
    return np.asarray(sheet)


def _lined(panel: Panel) -> Pixels:
    """The pixels of a panel with its lines."""
    if panel.outlines:
        pixels = panel.pixels.copy()
        cv2.drawContours(pixels, panel.outlines, -1, DARK, 4, cv2.LINE_AA)
        cv2.drawContours(pixels, panel.outlines, -1, BRIGHT, 2, cv2.LINE_AA)
        return pixels
    if panel.box is not None:
        picture = Image.fromarray(panel.pixels)
        rectangle(ImageDraw.Draw(picture), panel.box, picture.size, BRIGHT)
        return np.asarray(picture)
    return panel.pixels


@dataclasses.dataclass(frozen=True, eq=False)
class Scale:
    """The bar of a heat's colours with the numbers at its ends.

    Attributes:
        left: where the room for a title ends.
        begin, end: where the bar lies across the page.
        low, high: the numbers.
        colours: uint8 [n,3].
    """

    left: int
    begin: int
    end: int
    low: str
    high: str
    colours: Pixels

    @classmethod
    def of(cls, heat: Heat, right: int, wide: int) -> Scale:
        """The scale of a heat whose panel of that width ends at that place."""
        high = f"{heat.top:.3g}"
        signed = heat.colormap == colormaps.DIVERGING
        low = f"-{high}" if signed else "0"
        font = _font(SMALL - 2)
        end = right - math.ceil(font.getlength(high)) - 5
        begin = end - wide // 5
        left = begin - math.ceil(font.getlength(low)) - 10
        colours = colormaps.table(heat.colormap)[1 if signed else 0 :]
        return cls(left, begin, end, low, high, colours)


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
    rows = -(-len(pictures) // columns)
    size = columns * (wide + GAP) + GAP, rows * (high + STRIP) + GAP
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    for number, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        row, column = divmod(number, columns)
        left, top = GAP + column * (wide + GAP), GAP + row * (high + STRIP)
        panel = resized(rgb(picture), high, wide).astype(np.uint8, copy=False)
        pen.rectangle((left - 1, top - 1, left + wide, top + high), outline=EDGE)
        sheet.paste(Image.fromarray(panel), (left, top))
        text = shorten(caption, wide)
        pen.text((left, top + high + STRIP / 2), text, fill=INK, font=_font(FONT), anchor="lm")
    return np.asarray(sheet)


def _columns(count: int) -> int:
    """At least as many columns as rows, and full rows if some sane number gives them."""
    least = math.isqrt(count - 1) + 1
    whole = (columns for columns in range(least, 2 * least) if count % columns == 0)
    return next(whole, least)


def shorten(text: str, width: float, size: int = FONT) -> str:
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


def rectangle(
    pen: ImageDraw.ImageDraw,
    box: Sequence[float],
    size: tuple[int, int],
    colour: tuple[int, int, int],
    dash: int = 0,
    thick: int = 1,
) -> None:
    """Draw a box just inside its edges; a bright line inside a dark one is seen on any picture.

    Args:
        pen: of the picture.
        box: x0, y0, x1, y1 in its pixels, x1 and y1 exclusive.
        size: width and height of the picture, which the box is kept within.
        colour: of the bright line.
        dash: length of its dashes in pixels; 0 draws it whole.
        thick: times the usual lines, of a box without dashes.
    """
    # Inclusive for Pillow, inside the picture, and never turned inside out by rounding.
    x0, y0 = (min(max(round(edge), 0), side - 1) for edge, side in zip(box[:2], size, strict=True))
    x1 = min(max(round(box[2]) - 1, x0), size[0] - 1)
    y1 = min(max(round(box[3]) - 1, y0), size[1] - 1)
    pen.rectangle((x0, y0, x1, y1), outline=DARK, width=5 * thick)
    if min(x1 - x0, y1 - y0) < 4 * thick:
        return
    x0, y0, x1, y1 = x0 + thick, y0 + thick, x1 - thick, y1 - thick
    if not dash:
        pen.rectangle((x0, y0, x1, y1), outline=colour, width=3 * thick)
        return
    for start in range(x0, x1, 2 * dash):
        end = min(start + dash, x1)
        pen.rectangle((start, y0, end, y0 + 2), fill=colour)
        pen.rectangle((start, y1 - 2, end, y1), fill=colour)
    for start in range(y0, y1, 2 * dash):
        end = min(start + dash, y1)
        pen.rectangle((x0, start, x0 + 2, end), fill=colour)
        pen.rectangle((x1 - 2, start, x1, end), fill=colour)
