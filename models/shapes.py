"""The classes of the embedded classifier as outlines: what `draw` paints.

An object is a list of layers, painted in order. A layer is a set of polygons filled by the even-odd
rule (so a polygon inside another is a hole) and a tone. Coordinates are x to the right and y down,
about -1..1; `draw` scales, turns and places them. Proportions vary from object to object.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]

BASE, SECOND, DARK, LIGHT, GREEN = range(5)


@dataclasses.dataclass(frozen=True)
class Layer:
    """Polygons [P,2] filled together by the even-odd rule, and the tone they are painted in."""

    polygons: tuple[Points, ...]
    tone: int = BASE


@dataclasses.dataclass(frozen=True)
class Kind:
    """A class: its name, how its outline is made, how far it turns, and its usual hues.

    Attributes:
        name: the label.
        outline: draws one object's layers.
        turn: rotation is uniform in -turn..turn degrees.
        hues: usual hues in degrees; half of the objects take one, the others take any hue.
    """

    name: str
    outline: Callable[[np.random.Generator], list[Layer]]
    turn: float
    hues: tuple[float, ...]


def polygon(*points: tuple[float, float]) -> Points:
    """The polygon through the given points, float64 [P,2]."""
    return np.array(points, np.float64)


def ellipse(
    x: float,
    y: float,
    rx: float,
    ry: float,
    start: float = 0.0,
    stop: float = 360.0,
    count: int = 40,
) -> Points:
    """An ellipse, or its arc from start to stop degrees (clockwise, 0 to the right)."""
    angle = np.radians(np.linspace(start, stop, count))
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], 1)


def box(x0: float, y0: float, x1: float, y1: float) -> Points:
    """An upright rectangle."""
    return polygon((x0, y0), (x1, y0), (x1, y1), (x0, y1))


def _ring(rng: np.random.Generator) -> list[Layer]:
    hole = rng.uniform(0.42, 0.66)
    return [Layer((ellipse(0, 0, 1, 1), ellipse(0, 0, hole, hole)))]


def _star(rng: np.random.Generator) -> list[Layer]:
    inner = rng.uniform(0.36, 0.48)
    angle = np.radians(np.arange(10) * 36 - 90)
    radius = np.where(np.arange(10) % 2, inner, 1.0)
    return [Layer((np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1),))]


def _heart(rng: np.random.Generator) -> list[Layer]:
    t = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return [Layer((np.stack([x / 16, y / 16 * rng.uniform(0.9, 1.1)], 1),))]


def _arrow(rng: np.random.Generator) -> list[Layer]:
    shaft, head, neck = rng.uniform(0.16, 0.28), rng.uniform(0.55, 0.75), rng.uniform(-0.05, 0.25)
    half = [(-1.0, shaft), (neck, shaft), (neck, head), (1.0, 0.0)]
    return [Layer((polygon(*half, *((x, -y) for x, y in half[-2::-1])),))]


def _crescent(rng: np.random.Generator) -> list[Layer]:
    # The inner arc runs through the tips of the outer one, so the polygon never crosses itself.
    tip, depth = rng.uniform(42, 60), rng.uniform(0.0, 0.35)
    outer = ellipse(0, 0, 1, 1, tip, 360 - tip)
    x, y = np.cos(np.radians(tip)), np.sin(np.radians(tip))
    left = -depth  # leftmost point of the inner circle
    centre = (x * x + y * y - left * left) / (2 * (x - left))
    radius = centre - left
    swing = np.degrees(np.arctan2(y, x - centre))
    return [
        Layer((np.concatenate([outer, ellipse(centre, 0, radius, radius, 360 - swing, swing)]),))
    ]


def _house(rng: np.random.Generator) -> list[Layer]:
    wall, eaves = rng.uniform(0.68, 0.8), rng.uniform(-0.2, 0.0)
    door = rng.uniform(-0.45, 0.05)
    chimney = rng.uniform(0.3, 0.45)
    return [
        Layer((box(chimney, -0.85, chimney + 0.2, -0.2),), DARK),
        Layer((box(-wall, eaves - 0.05, wall, 1),)),
        Layer((polygon((-1, eaves), (0, -1), (1, eaves)),), SECOND),
        Layer((box(door, 0.4, door + 0.34, 1),), DARK),
        Layer((box(door + 0.5, 0.25, door + 0.8, 0.6),), LIGHT),
    ]


def _fish(rng: np.random.Generator) -> list[Layer]:
    high = rng.uniform(0.42, 0.58)
    tail = rng.uniform(0.42, 0.6)
    stripe = rng.uniform(-0.2, 0.1)
    span = high * np.sqrt(1 - ((stripe + 0.2) / 0.8) ** 2) * 0.97
    return [
        Layer((polygon((0.4, 0), (1.0, -tail), (0.85, 0), (1.0, tail)),), SECOND),
        Layer((polygon((-0.35, -0.3), (0.1, -high - 0.28), (0.3, -0.2)),), SECOND),
        Layer((ellipse(-0.2, 0, 0.8, high),)),
        Layer((box(stripe, -span, stripe + 0.14, span),), SECOND),
        Layer((ellipse(-0.66, -0.1, 0.13, 0.13),), LIGHT),
        Layer((ellipse(-0.67, -0.1, 0.065, 0.065),), DARK),
    ]


def _flower(rng: np.random.Generator) -> list[Layer]:
    petals = int(rng.integers(5, 8))
    size = 1.35 / petals
    layers = [
        Layer((box(-0.06, -0.2, 0.06, 1.0),), GREEN),
        Layer((ellipse(0.28, 0.62, 0.26, 0.12), ellipse(-0.28, 0.74, 0.26, 0.12)), GREEN),
    ]
    for angle in np.arange(petals) * 2 * np.pi / petals + rng.uniform(0, 1):
        x, y = 0.42 * np.cos(angle), 0.42 * np.sin(angle) - 0.35
        layers.append(Layer((ellipse(x, y, size, size),)))
    return [*layers, Layer((ellipse(0, -0.35, 0.23, 0.23),), SECOND)]


def _mug(rng: np.random.Generator) -> list[Layer]:
    taper, rim = rng.uniform(0.0, 0.12), rng.uniform(0.12, 0.2)
    band = rng.uniform(0.0, 0.3)
    body = np.concatenate(
        [
            ellipse(-0.25, -0.65, 0.75, rim, 180, 360),
            ellipse(-0.25, 0.8, 0.75 - taper, rim, 0, 180),
        ]
    )
    return [
        Layer((ellipse(0.5, 0.05, 0.5, 0.5), ellipse(0.5, 0.05, 0.3, 0.3))),
        Layer((body,)),
        Layer((box(-0.97 + taper, band, 0.47 - taper, band + 0.22),), SECOND),
        Layer((ellipse(-0.25, -0.65, 0.67, rim * 0.75),), DARK),
    ]


def _key(rng: np.random.Generator) -> list[Layer]:
    bow, hole = rng.uniform(0.38, 0.48), rng.uniform(0.45, 0.6)
    thick = rng.uniform(0.09, 0.13)
    x = bow - 1
    return [
        Layer((box(x + bow * 0.9, -thick, 1, thick),)),
        Layer((box(0.8, 0, 1.0, rng.uniform(0.34, 0.46)), box(0.45, 0, 0.63, 0.36))),
        Layer((ellipse(x, 0, bow, bow), ellipse(x, 0, bow * hole, bow * hole))),
    ]


def _sailboat(rng: np.random.Generator) -> list[Layer]:
    mast = rng.uniform(-0.12, 0.12)
    deck = rng.uniform(0.45, 0.55)
    return [
        Layer((box(mast - 0.04, -1, mast + 0.04, deck),), DARK),
        Layer((polygon((mast + 0.08, -0.95), (mast + 0.08, deck - 0.12), (0.85, deck - 0.12)),)),
        Layer(
            (polygon((mast - 0.08, -0.7), (mast - 0.08, deck - 0.12), (-0.7, deck - 0.12)),), LIGHT
        ),
        Layer((polygon((-1, deck), (1, deck), (0.65, 1), (-0.65, 1)),), SECOND),
    ]


def _mushroom(rng: np.random.Generator) -> list[Layer]:
    stem, brim = rng.uniform(0.22, 0.34), rng.uniform(0.0, 0.15)
    foot = stem * rng.uniform(1.1, 1.4)
    cap = np.concatenate(
        [ellipse(0, brim, 1, brim + 0.95, 180, 360), ellipse(0, brim, 1, 0.2, 0, 180)]
    )
    spots = ((-0.55, -0.22, 0.17), (0.05, -0.5, 0.2), (0.55, -0.15, 0.15), (-0.05, -0.02, 0.13))
    return [
        Layer((polygon((-stem, brim), (stem, brim), (foot, 1), (-foot, 1)),), LIGHT),
        Layer((cap,)),
        *(Layer((ellipse(x, y + brim, r, r * 0.9),), LIGHT) for x, y, r in spots),
    ]


KINDS: tuple[Kind, ...] = (
    Kind("arrow", _arrow, 40, (120, 210)),
    Kind("crescent", _crescent, 35, (50, 45)),
    Kind("fish", _fish, 25, (20, 200)),
    Kind("flower", _flower, 20, (330, 290, 5)),
    Kind("heart", _heart, 25, (0, 345)),
    Kind("house", _house, 12, (35, 15)),
    Kind("key", _key, 60, (48, 40)),
    Kind("mug", _mug, 15, (215, 180)),
    Kind("mushroom", _mushroom, 15, (0, 20)),
    Kind("ring", _ring, 90, (45, 280)),
    Kind("sailboat", _sailboat, 12, (200, 0)),
    Kind("star", _star, 40, (50, 55)),
)
LABELS: tuple[str, ...] = tuple(kind.name for kind in KINDS)
