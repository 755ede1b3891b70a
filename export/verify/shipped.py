"""The file as it is shipped: optimised by ONNX Runtime, in batches, for any classes."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ...runtime.arrays import Array
from ...runtime.contract import MOST_RANKS, Contract, OutputCheck
from ..graph.protos import with_outputs
from ..graph.weights import Detached, session
from ..wrap import GRADIENT
from .measured import Measured
from .outputs import map_of, ranked

BATCHES = 1e-2  # of one batch from another; masks near zero flip


@dataclasses.dataclass(frozen=True)
class Shipped:
    """How the file does as ONNX Runtime runs it.

    Attributes:
        rounding: by output: relative L2 from the run that is not optimised.
        cosine: of its gradients, or its maps, and those of that run.
        checks: batches and numbers of classes, ``batch``; all ranks, ``ranks``.
    """

    rounding: dict[str, float]
    cosine: float
    checks: tuple[OutputCheck, ...]


def shipped(model: Detached, contract: Contract, measured: Measured, alone: bool) -> Shipped:
    """Run it so.

    Args:
        model: the file's graph.
        contract: its metadata.
        measured: what the run that is not optimised returned.
        alone: only one image at a time, as a graph whose ranges are those of the batch wants.
    """
    names = ["scores", "class", "score", *(made.name for made in contract.maps)]
    has = {y for node in model.proto.graph.node for y in node.output}
    read = [*names, *([GRADIENT] if GRADIENT in has else [])]
    # Quantised nodes would become kernels that saturate on some processors.
    quantised = any("QuantizeLinear" in node.op_type for node in model.proto.graph.node)
    runs = session(model.replace(with_outputs(model.proto, read)), optimise=not quantised)

    def run(images: Array, index: Array) -> dict[str, Array]:
        parts = [slice(i, i + 1) for i in range(len(images))] if alone else [slice(None)]
        made = [runs.run(read, {"image": images[p], "class_index": index[p]}) for p in parts]
        found = {}
        for i, name in enumerate(read):
            axis = 1 if name == GRADIENT else 0
            found[name] = np.concatenate([m[i] for m in made], axis)
        if GRADIENT in found:
            found[GRADIENT] = found[GRADIENT].swapaxes(0, 1)
        return found

    count, ranks = measured.classes.shape
    whole = run(measured.image, np.tile(-1 - np.arange(ranks), (count, 1)))
    before = {**measured.outputs}
    if measured.gradient is not None and GRADIENT in whole:
        before[GRADIENT] = measured.gradient
    same = whole["class"] == measured.classes
    sizes = {made.name: map_of(made, measured)[1] for made in contract.maps}
    rounding = {
        name: relative(whole[name], before[name], same, sizes.get(name, 0.0))
        for name in read if name in before
    }  # fmt: skip
    toward = next(n for n in (GRADIENT, *names[3:]) if n in whole and n in before)
    a, b = (v[same].astype(np.float64).ravel() for v in (whole[toward], before[toward]))
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return Shipped(
        {name: value for name, value in rounding.items() if name not in ("class", "score")},
        float(a @ b) / lengths if lengths else 0.0,
        (_batches(run, measured.image, whole, sizes, rounding), _ranks(model, measured)),
    )


def _batches(
    run: Any,
    image: Array,
    whole: dict[str, Array],
    sizes: dict[str, Array | float],
    rounding: dict[str, float],
) -> OutputCheck:
    """One image and class alone, and three images with classes by number and by rank."""
    most, allowed = 0.0, max([BATCHES, *(5 * rounding[name] for name in sizes)])
    three = np.arange(3) % len(image)
    first, last = whole["class"][three, 0], whole["class"][three, -1]
    ranks = whole["class"].shape[1]
    for images, index, classes in (
        ([0], np.array([[-1]]), whole["class"][:1, :1]),
        (three, np.stack([last, np.full(3, -1)], 1), np.stack([last, first], 1)),
    ):
        found = run(image[images], index)
        places = [0] if len(images) == 1 else [ranks - 1, 0]
        same = found["class"] == classes
        for name in ("scores", "score", *sizes):
            wanted, size = whole[name][images], sizes.get(name, 0.0)
            if name != "scores":
                wanted = wanted[:, places]
                size = size if isinstance(size, float) else size[images][:, places]
            most = max(most, relative(found[name], wanted, same, size))
        most = most if same.mean() > 0.5 else float("inf")
    return OutputCheck("batch", most, allowed)


def _ranks(model: Detached, measured: Measured) -> OutputCheck:
    """The share of wrong classes, over every rank, the first beyond them, and each by number."""
    classes = measured.scores.shape[1]
    runs = session(model.replace(with_outputs(model.proto, ["class", "scores"])), optimise=False)
    every = np.arange(min(classes, MOST_RANKS) + 1)
    index = np.tile(np.concatenate([-1 - every, np.arange(classes)]), (len(measured.image), 1))
    wrong = 0
    for image, asked in zip(measured.image[:, None], index[:, None], strict=True):
        found, scores = runs.run(["class", "scores"], {"image": image, "class_index": asked})
        wrong += int((found != ranked(scores, asked)).sum()) if found.shape == asked.shape else 1
    return OutputCheck("ranks", wrong / index.size, 0.0)


def relative(
    found: Array, expected: Array, same: Array | None = None, size: Array | float = 0.0
) -> float:
    """Relative L2 distance.

    Args:
        found, expected: [N, K, ...], or of another shape.
        same: which images and classes count, [N, K].
        size: what a number was summed of, where that is more than itself.
    """
    size = np.maximum(np.abs(expected), size)
    if same is not None and found.shape[:2] == same.shape and found.ndim > 1:
        found, expected, size = found[same], expected[same], size[same]
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    length = float(np.linalg.norm(size))
    gap = float(np.linalg.norm(found.astype(np.float64) - expected))
    return gap / length if length else (0.0 if not gap else float("inf"))
