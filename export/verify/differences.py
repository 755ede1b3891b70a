"""The reference of any classifier: central differences of the source itself, in float64."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...runtime.arrays import Array
from ...runtime.contract import Contract, Score
from ...runtime.errors import VerificationError
from ..graph.protos import with_output
from ..graph.weights import Detached, session
from ..probes import preprocessed
from .fixed_slopes import FixedSlopes
from .measured import Measured
from .reference import Evaluator

MOVED = 1e-3  # of the largest score: then the original is run as it is written, too


def apart(found: Array, scores: Array) -> float:
    """The largest difference of a score, over the largest score."""
    return float(np.abs(found - scores).max() / np.abs(scores).max())


def differences(
    source: Detached,
    measured: Measured,
    contract: Contract,
    smooth: bool = False,
    slopes: FixedSlopes | None = None,
) -> tuple[Array, Array, Array]:
    """Derivatives along a random direction per image, by central differences and by our gradient.

    In float64 a step this small crosses few kinks and still has nine digits, unless the score
    hardly depends on the image: then the differences are those of rounding. Where there are no
    kinks to cross (``smooth``) steps of several lengths are tried, and of two neighbouring ones
    that agree best the longer is taken.

    Args:
        source: the classifier.
        measured: images, classes and gradients.
        contract: how pixels become the classifier's input.
        smooth: hold the classifier to the masks that it has at each image.
        slopes: what rectifiers are held to around each image.

    Returns:
        float64 [N*K] by differences and by the gradient; the classifier's own scores [N,classes].
    """
    tensor = contract.score.tensor
    single = with_output(source.proto, tensor)
    weights = {t.name for t in single.graph.initializer}
    image = next(v for v in single.graph.input if v.name not in weights)
    input_name, dims = image.name, [d.dim_value for d in image.type.tensor_type.shape.dim]
    spec, made = contract.image, {y for node in single.graph.node for y in node.output}
    first, last = [spec.channels, spec.height, spec.width], [spec.height, spec.width, spec.channels]
    fits = [len(dims) == 4 and _admits(dims[1:], wanted) for wanted in (first, last)]
    if tensor not in made or not any(fits):
        raise VerificationError(
            f"the source takes images {dims} or has no tensor {tensor!r}: it is not the classifier "
            f"this file was made of ({contract.source.name}).",
            "give the classifier that was exported.",
        )
    source = source.replace(single)

    def prepared(pixels: Array) -> Array:
        x = preprocessed(pixels, contract) if contract.image.dtype == "uint8" else pixels
        return x if fits[0] else x.transpose(0, 2, 3, 1)

    def run(engine: Any, pixels: Array, dtype: Any) -> Array:
        x, count = prepared(pixels).astype(dtype), max(dims[0], 1)  # the source's fixed batch
        one_by_one = [engine.run([tensor], {input_name: np.stack([v] * count)})[0] for v in x]
        return np.stack(
            [per_class(np.asarray(scores), contract.score, count) for scores in one_by_one]
        )

    # One engine after the other: each holds the weights once more.
    original = session(source)
    half = original.get_inputs()[0].type == "tensor(float16)"
    scores = run(original, measured.pixels, np.float16 if half else np.float32)
    del original
    if apart(measured.scores, scores) > MOVED:  # what ONNX Runtime fuses may round elsewhere (QDQ)
        plain = session(source, optimise=False)
        exactly = run(plain, measured.pixels, np.float16 if half else np.float32)
        scores = min(scores, exactly, key=lambda s: apart(measured.scores, s))
    reference, rng = Evaluator(source, smooth, slopes), np.random.default_rng(1)
    unit = 1e-7 if contract.image.dtype == "uint8" else 1e-9
    steps = [unit]
    if slopes is not None:
        steps = [1e3 * unit]
    elif reference.smooth:
        steps = [unit * 10**power for power in (1, 3, 5, 7, 9)]
    expected, found = [], []
    for n, (image, classes, gradient) in enumerate(
        zip(measured.pixels, measured.classes, measured.gradient, strict=True)
    ):
        if slopes is not None:
            slopes.image(n)
        direction = rng.standard_normal(image.shape)
        reference.anchor({input_name: np.repeat(prepared(image[None]), max(dims[0], 1), 0)})
        tried, rounding = [], []
        for step in steps:
            moved = np.stack([image + step * direction, image - step * direction])
            ahead, behind = run(reference, moved, np.float64)
            tried.append((ahead[classes] - behind[classes]) / (2 * step))
            rounding.append(float(np.abs(ahead).max()) * np.finfo(np.float64).eps / step)
        expected.append(_steadiest(tried, rounding))
        found.append((gradient * direction).sum((1, 2, 3)))
    return np.concatenate(expected), np.concatenate(found), scores


def _steadiest(tried: Sequence[Array], rounding: Sequence[float]) -> Array:
    """Of differences by steps of growing length, the longer of the two that agree best.

    Args:
        tried: by step.
        rounding: what the last digit of a score makes of them, by step.
    """
    if len(tried) == 1:
        return tried[0]
    apart = [float(np.linalg.norm(long - short)) for short, long in itertools.pairwise(tried)]
    return tried[1 + int(np.argmin(np.add(apart, rounding[:-1])))]


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
