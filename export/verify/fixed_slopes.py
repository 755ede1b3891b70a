"""Is the map right where the ReLU rule is not the gradient? Finite differences all the same.

What deconvnet and guided backpropagation compute is no derivative of the classifier. But hold every
rectifier, around one image, to the line whose slope the rule gives there (0, 1, or LeakyRelu's):
the classifier so changed has that map for its gradient, and central differences measure it without
any of Backlit's backward rules. The slopes need the gradients that arrive at the rectifiers, which
a graph made for the purpose returns; a wrong one of them gives other slopes and, from there on, a
map that the differences do not have.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference.op_run import OpRun

from ...runtime.arrays import Array
from ...runtime.contract import Contract, Relu
from ..autodiff.rectifiers import Rectifier
from ..graph.rewrites import PORTABLE
from ..graph.values import attribute, constant
from ..graph.weights import Detached, detach, session
from ..prepare.classifier import prepare
from ..wrap import wrap
from .kinks import Kept


class FixedSlopes(Kept):
    """As ``Kept``, and rectifiers follow the slopes that the rule has for one image and class.

    Args:
        source: the classifier that the file was made of.
        contract: the file's metadata.
        images: as the file takes them, [N, ...].
        classes: which one to explain of each, [N].
    """

    def __init__(self, source: ir.Model, contract: Contract, images: Array, classes: Array) -> None:
        super().__init__()
        self._slopes: list[dict[str, Array]] = []
        self._now: dict[str, Array] = {}
        graph, rectifiers = _with_gradients(source, contract)
        names = list(dict.fromkeys(str(v.name) for _, r in rectifiers for v in (r.x, r.g)))
        declared = {v.name for v in graph.proto.graph.output}
        new = [name for name in names if name not in declared]
        graph.proto.graph.output.extend(map(onnx.helper.make_empty_tensor_value_info, new))
        # Outputs in the middle crash ONNX Runtime 1.31 where it changes layouts (NCHWc).
        runs = session(graph, optimise=False)
        for image, chosen in zip(images, classes, strict=True):
            feed = {"image": image[None], "class_index": np.array([[chosen]])}
            value = dict(zip(names, runs.run(names, feed), strict=True))
            found = {}
            for y, (node, x, g) in rectifiers:
                at, upstream = value[str(x.name)], value[str(g.name)]
                found[y] = slope(node, at, upstream.reshape(at.shape), contract.relu)
            self._slopes.append(found)

    def image(self, n: int) -> None:
        """Follow the slopes of that image from here on."""
        self._now = self._slopes[n]

    def ops(self) -> list[type[OpRun]]:
        """The operators of quantised models, and those that rectify."""
        others = [op for op in super().ops() if op.__name__ not in _VALUES]
        return [*others, *(self._rectifier(name) for name in _VALUES)]

    def _rectifier(self, op_type: str) -> type[OpRun]:
        plain = next((op for op in super().ops() if op.__name__ == op_type), None)

        def run(op: Any, *inputs: Any, **attributes: Any) -> tuple[Any]:
            name = op.onnx_node.output[0]
            if name not in self._now and plain is not None:
                held: tuple[Any] = plain._run(op, *inputs, **attributes)  # type: ignore[no-untyped-call]
                return held
            y, x = _VALUES[op_type](*inputs, **attributes), max(inputs, key=np.size)
            if name not in self._now:
                return (y,)
            x0, y0 = self.parts.setdefault(name, (x, y))
            return (y0 + self._now[name] * (x - x0),)

        return type(op_type, (OpRun,), {"_run": run})


def _with_gradients(
    source: ir.Model, contract: Contract
) -> tuple[Detached, list[tuple[str, Rectifier]]]:
    """The classifier with its backward pass; its rectifiers by the name of their output."""
    size = contract.image.height, contract.image.width
    model, image, scores, _ = prepare(source, size, score=contract.score)
    names = {y: str(y.name) for node in model.graph for y in node.outputs}
    wrapped = wrap(
        model.graph, image, scores, contract.image, contract.normalisation, ["gradient"], PORTABLE,
        contract.relu,
    )  # fmt: skip
    return detach(model), [(names[r.node.outputs[0]], r) for r in wrapped.rectifiers]


def slope(node: ir.Node, x: Array, g: Array, rule: Relu) -> Array:
    """What a rectifier multiplies the gradient by, from its input and its output's gradient."""
    below: Any = {"LeakyRelu": attribute(node, "alpha", 0.01)}.get(node.op_type, 0.0)
    if node.op_type == "PRelu":
        below = constant(node.inputs[1])
    threshold = attribute(node, "alpha", 1.0) if node.op_type == "ThresholdedRelu" else 0.0
    bound = constant(node.inputs[2]) if node.op_type == "Clip" and len(node.inputs) > 2 else None
    by_x = np.where(x > threshold, 1.0, below)
    by_g = np.where(g > 0, 1.0, below)
    within = 1.0 if bound is None else x < bound
    made: Array = {"gradient": by_x, "deconvnet": by_g, "guided": by_x * by_g}[rule] * within
    return made


def _leaky(x: Array, slope: Any) -> Array:
    return np.where(x > 0, x, slope * x)


_VALUES: dict[str, Callable[..., Array]] = {
    "Relu": lambda x: np.maximum(x, 0),
    "LeakyRelu": lambda x, alpha=0.01: _leaky(x, alpha),
    "PRelu": _leaky,
    "ThresholdedRelu": lambda x, alpha=1.0: np.where(x > alpha, x, 0),
    "Clip": lambda x, low=None, high=None: np.clip(x, low, high),
    "Max": lambda *inputs: functools.reduce(np.maximum, inputs),
}

__all__ = ["FixedSlopes"]
