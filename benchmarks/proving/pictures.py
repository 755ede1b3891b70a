"""Drawn data sets: objects whose place is known, on textured grounds. Same seed, same pictures."""

from __future__ import annotations

import colorsys
import dataclasses
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.uint8]
Place = tuple[float, float, float]
"""Centre x and y, and half the side, in pixels."""
Painter = Callable[[np.random.Generator, Floats, int, Place], Mask]
"""Paints an object of a class in place; returns its mask, uint8 [S,S]."""

HUES = 5
LETTERS = "ABEFGHKMRS"


@dataclasses.dataclass(frozen=True)
class Pictures:
    """N pictures with M objects.

    Attributes:
        images: uint8 [N,S,S,3], RGB.
        owners: int64 [M], the picture that each object is in.
        labels: int64 [M], its class.
        boxes: int64 [M,4]: x0, y0, x1, y1 in pixels, the last two exclusive.
    """

    images: Pixels
    owners: Integers
    labels: Integers
    boxes: Integers


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of pictures.

    Attributes:
        classes: how many.
        paint: paints an object.
        least, most: its side as a share of the picture's.
        objects: in a picture, of different classes.
        clutter: strokes and discs on the ground that are no objects.
        border: objects touch the border, and are partly outside.
    """

    classes: int
    paint: Painter
    least: float = 0.25
    most: float = 0.55
    objects: int = 1
    clutter: int = 0
    border: bool = False


def _colour(rng: np.random.Generator, hue: float | None = None) -> Floats:
    hue = float(rng.uniform()) if hue is None else hue
    rgb = colorsys.hsv_to_rgb(hue % 1, float(rng.uniform(0.7, 1)), float(rng.uniform(0.7, 1)))
    return np.array(rgb, np.float32) * 255


def _ground(rng: np.random.Generator, side: int) -> Floats:
    """Smooth noise in two scales, dark or bright, float32 [S,S,3]."""
    ground = np.full((side, side, 3), rng.choice([70, 185]), np.float32)
    for cells, size in ((4, 40), (int(rng.integers(8, 20)), 15)):
        noise = rng.uniform(-size, size, (cells, cells, 3)).astype(np.float32)
        ground += cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
    return ground


def _turned(rng: np.random.Generator, points: npt.ArrayLike, place: Place) -> npt.NDArray[np.int32]:
    """Points of -1..1, turned a little, at a place, in sixteenths of a pixel."""
    x, y, half = place
    angle = rng.uniform(-0.25, 0.25)
    turn = np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))])
    made: npt.NDArray[np.float64] = np.asarray(points, float) @ turn * half + (x, y)
    return np.round(made * 16).astype(np.int32)


def _outline(shape: int) -> npt.NDArray[np.float64]:
    """Disc, square, triangle, cross, star, bar, crescent, arrow: points of -1..1."""
    around = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    disc = np.stack([np.cos(around), np.sin(around)], 1)
    if shape == 0:
        return disc
    if shape == 4:
        five = np.linspace(0, 2 * np.pi, 10, endpoint=False)
        radius = np.where(np.arange(10) % 2, 0.42, 1.0)
        return np.stack([np.sin(five), -np.cos(five)], 1) * radius[:, None]
    if shape == 6:
        outer = disc[5:36]
        return np.concatenate([outer, outer[::-1] * (0.62, 0.75) + (0.42, 0)])
    a = 0.32
    corners = {
        1: [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
        2: [(0, -1), (1, 0.85), (-1, 0.85)],
        3: [(-a, -1), (a, -1), (a, -a), (1, -a), (1, a), (a, a), (a, 1), (-a, 1), (-a, a),
            (-1, a), (-1, -a), (-a, -a)],
        5: [(-1, -0.35), (1, -0.35), (1, 0.35), (-1, 0.35)],
        7: [(0, -1), (0.9, 0), (0.35, 0), (0.35, 1), (-0.35, 1), (-0.35, 0), (-0.9, 0)],
    }  # fmt: skip
    return np.array(corners[shape], float)


def _fill(rng: np.random.Generator, canvas: Floats, shape: int, place: Place) -> Mask:
    mask = np.zeros(canvas.shape[:2], np.uint8)
    cv2.fillPoly(mask, [_turned(rng, _outline(shape), place)], 1, cv2.LINE_8, 4)
    return mask


def _shape(rng: np.random.Generator, canvas: Floats, label: int, place: Place) -> Mask:
    """The class is the outline."""
    mask = _fill(rng, canvas, label, place)
    canvas[mask > 0] = _colour(rng)
    return mask


def _coloured_shape(rng: np.random.Generator, canvas: Floats, label: int, place: Place) -> Mask:
    """The class is outline and colour."""
    mask = _fill(rng, canvas, label // HUES, place)
    canvas[mask > 0] = _colour(rng, label % HUES / HUES)
    return mask


def _glyph(rng: np.random.Generator, canvas: Floats, label: int, place: Place) -> Mask:
    """The class is the letter."""
    x, y, half = place
    mask = np.zeros(canvas.shape[:2], np.uint8)
    scale, thick = half / 11, max(1, round(half / 5))
    (wide, high), _ = cv2.getTextSize(LETTERS[label], cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
    start = round(x - wide / 2), round(y + high / 2)
    cv2.putText(mask, LETTERS[label], start, cv2.FONT_HERSHEY_SIMPLEX, scale, 1, thick)
    canvas[mask > 0] = _colour(rng)
    return mask


def _texture(rng: np.random.Generator, canvas: Floats, label: int, place: Place) -> Mask:
    """The class is what a disc or square is filled with: four kinds of stripes, or checks."""
    mask = _fill(rng, canvas, int(rng.integers(2)), place)
    side, angle = len(canvas), label * np.pi / 4
    rows, columns = np.mgrid[:side, :side] * (2 * np.pi / rng.uniform(5, 8))
    waves = np.sin(np.cos(angle) * columns + np.sin(angle) * rows + rng.uniform(0, 6))
    if label == 4:
        waves = np.sin(columns) * np.sin(rows)
    filled = np.where((waves > 0)[..., None], _colour(rng), _colour(rng) * 0.4)
    canvas[mask > 0] = filled[mask > 0]
    return mask


def _stroke(rng: np.random.Generator, canvas: Floats) -> None:
    side = len(canvas)
    colour = tuple(float(v) for v in _colour(rng))
    start, end = rng.integers(0, side, (2, 2))
    if rng.uniform() < 0.5:
        end = (start + rng.uniform(-0.3, 0.3, 2) * side).astype(int)
        thick = max(1, round(side / 40))
        cv2.line(canvas, start.tolist(), end.tolist(), colour, thick)
    else:
        cv2.circle(canvas, start.tolist(), max(1, round(side * rng.uniform(0.02, 0.05))), colour, 1)


def _places(rng: np.random.Generator, kind: Kind, side: int) -> list[Place]:
    """Where the objects are; two of a picture lie apart."""
    half = side * rng.uniform(kind.least, kind.most, kind.objects) / 2
    if kind.border:
        along, edge = rng.uniform(0, side), int(rng.integers(4))
        depth = rng.uniform(0, 0.8) * half[0]
        near = depth if edge % 2 else side - depth
        return [(along, near, half[0]) if edge < 2 else (near, along, half[0])]
    found = [(*rng.uniform(half[0], side - half[0], 2), half[0])]
    while len(found) < kind.objects:
        h = half[len(found)]
        x, y = rng.uniform(h, side - h, 2)
        if all(max(abs(x - a), abs(y - b)) > h + c for a, b, c in found):
            found.append((x, y, h))
        half *= 0.98  # until it fits
    return [(float(x), float(y), float(h)) for x, y, h in found]


def draw(kind: Kind, count: int, side: int, seed: int) -> Pictures:
    """Draw pictures.

    Args:
        kind: of what.
        count: how many.
        side: of each, in pixels.
        seed: picture i depends on (seed, i) alone.
    """
    images = np.empty((count, side, side, 3), np.uint8)
    objects: list[tuple[int, int, tuple[int, int, int, int]]] = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        canvas = _ground(rng, side)
        for _ in range(kind.clutter):
            _stroke(rng, canvas)
        labels = rng.choice(kind.classes, kind.objects, replace=False)
        for label, place in zip(labels, _places(rng, kind, side), strict=True):
            mask = kind.paint(rng, canvas, int(label), place)
            x, y, wide, high = cv2.boundingRect(mask)
            objects.append((number, int(label), (x, y, x + wide, y + high)))
        grain = 8 * rng.standard_normal(canvas.shape, np.float32)
        images[number] = np.clip(canvas + grain, 0, 255)
    owners, classes, boxes = zip(*objects, strict=True)
    return Pictures(images, np.array(owners), np.array(classes), np.array(boxes))


KINDS = {
    "shapes": Kind(5, _shape),
    "two classes": Kind(2, _shape),
    "forty classes": Kind(8 * HUES, _coloured_shape),
    "glyphs in clutter": Kind(len(LETTERS), _glyph, 0.3, 0.6, clutter=8),
    "textures": Kind(5, _texture, 0.3, 0.6),
    "tiny": Kind(5, _shape, 0.1, 0.2),
    "border": Kind(5, _shape, 0.35, 0.6, border=True),
    "two objects": Kind(5, _shape, 0.25, 0.45, objects=2),
}
"""Every kind of pictures by name."""
