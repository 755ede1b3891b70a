"""Labelled pictures, drawn: one object of a class among distractors on a textured ground.

The embedded classifier learns from these pictures and their labels alone. The true box comes with
each picture for evaluation; training never reads it. Same seed, same picture.
"""

from __future__ import annotations

import colorsys
import dataclasses

import cv2
import numpy as np
import numpy.typing as npt

from .shapes import BASE, DARK, GREEN, KINDS, LIGHT, SECOND, Layer, Points, ellipse

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]
Box = tuple[int, int, int, int]

# The picture is painted without antialiasing at about this many times its size, then averaged down.
_OVERSAMPLING = 2
# fillPoly takes fixed-point coordinates with this many fractional bits.
_SHIFT = 4


@dataclasses.dataclass(frozen=True)
class Scene:
    """One drawn picture.

    Attributes:
        image: uint8 [H,W,3], RGB.
        label: index into `shapes.LABELS`.
        box: true box x0, y0, x1, y1 in pixels, x1 and y1 exclusive; for evaluation only.
        mask: bool [H,W], the object's pixels (holes are not object).
    """

    image: Pixels
    label: int
    box: Box
    mask: npt.NDArray[np.bool_]


def draw(
    rng: np.random.Generator,
    height: int,
    width: int,
    *,
    label: int | None = None,
    aspect: float = 1.0,
    with_object: bool = True,
) -> Scene:
    """Draw one picture.

    Args:
        rng: source of every random choice.
        height: of the picture in pixels.
        width: of the picture in pixels.
        label: class to draw; None draws one at random.
        aspect: the picture is painted this much wider than asked and squeezed to height x width, as
            a stretched photo is (below 1: narrower).
        with_object: False paints the same ground and distractors without the object; box and mask
            are still the object's.
    """
    choice, ground_rng, object_rng, grain_rng = rng.spawn(4)
    if label is None:
        label = int(choice.integers(len(KINDS)))
    stretch = np.sqrt(aspect)
    high = round(_OVERSAMPLING * height / stretch)
    wide = round(_OVERSAMPLING * width * stretch)
    canvas = _ground(ground_rng, high, wide)
    for _ in range(int(ground_rng.integers(3, 9))):
        _distractor(ground_rng, canvas)
    silhouette = _object(object_rng, canvas, label, paint=with_object)
    image = _area(canvas, height, width)
    grain = grain_rng.uniform(0, 7) * grain_rng.standard_normal((height, width, 1), np.float32)
    mask = _area(silhouette.astype(np.float32), height, width) >= 127.5
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    return Scene(np.clip(image + grain, 0, 255).astype(np.uint8), label, box, mask)


def draw_set(
    count: int, seed: int, size: int, first: int = 0
) -> tuple[Pixels, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Draw a data set of square, randomly squeezed pictures.

    Args:
        count: number of pictures, N; the classes take turns.
        seed: picture i depends on (seed, i) alone.
        size: side S in pixels.
        first: index of the first picture, so that a set can be drawn in parts.

    Returns:
        images uint8 [N,S,S,3] RGB; labels int64 [N]; boxes int64 [N,4] (for evaluation only).
    """
    images = np.empty((count, size, size, 3), np.uint8)
    labels = np.empty(count, np.int64)
    boxes = np.empty((count, 4), np.int64)
    for i in range(count):
        rng = np.random.default_rng([seed, first + i])
        aspect = float(np.exp(rng.uniform(-0.5, 0.5)))
        scene = draw(rng, size, size, label=(first + i) % len(KINDS), aspect=aspect)
        images[i], labels[i], boxes[i] = scene.image, scene.label, scene.box
    return images, labels, boxes


def _colour(hue: float, saturation: float, value: float) -> Floats:
    """RGB 0..255, float32 [3]; hue in degrees."""
    return np.array(colorsys.hsv_to_rgb(hue % 360 / 360, saturation, value), np.float32) * 255


def _area(picture: Floats, height: int, width: int) -> Floats:
    """Average down to height x width."""
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA))


def _noise(rng: np.random.Generator, high: int, wide: int, cells: float) -> Floats:
    """Smooth noise, float32 [high,wide], about -1..1, with `cells` cells along the shorter side."""
    cell = max(min(high, wide) / cells, 1.0)
    shape = (int(high / cell) + 2, int(wide / cell) + 2)
    grid = rng.uniform(-1, 1, shape).astype(np.float32)
    return np.asarray(cv2.resize(grid, (wide, high), interpolation=cv2.INTER_CUBIC), np.float32)


def _texture(rng: np.random.Generator, high: int, wide: int) -> Floats:
    """A texture, float32 [high,wide], about -1..1: clouds, stripes, checks or speckle."""
    kind = rng.choice(4, p=[0.45, 0.25, 0.1, 0.2])
    if kind == 0:
        cells = rng.uniform(1.5, 6)
        coarse, fine = _noise(rng, high, wide, cells), _noise(rng, high, wide, cells * 4)
        return coarse * 0.7 + fine * 0.5
    if kind == 3:
        return np.sign(_noise(rng, high, wide, rng.uniform(8, 24)))
    angle, waves = rng.uniform(0, np.pi), rng.uniform(3, 14) * 2 * np.pi / min(high, wide)
    x = np.arange(wide, dtype=np.float32)[None]
    y = np.arange(high, dtype=np.float32)[:, None]
    c, s = np.float32(np.cos(angle) * waves), np.float32(np.sin(angle) * waves)
    wobble = np.float32(rng.uniform(0, 1.5)) * _noise(rng, high, wide, 3)
    along: Floats = np.sin(x * c + y * s + wobble)
    if kind == 2:
        along = along * np.sin(y * c - x * s + wobble)
    return np.asarray(np.clip(along * rng.uniform(1, 4), -1, 1), np.float32)


def _ground(rng: np.random.Generator, high: int, wide: int) -> Floats:
    """The ground, float32 [high,wide,3], 0..255: two textures between three colours."""
    hue = rng.uniform(0, 360)
    colours = [
        _colour(hue + rng.normal(0, 60), rng.uniform(0.05, 0.7), rng.uniform(0.2, 0.95))
        for _ in range(3)
    ]
    first = (_texture(rng, high, wide) * 0.5 + 0.5)[..., None]
    second = (_texture(rng, high, wide) * 0.5 + 0.5)[..., None] * np.float32(rng.uniform(0.2, 0.7))
    ground = colours[0] + (colours[1] - colours[0]) * first
    ground += (colours[2] - ground) * second
    return np.clip(ground, 0, 255, out=ground)


def _fill(polygons: tuple[Points, ...], high: int, wide: int) -> Pixels:
    """Mask uint8 [high,wide], 0 or 255, of polygons in pixels filled by the even-odd rule."""
    mask = np.zeros((high, wide), np.uint8)
    fixed = [np.round(points * (1 << _SHIFT)).astype(np.int32) for points in polygons]
    cv2.fillPoly(mask, fixed, 255, cv2.LINE_8, _SHIFT)
    return mask


def _surface(rng: np.random.Generator, mask: Pixels) -> Floats:
    """Light on a surface, float32 like the mask, 0.5..1.3: rounded edges, slope and texture."""
    high, wide = mask.shape
    depth = cv2.distanceTransform(mask, cv2.DIST_L2, 3)
    edge = np.minimum(depth / (0.02 + rng.uniform(0.02, 0.12) * max(high, wide)), 1)
    angle = rng.uniform(0, 2 * np.pi)
    x = np.linspace(-1, 1, wide, dtype=np.float32)[None] * np.float32(np.cos(angle))
    y = np.linspace(-1, 1, high, dtype=np.float32)[:, None] * np.float32(np.sin(angle))
    slope = (x + y) * np.float32(rng.uniform(0, 0.18))
    texture = _texture(rng, high, wide) * np.float32(rng.uniform(0, 0.18))
    return np.asarray(0.62 + 0.4 * edge + slope + texture, np.float32)


def _blend(region: Floats, mask: Pixels, paint: Floats) -> None:
    """Paint where the mask is set, in place."""
    np.copyto(region, np.clip(paint, 0, 255), where=(mask > 0)[..., None])


def _distractor(rng: np.random.Generator, canvas: Floats) -> None:
    """Paint something that is no class: disc, bar, wedge, blob, stroke or a patch of texture."""
    high, wide = canvas.shape[:2]
    side = min(high, wide)
    kind = int(rng.integers(6))
    radius = side * (0.04 + 0.16 * rng.uniform() ** 1.5)
    centre = rng.uniform(0, 1, 2) * (wide, high)
    turn = rng.uniform(0, 2 * np.pi)
    flat = rng.uniform(0.3, 1.0)
    if kind == 0:
        points = ellipse(0, 0, 1, flat)
    elif kind in (1, 5):
        points = np.array([(-1, -flat), (1, -flat), (1, flat), (-1, flat)])
    elif kind == 2:
        points = np.stack([np.cos(a := rng.uniform(0, 2) + np.array([0, 2, 4.2])), np.sin(a)], 1)
    elif kind == 3:
        count = int(rng.integers(5, 9))
        angle = np.sort(rng.uniform(0, 2 * np.pi, count))
        points = np.stack([np.cos(angle), np.sin(angle)], 1) * rng.uniform(0.4, 1.2, (count, 1))
    else:
        # A stroke: a random walk made thick.
        walk = np.cumsum(rng.normal(0, 0.7, (int(rng.integers(2, 5)), 2)), 0) * radius + centre
        mask = np.zeros((high, wide), np.uint8)
        thick = max(int(side * rng.uniform(0.006, 0.04)), 1)
        cv2.polylines(mask, [np.round(walk).astype(np.int32)], False, 255, thick)
        _blend(canvas, mask, np.broadcast_to(_vivid(rng), canvas.shape))
        return
    cosine, sine = np.cos(turn), np.sin(turn)
    points = points * radius @ np.array([(cosine, sine), (-sine, cosine)]) + centre
    x0, y0 = np.maximum(np.floor(points.min(0)).astype(int) - 1, 0)
    x1, y1 = np.minimum(np.ceil(points.max(0)).astype(int) + 2, (wide, high))
    if x1 <= x0 or y1 <= y0:  # a blob need not hold its centre, so it can miss the picture
        return
    region = canvas[y0:y1, x0:x1]
    mask = _fill((points - (x0, y0),), y1 - y0, x1 - x0)
    if kind == 5:
        grid = rng.uniform(0, 255, (*(np.array(mask.shape) // 3 + 1), 3)).astype(np.float32)
        patch = cv2.resize(grid, mask.shape[::-1], interpolation=cv2.INTER_NEAREST)
        paint = np.asarray(patch * 0.6 + _vivid(rng) * 0.4, np.float32)
    else:
        paint = _surface(rng, mask)[..., None] * _vivid(rng)
    _blend(region, mask, paint)


def _vivid(rng: np.random.Generator, hue: float | None = None) -> Floats:
    hue = rng.uniform(0, 360) if hue is None else hue
    return _colour(hue, rng.uniform(0.45, 1.0), rng.uniform(0.55, 1.0))


def _palette(rng: np.random.Generator, hues: tuple[float, ...], ground: Floats) -> list[Floats]:
    """A colour [3] per tone; the base colour keeps away from the ground's mean colour."""
    for _ in range(12):
        usual = rng.uniform() < 0.5
        base = _vivid(rng, float(rng.choice(hues)) + rng.normal(0, 8) if usual else None)
        if float(np.linalg.norm(base - ground)) > 90:
            break
    second = _vivid(rng)
    palette = [base, second, base, base, base]
    palette[BASE], palette[SECOND] = base, second
    palette[DARK] = second * 0.35 + rng.uniform(0, 20)
    palette[LIGHT] = second * 0.25 + rng.uniform(150, 190)
    palette[GREEN] = _colour(rng.uniform(80, 140), rng.uniform(0.5, 0.9), rng.uniform(0.3, 0.7))
    return palette


def _object(rng: np.random.Generator, canvas: Floats, label: int, *, paint: bool) -> Pixels:
    """Paint an object of the class in place; returns its silhouette, uint8 [H,W], 0 or 255."""
    high, wide = canvas.shape[:2]
    kind = KINDS[label]
    layers = kind.outline(rng)
    turn = np.radians(rng.uniform(-kind.turn, kind.turn))
    mirror = rng.choice([-1.0, 1.0])
    narrow = np.exp(rng.uniform(-0.15, 0.15))
    matrix = np.array([(mirror * narrow, 0), (0, 1 / narrow)]) @ np.array(
        [(np.cos(turn), np.sin(turn)), (-np.sin(turn), np.cos(turn))]
    )
    layers = [Layer(tuple(p @ matrix for p in layer.polygons), layer.tone) for layer in layers]
    points = np.concatenate([p for layer in layers for p in layer.polygons])
    low, extent = points.min(0), np.ptp(points, axis=0)
    # The longer side takes 30..75 % of the picture's shorter side.
    scale = min(high, wide) * (0.3 + 0.45 * rng.uniform()) / extent.max()
    room = np.array([wide, high]) - extent * scale
    origin = room * rng.uniform(0.02, 0.98, 2)
    x0, y0 = np.maximum(np.floor(origin).astype(int) - 1, 0)
    x1, y1 = np.minimum(np.ceil(origin + extent * scale).astype(int) + 2, (wide, high))
    region = canvas[y0:y1, x0:x1]
    palette = _palette(rng, kind.hues, region.mean((0, 1)))
    silhouette = np.zeros((high, wide), np.uint8)
    for layer in layers:
        polygons = tuple((p - low) * scale + origin - (x0, y0) for p in layer.polygons)
        mask = _fill(polygons, y1 - y0, x1 - x0)
        silhouette[y0:y1, x0:x1] |= mask
        if paint:
            _blend(region, mask, _surface(rng, mask)[..., None] * palette[layer.tone])
    return silhouette
