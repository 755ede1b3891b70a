"""Line charts as inline SVG: no library, no script, readable in black and white."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 640, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 14, 46
_DASHES = ("", "9 5", "2 4", "12 4 2 4", "5 3", "1 3")
_STEPS = (0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 2.5, 5.0)

COLOURS = 6
"""Line colours there are, ``--line-0`` ...; each has its own dashes, so colour is never needed."""


@dataclasses.dataclass(frozen=True)
class Series:
    """One line.

    Attributes:
        name: for the legend.
        x: positions, ascending.
        y: values, as many.
        band: the lower and the upper edge of their spread, as many each; drawn pale.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    band: tuple[Sequence[float], Sequence[float]] | None = None


@dataclasses.dataclass(frozen=True)
class Chart:
    """Lines over a common axis.

    Attributes:
        title: heading.
        x_label, y_label: what the axes show, with units.
        series: the lines; at most `COLOURS` are told apart.
        x_range, y_range: ends of the axes; None: those of the data, for y from 0.
        percent: write the values of y as percentages.
        note: a sentence below.
    """

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    percent: bool = False
    note: str = ""


def legend(chart: Chart) -> str:
    """The lines' names beside a piece of each, as an HTML list."""
    items = [
        f'<li><svg class="key" viewBox="0 0 34 8" aria-hidden="true">{_line("M0 4H34", index)}'
        f"</svg>{escape(one.name)}</li>"
        for index, one in enumerate(chart.series)
    ]
    return f'<ul class="legend">{"".join(items)}</ul>'


def svg(chart: Chart) -> str:
    """The chart as an ``svg`` element that takes its colours from the page's custom properties."""
    xs = [x for one in chart.series for x in one.x] or [0.0, 1.0]
    ys = [y for one in chart.series for y in one.y] or [0.0, 1.0]
    low_x, high_x = chart.x_range or _apart(min(xs), max(xs))
    low_y, high_y = chart.y_range or _apart(min(0.0, *ys), max(ys))
    wide, high = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM

    def across(x: float) -> float:
        return _LEFT + wide * (x - low_x) / (high_x - low_x)

    def down(y: float) -> float:
        return _TOP + high * (1 - (y - low_y) / (high_y - low_y))

    parts = []
    for tick in ticks(low_y, high_y):
        y = down(tick)
        text = f"{100 * tick:.0f} %" if chart.percent else f"{tick:g}"
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}" />')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    for tick in ticks(low_x, high_x):
        x = across(tick)
        parts.append(f'<path class="grid" d="M{x:.1f} {_TOP}V{_TOP + high}" />')
        parts.append(
            f'<text x="{x:.1f}" y="{_TOP + high + 18}" text-anchor="middle">{tick:g}</text>'
        )
    middle_x, middle_y = _LEFT + wide / 2, _TOP + high / 2
    parts.append(
        f'<text x="{middle_x}" y="{HEIGHT - 8}" text-anchor="middle">{escape(chart.x_label)}</text>'
    )
    parts.append(
        f'<text transform="translate(13 {middle_y}) rotate(-90)" text-anchor="middle">'
        f"{escape(chart.y_label)}</text>"
    )

    def points_of(one: Series, values: Sequence[float]) -> list[str]:
        return [
            f"{across(x):.1f} {down(min(max(y, low_y), high_y)):.1f}"
            for x, y in zip(one.x, values, strict=True)
        ]

    for index, one in enumerate(chart.series):  # below all the lines
        if one.band is not None:
            lower, upper = (points_of(one, edge) for edge in one.band)
            parts.append(
                f'<path class="band" style="fill:var(--line-{index % COLOURS})" '
                f'd="M{"L".join([*lower, *reversed(upper)])}Z" />'
            )
    for index, one in enumerate(chart.series):
        points = points_of(one, one.y)
        if points:
            parts.append(_line("M" + "L".join(points), index, one.name))
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(chart.title, quote=True)}">{"".join(parts)}</svg>'
    )


def ticks(low: float, high: float, most: int = 11) -> list[float]:
    """Round numbers from low to high, as many as fit."""
    size = 10.0 ** math.floor(math.log10(high - low))
    step = next((s * size for s in _STEPS if (high - low) / (s * size) <= most - 1), 10 * size)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def _apart(low: float, high: float) -> tuple[float, float]:
    return (low, high) if high > low else (low, low + 1.0)


def _line(path: str, index: int, name: str = "") -> str:
    dashes = _DASHES[index % len(_DASHES)]
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    title = f"<title>{escape(name)}</title>" if name else ""
    colour = f"var(--line-{index % COLOURS})"
    return f'<path class="line" style="stroke:{colour}"{dashed} d="{path}">{title}</path>'
