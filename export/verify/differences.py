"""The reference of any classifier: central differences of the source itself, in float64.

Two directions are gone along at each image: one moves the pixels, one the feature maps that maps
are made of, all at once. Every second image's directions are long where the file's gradient is
short, so that a corner that is wrongly zero shows as much as the middle; not in half precision,
which rounds short gradients away.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...runtime.arrays import Array
from ...runtime.contract import Contract
from .fixed_slopes import FixedSlopes
from .kinks import Kept
from .measured import Measured
from .outputs import power_of_two
from .reference import Evaluator, moved
from .source import Source

STEPS = (1e-3, 1e-6, 1e-1, 1e1, 1e3)  # in pixel values 0..255; the first that settles it is enough
UNIT = 1 / 64  # of that, where the image is what the classifier takes
LEAST = 0.01  # of the mean magnitude: as short a gradient as a direction makes up for


@dataclasses.dataclass(frozen=True)
class Derivatives:
    """Derivatives along one direction, of the scores of the classes explained at one image.

    Attributes:
        of: ``image``, or ``features``: the feature maps that maps are made of.
        image: number of the image.
        expected, found: [K], by the reference and by the file's gradient, over the length that is
            usual for a gradient of its size.
        noise: [K], how far the reference's own two best steps are apart.
        scale: what the file's gradient is multiplied by inside; a power of two in half precision.
    """

    of: str
    image: int
    expected: Array
    found: Array
    noise: Array
    scale: float = 1.0

    @property
    def error(self) -> Array:
        """How far the file is off, [K]."""
        return np.abs(self.expected - self.found) / np.maximum(1.0, np.abs(self.expected))


def differences(
    source: Source,
    measured: Measured,
    contract: Contract,
    kept: Kept | None = None,
    wanted: Sequence[str] = ("image", "features"),
    settled: float = 1e-4,
) -> list[Derivatives]:
    """Derivatives along random directions, by central differences and by the file's gradients.

    Args:
        source: the classifier.
        measured: images, classes and gradients; what it has seen decides the sides of kinks.
        contract: how pixels become the classifier's input.
        kept: what is held while a step is made; None: masks, maxima and roundings.
        wanted: what is moved: the image, the feature maps.
        settled: a step that comes so close to the file's gradient ends the search for one.
    """
    half = contract.precision in ("float16", "bfloat16")
    kept, taps = kept or Kept(), [t for t in source.taps if t in measured.taps]
    engine = Evaluator(source.detached, kept=kept, taps=taps)
    unit = 1.0 if contract.image.dtype == "uint8" else UNIT
    rng, made = np.random.default_rng(1), []
    for n, classes in enumerate(measured.classes):
        feed = source.feed(measured.pixels[n], contract)
        if isinstance(kept, FixedSlopes):
            kept.image(n)
        engine.anchor(feed, measured.seen[n] if measured.seen else None)
        even = n % 2 == 1 and not half

        def along(steps: Array, n: int = n, classes: Array = classes) -> Array:
            ahead, behind = (
                source.scores(engine, source.feed(measured.pixels[n] + by, contract))[classes]
                for by in (steps, -steps)
            )
            return np.asarray(ahead - behind) / 2

        if "image" in wanted and measured.gradient is not None:
            gradient = measured.gradient[n]
            way = _direction(gradient, rng, even)
            sizes = [unit * step for step in STEPS]
            found = (gradient * way).sum((1, 2, 3))
            tried = _Tried(lambda by, way=way: along(by * way), sizes, settled)
            made.append(tried.derivatives("image", n, found, _length(gradient, way)))
        if "features" in wanted and taps:
            made.append(_of_features(source, engine, measured, feed, n, even, rng, settled, half))
    return made


def _of_features(
    source: Source, engine: Evaluator, measured: Measured, feed: dict[str, Array], n: int,
    even: bool, rng: np.random.Generator, settled: float, scaled: bool,
) -> Derivatives:  # fmt: skip
    """All feature maps moved at once, so that each counts as much as the others."""
    classes, taps = measured.classes[n], {t: measured.taps[t] for t in source.taps}
    ways = {t: _direction(tap.gradient[n], rng, even) for t, tap in taps.items()}
    lengths = {t: _length(tap.gradient[n], ways[t]) for t, tap in taps.items()}
    sizes = {t: float(np.sqrt(np.mean(tap.value[n] ** 2))) or 1.0 for t, tap in taps.items()}
    counts = [lengths[t][0] * sizes[t] for t in taps if lengths[t][0] > 0]
    usual = float(np.exp(np.mean(np.log(counts)))) if counts else 1.0
    share = {t: usual / lengths[t][0] if lengths[t][0] > 0 else sizes[t] for t in taps}
    ways = {t: way * share[t] for t, way in ways.items()}
    found = sum((tap.gradient[n] * ways[t]).reshape(len(classes), -1).sum(1)
                for t, tap in taps.items())  # fmt: skip
    length = np.sqrt(sum((lengths[t] * share[t]) ** 2 for t in taps))

    def along(step: float) -> Array:
        both = []
        for sign in (step, -step):
            by = {moved(t): np.repeat(sign * way[None], source.count, 0) for t, way in ways.items()}
            both.append(source.scores(engine, feed | by)[classes])
        return np.asarray(both[0] - both[1]) / 2

    tried = _Tried(along, [step / 100 for step in STEPS[:3]], settled, scaled)
    return tried.derivatives("features", n, np.asarray(found), np.asarray(length))


@dataclasses.dataclass(frozen=True)
class _Tried:
    """Steps of several lengths along one direction, until one agrees with the file."""

    along: Any
    sizes: Sequence[float]
    settled: float
    scaled: bool = False

    def derivatives(self, of: str, n: int, found: Array, length: Array) -> Derivatives:
        length, factor = np.where(length > 0, length, 1.0), 1.0
        if self.scaled:
            factor = power_of_two(found, self.along(self.sizes[0]) / self.sizes[0])
            found, length = found * factor, length * factor
        by_step: list[Array] = []
        for size in self.sizes:
            by_step.append(self.along(size) / size / length)
            if self._off(by_step[-1], found / length).max() <= self.settled:
                break
        off = [self._off(expected, found / length).max() for expected in by_step]
        best = int(np.argmin(np.nan_to_num(off, nan=np.inf)))
        others = [np.abs(by_step[best] - e) for i, e in enumerate(by_step) if i != best]
        # A step so long that scores are no numbers says nothing of the others.
        noise = np.fmin.reduce(others) if others else np.zeros(len(found))
        noise = np.nan_to_num(noise, nan=np.inf)
        return Derivatives(of, n, by_step[best], found / length, noise, 1 / factor)

    @staticmethod
    def _off(expected: Array, found: Array) -> Array:
        return np.abs(expected - found) / np.maximum(1.0, np.abs(expected))


def _direction(gradient: Array, rng: np.random.Generator, even: bool) -> Array:
    """A random direction, of length 1 an element on average; ``even``: longer where there is less.

    Args:
        gradient: of all classes, [K, ...]; the first one counts.
        rng: draws it.
        even: whether every element counts as much as the others.
    """
    way = rng.standard_normal(gradient.shape[1:])
    if even:
        size = np.abs(gradient[0])
        way = way / (size + (LEAST * size.mean() or 1.0))
    return np.asarray(way / np.sqrt(np.mean(way**2)))


def _length(gradient: Array, way: Array) -> Array:
    """How large a derivative along a direction is as a rule, [K]."""
    return np.sqrt(((gradient * way) ** 2).reshape(len(gradient), -1).sum(1))
