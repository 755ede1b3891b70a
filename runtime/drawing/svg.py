"""The pictures of `render` as SVG 1.1: lines and text as vectors, photographs and maps as JPEG.

A file needs nothing else: no font, no script, no address.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from xml.sax.saxutils import escape

from PIL import Image

from ..arrays import Pixels
from .panels import FONT, GAP, SMALL, STRIP, Panel, Row
from .raster import BAR, BRIGHT, DARK, EDGE, FAINT, INK, PAPER, Scale, shorten

_CONTROL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 (section 2.2) has no way to write."""


def svg(rows: Sequence[Row]) -> str:
    """Rows below each other, as `render.raster` draws them.

    Returns:
        An SVG document, one user unit for each unit of the page.
    """
    heights = [one.size[0] for one in rows]
    width = max(one.size[1] for one in rows)
    parts = [
        f'<g transform="translate(0 {sum(heights[:index])})">{_row(one)}</g>'
        for index, one in enumerate(rows)
    ]
    return document(width, sum(heights), parts)


def document(width: float, height: float, parts: Sequence[str]) -> str:
    """An SVG document of that size with a plain ground."""
    body = "\n".join(parts)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}" '
        'font-family="Helvetica, Arial, sans-serif">\n<desc>Backlit</desc>\n'
        f'<rect width="{width:g}" height="{height:g}" fill="{_rgb(PAPER)}"/>\n{body}\n</svg>\n'
    )


def _row(one: Row) -> str:
    width, (high, wide) = one.size[1], one.panel
    parts = []
    for index, panel in enumerate(one.panels):
        left = one.left(index)
        title = panel.title
        parts.append(_image(panel.pixels, left, STRIP, wide, high))
        parts.append(
            f'<rect x="{left - 0.5}" y="{STRIP - 0.5}" width="{wide + 1}" height="{high + 1}" '
            f'fill="none" stroke="{_rgb(EDGE)}"/>'
        )
        # A nested element cuts off lines at the panel's edge, as pixels do.
        parts.append(
            f'<svg x="{left}" y="{STRIP}" width="{wide}" height="{high}" '
            f'viewBox="0 0 {wide} {high}">{_lines(panel, one.zoom)}</svg>'
        )
        if panel.bar is not None:
            scale = Scale.of(panel.bar, left + wide, wide)
            title = shorten(title, 0.9 * (scale.left - left), SMALL)
            top = (STRIP - BAR) / 2
            ramp = scale.colours[None]
            parts.append(_image(ramp, scale.begin, top, scale.end - scale.begin, BAR, "png"))
            parts.append(_text(scale.begin - 5, STRIP / 2, scale.low, SMALL - 2, FAINT, "end"))
            parts.append(_text(left + wide, STRIP / 2, scale.high, SMALL - 2, FAINT, "end"))
        parts.append(_text(left, STRIP / 2, title, SMALL, FAINT))
    # Fonts differ: leave room.
    caption = shorten(one.caption, 0.9 * (width - 2 * GAP))
    parts.append(_text(GAP, STRIP + high + STRIP / 2, caption, FONT, INK))
    return "\n".join(part for part in parts if part)


def _lines(panel: Panel, zoom: int) -> str:
    """Outlines and box: a bright line inside a dark one is seen on any picture."""
    elements = []
    if panel.outlines:
        loops = [(loop[:, 0] + 0.5) / zoom for loop in panel.outlines]
        path = "".join(f"M{'L'.join(f'{x:g} {y:g}' for x, y in loop)}Z" for loop in loops)
        elements = [
            f'<path d="{path}" fill="none" stroke="{_rgb(colour)}" stroke-width="{thick}" '
            'stroke-linejoin="round"/>'
            for colour, thick in ((DARK, 4), (BRIGHT, 2))
        ]
    if panel.box is not None:
        x0, y0, x1, y1 = (edge / zoom for edge in panel.box)
        for colour, thick in ((DARK, 5), (BRIGHT, 3)):
            # Lines of 5 and 3 with one middle, just inside the edges.
            inside = min(2.5, (x1 - x0) / 2, (y1 - y0) / 2)
            elements.append(
                f'<rect x="{x0 + inside:.2f}" y="{y0 + inside:.2f}" '
                f'width="{x1 - x0 - 2 * inside:.2f}" height="{y1 - y0 - 2 * inside:.2f}" '
                f'fill="none" stroke="{_rgb(colour)}" stroke-width="{thick}"/>'
            )
    return "".join(elements)


def _image(
    pixels: Pixels, x: float, y: float, width: float, height: float, kind: str = "jpeg"
) -> str:
    file = io.BytesIO()
    # Full colour resolution: maps are thin and coloured.
    options = {"quality": 85, "subsampling": 0} if kind == "jpeg" else {}
    Image.fromarray(pixels).save(file, kind, **options)
    data = base64.b64encode(file.getvalue()).decode()
    # The older attribute is read by all programs, the new one not yet.
    return (
        f'<image x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" '
        f'preserveAspectRatio="none" xlink:href="data:image/{kind};base64,{data}"/>'
    )


def _text(
    x: float, y: float, text: str, size: int, colour: tuple[int, int, int], anchor: str = "start"
) -> str:
    # A third of the size puts the middle of small letters on y; some programs know no baselines.
    return (
        f'<text x="{x:g}" y="{y + 0.35 * size:.2f}" font-size="{size}" fill="{_rgb(colour)}" '
        f'text-anchor="{anchor}">{escape(_CONTROL.sub("", text))}</text>'
    )


def _rgb(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
