"""The reference of any classifier: central differences of the source itself, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...runtime.arrays import Array
from ...runtime.contract import Contract
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

    In float64 a step this small crosses few kinks and still has nine digits. ``slopes``: what the
    classifier is held to around each image.
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
        return np.stack([np.asarray(scores).reshape(count, -1)[0] for scores in one_by_one])

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
    step = 1e-7 if contract.image.dtype == "uint8" else 1e-9
    if slopes is not None:  # which leaves no kinks of ReLUs to cross
        step *= 1e3
    expected, found = [], []
    for n, (image, classes, gradient) in enumerate(
        zip(measured.pixels, measured.classes, measured.gradient, strict=True)
    ):
        if slopes is not None:
            slopes.image(n)
        direction = rng.standard_normal(image.shape)
        moved = np.stack([image + step * direction, image - step * direction])
        reference.anchor({input_name: np.repeat(prepared(image[None]), max(dims[0], 1), 0)})
        ahead, behind = run(reference, moved, np.float64)
        expected.append((ahead[classes] - behind[classes]) / (2 * step))
        found.append((gradient * direction).sum((1, 2, 3)))
    return np.concatenate(expected), np.concatenate(found), scores


def _admits(dims: list[int], wanted: list[int]) -> bool:
    """Whether declared lengths, 0 where dynamic, allow these."""
    return all(d in (0, w) for d, w in zip(dims, wanted, strict=True))
