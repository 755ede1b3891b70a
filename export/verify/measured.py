"""The file under test, run on test images: its scores, classes and gradients."""

from __future__ import annotations

import dataclasses

import numpy as np

from ...runtime.arrays import Array
from ...runtime.contract import Contract
from ..graph.protos import with_output
from ..graph.weights import Detached, session
from ..probes import IMAGES, smooth_noise
from ..wrap import GRADIENT
from .reference import Evaluator


@dataclasses.dataclass(frozen=True)
class Measured:
    """What the file under test returned for the test images."""

    pixels: Array  # float64 [N, C, H, W], the graph's own image values
    scores: Array  # float32 [N, classes]
    classes: Array  # int64 [N, K]
    gradient: Array  # float64 [N, K, C, H, W]
    reduced: bool  # the file's own output is exactly this gradient, or its reduction


def in_float64(model: Detached, contract: Contract, measured: Measured) -> Measured:
    """The first image's first gradient again, the file itself computing in float64.

    float32 flips ReLU masks near zero, and a deep network multiplies that: PyTorch's own float32 is
    as far from its float64. In float64 a right gradient is right to many digits.
    """
    pixels, classes = measured.pixels[:1], measured.classes[:1, :1]
    image = pixels
    if contract.image.dtype == "uint8":
        image = pixels.astype(np.uint8).transpose(0, 2, 3, 1)
    engine = Evaluator(model.replace(with_output(model.proto, GRADIENT)))
    (gradient,) = engine.run([GRADIENT], {"image": image, "class_index": classes})
    return Measured(pixels, measured.scores[:1], classes, gradient.swapaxes(0, 1), reduced=True)


def measure(model: Detached, contract: Contract, ranks: int, optimise: bool) -> Measured:
    """Run the graph on test images."""
    pixels, image = smooth_noise(contract)
    ranks = min(ranks, contract.score.classes)
    runs = session(model.replace(with_output(model.proto, GRADIENT, keep=True)), optimise)
    index = np.tile(-1 - np.arange(ranks), (IMAGES, 1))
    by_pixel = [m.name for m in contract.maps if m.name in ("saliency", "gradient")]
    names = ["scores", "class", GRADIENT, *by_pixel]
    # A range that is measured at run time is that of the whole batch: then one image at a time.
    alone = any(node.op_type == "DynamicQuantizeLinear" for node in model.proto.graph.node)
    parts = [slice(i, i + 1) for i in range(IMAGES)] if alone else [slice(None)]
    made = [runs.run(names, {"image": image[p], "class_index": index[p]}) for p in parts]
    scores, classes = (np.concatenate([m[i] for m in made]) for i in range(2))
    gradient = np.concatenate([m[2] for m in made], axis=1).swapaxes(0, 1)
    same = {"saliency": np.abs(gradient).max(2), "gradient": gradient}
    reduced = all(
        np.array_equal(np.concatenate([m[i] for m in made]), same[name], equal_nan=True)
        for i, name in enumerate(by_pixel, 3)
    )
    return Measured(pixels, scores, classes, gradient.astype(np.float64), reduced)
