"""Numbers as JSON and people take them."""

from __future__ import annotations

import math
from typing import Any

import numpy.typing as npt

Record = dict[str, Any]
"""What JSON takes."""


def number(value: Any) -> float | None:
    """Six digits, which is more than any of it means; JSON has no NaN."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")


def numbers(values: npt.NDArray[Any]) -> list[float | None]:
    """Several."""
    return [number(value) for value in values]


def three(value: float | None) -> str:
    """Three digits after the point."""
    return "-" if value is None else f"{value:.3f}"


def percent(value: float | None) -> str:
    """A share as a percentage."""
    return "-" if value is None else f"{100 * value:.1f}\u00a0%"


def known(x: list[int], y: list[float | None]) -> tuple[list[float], list[float]]:
    """The points whose number exists."""
    pairs = [(float(a), b) for a, b in zip(x, y, strict=True) if b is not None]
    return [a for a, _ in pairs], [b for _, b in pairs]


def mean(values: list[float | None]) -> float | None:
    """Of those that exist."""
    found = [value for value in values if value is not None]
    return sum(found) / len(found) if found else None
