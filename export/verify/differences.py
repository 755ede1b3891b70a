"""The reference of any classifier: central differences of the source itself, in float64.

Two directions are gone along at each image: one moves the pixels, one the feature maps that maps
are made of, all at once. Every second image's directions are long where the file's gradient is
short, so that a corner that is wrongly zero shows as much as the middle.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from ...runtime.arrays import Array
from ...runtime.contract import Contract, Score
from ...runtime.errors import VerificationError
from ..graph.protos import with_outputs
from ..graph.weights import Detached, detach, session
from ..prepare.classifier import prepare
from ..probes import preprocessed
from .fixed_slopes import FixedSlopes
from .kinks import Kept
from .measured import Measured
from .outputs import power_of_two
from .reference import Evaluator, moved

STEPS = (1e-3, 1e-6, 1e-1, 1e1)  # in pixel values 0..255; the first that settles it is enough
UNIT = 1 / 64  # of that, where the image is what the classifier takes
LEAST = 0.01  # of the mean magnitude: as short a gradient as a direction makes up for


def apart(found: Array, scores: Array) -> float:
    """The largest difference of a score, over the largest score; nan where one is no number."""
    if found.shape != scores.shape:
        return float("nan")
    if not (np.isfinite(found).all() and np.isfinite(scores).all()):
        return float("nan")
    size, gap = float(np.abs(scores).max()), float(np.abs(found - scores).max())
    return gap / size if size else gap


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


@dataclasses.dataclass(frozen=True)
class Source:
    """A classifier as the reference runs it, one image at a time.

    Attributes:
        detached: its graph, whose one output is the tensor of the scores.
        input: the image's name.
        count: images in its fixed batch, else 1.
        channels_last: it takes [N, H, W, C].
        taps: feature maps that it has under the names in the metadata.
        score: which of its numbers are scores.
    """

    detached: Detached
    input: str
    count: int
    channels_last: bool
    taps: tuple[str, ...]
    score: Score

    @property
    def quantised(self) -> bool:
        """Whether it computes with integers."""
        kinds = {node.op_type for node in self.detached.proto.graph.node}
        return any(part in kind for kind in kinds for part in ("Quantize", "QLinear", "Integer"))

    def feed(self, pixels: Array, contract: Contract) -> dict[str, Array]:
        """One image [C, H, W], in the graph's own image values, as the source takes it."""
        x = pixels[None]
        if contract.image.dtype == "uint8":
            x = preprocessed(x, contract)
        x = x.transpose(0, 2, 3, 1) if self.channels_last else x
        return {self.input: np.repeat(x, self.count, 0)}

    def scores(self, engine: Any, feed: Mapping[str, Array]) -> Array:
        """The image's scores, [classes]."""
        made = engine.run([self.score.tensor], feed)[0]
        return per_class(np.asarray(made), self.score, self.count)


def source_of(model: ir.Model, contract: Contract, taps: Sequence[str]) -> Source:
    """The classifier that a file was made of, with those feature maps if it has them.

    Raises:
        VerificationError: it is not that classifier.
    """
    detached, tensor, spec = detach(model), contract.score.tensor, contract.image
    single = with_outputs(detached.proto, [tensor])
    weights = {t.name for t in single.graph.initializer}
    image = next((v for v in single.graph.input if v.name not in weights), None)
    dims = [] if image is None else [d.dim_value for d in image.type.tensor_type.shape.dim]
    made = {y for node in single.graph.node for y in node.output}
    first, last = [spec.channels, spec.height, spec.width], [spec.height, spec.width, spec.channels]
    fits = [len(dims) == 4 and _admits(dims[1:], wanted) for wanted in (first, last)]
    if tensor not in made or image is None or not any(fits):
        raise VerificationError(
            f"the source takes images {dims} or has no tensor {tensor!r}: it is not the classifier "
            f"this file was made of ({contract.source.name}).",
            "give the classifier that was exported.",
        )
    has = tuple(t for t in taps if t in made)
    return Source(
        detached.replace(single), image.name, max(dims[0], 1), not fits[0], has, contract.score
    )


def prepared_source(
    model: ir.Model, contract: Contract, taps: Sequence[str]
) -> tuple[Source, Contract]:
    """The same, its forward pass as export prepared it: it has all feature maps by their names.

    With the metadata that fits it.
    """
    size = contract.image.height, contract.image.width
    made, _, scores, _ = prepare(model, size, score=contract.score)
    plain = dataclasses.replace(contract.score, tensor=str(scores.name), box_axis=None)
    contract = dataclasses.replace(contract, score=plain)
    return source_of(made, contract, taps), contract


def scores_of(
    source: Source, measured: Measured, contract: Contract, optimise: bool, exact: bool = False
) -> Array:
    """The source's own scores in ONNX Runtime, float64 [N, classes]."""
    runs = (
        session(source.detached, optimise, exact) if exact else session(source.detached, optimise)
    )
    half = runs.get_inputs()[0].type == "tensor(float16)"
    dtype = np.float16 if half else np.float32
    feeds = [source.feed(pixels, contract) for pixels in measured.pixels]
    typed = [{name: x.astype(dtype) for name, x in feed.items()} for feed in feeds]
    return np.stack([source.scores(runs, feed) for feed in typed]).astype(np.float64)


def scores_in_float64(
    source: Source, measured: Measured, contract: Contract, as_the_file: bool
) -> Array:
    """The source's own scores by the reference, [N, classes].

    ``as_the_file``: where a number is as near to two steps of a quantised network, it is rounded
    as in the file.
    """
    engine, made = Evaluator(source.detached), []
    for n, pixels in enumerate(measured.pixels):
        feed = source.feed(pixels, contract)
        engine.anchor(feed, measured.seen[n] if as_the_file and measured.seen else None)
        made.append(source.scores(engine, feed))
    return np.stack(made)


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
        even = n % 2 == 1 and not half  # which rounds short gradients away

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
        noise = np.min(others, 0) if others else np.zeros(len(found))
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


def per_class(scores: Array, score: Score, count: int) -> Array:
    """The first image's scores [classes] of what the source returned for a batch of ``count``."""
    if score.box_axis is not None:
        each = np.moveaxis(scores, score.box_axis, 1)  # [N, boxes, ...]
        if score.objectness is not None:
            own = score.objectness
            each = each[..., own, None] * each[..., own + 1 : own + 1 + score.classes]
        scores = each.max(1)
    first: Array = scores.reshape(count, -1)[0]
    return first


def _admits(dims: list[int], wanted: list[int]) -> bool:
    """Whether declared lengths, 0 where dynamic, allow these."""
    return all(d in (0, w) for d, w in zip(dims, wanted, strict=True))
