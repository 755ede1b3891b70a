"""The classifier that a file was made of, as the reference runs it, and its own scores."""

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
from ..graph.weights import Detached, attach, detach, session
from ..prepare.classifier import prepare
from ..prepare.normalise import share
from ..probes import preprocessed
from .measured import Measured
from .reference import Evaluator


def apart(found: Array, scores: Array) -> float:
    """The largest difference of a score, over the largest score; nan where one is no number."""
    if found.shape != scores.shape:
        return float("nan")
    if not (np.isfinite(found).all() and np.isfinite(scores).all()):
        return float("nan")
    size, gap = float(np.abs(scores).max()), float(np.abs(found - scores).max())
    return gap / size if size else gap


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
    whole, tensor, spec = detach(model), contract.score.tensor, contract.image
    shared = attach(with_outputs(whole.proto, [tensor]), whole.weights)
    share(shared)  # as export does: a feature map is all of what is computed twice
    detached = detach(shared)
    single = detached.proto
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
    return Source(detached, image.name, max(dims[0], 1), not fits[0], has, contract.score)


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
    runs = session(source.detached, optimise, exact)
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
