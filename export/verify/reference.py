"""The source classifier in float64: what gradients are measured against.

onnx's reference evaluator, with operators put right in which it strays from the specification.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from ...runtime.arrays import Array
from ..graph.weights import Detached, array, attach, detach
from ..prepare import expansions
from ..prepare.normalise import upgraded
from .convolutions import Conv, ConvTranspose
from .grid_sample import GridSample
from .kinks import Kept
from .mended import MENDED
from .pools import POOLS, MaxPool

OWN: list[Any] = [*MENDED, *POOLS, Conv, ConvTranspose, GridSample]
"""What onnx's evaluator lacks, strays in or is slow at, whatever runs; MaxPool has two forms."""


def expanded(model: Detached) -> Detached:
    """The same without the operators that export takes apart, too."""
    made = attach(upgraded(model.proto), model.weights)
    expansions.expand(made)
    return detach(made)


class Evaluator:
    """A model computing in float64; ``smooth`` (always, where it is quantised) around an anchor.

    Args:
        source: the model.
        smooth: hold roundings, maxima and masks to those at the anchor.
        kept: what holds them, if not `Kept`.
        taps: tensors in the middle; what a feed has for ``moved(name)`` is added to one.
    """

    def __init__(
        self,
        source: Detached,
        smooth: bool = False,
        kept: Kept | None = None,
        taps: Sequence[str] = (),
    ) -> None:
        model, self.kept = expanded(source), kept or Kept()
        proto = to_double(model.proto)
        small = [t for t in proto.graph.initializer if t.name not in model.weights]
        del proto.graph.initializer[:]
        proto.graph.initializer.extend(small)
        self._still: dict[str, Array] = {}
        for name in taps:
            _movable(proto.graph, name)
            self._still[moved(name)] = np.zeros(1)
        quantises = any("Quantize" in node.op_type for node in proto.graph.node)
        self.smooth = smooth or kept is not None or quantises
        ops = self.kept.ops() if self.smooth else [MaxPool]
        self._weights = {name: _double(array(t)) for name, t in model.weights.items()}
        self._evaluator = ReferenceEvaluator(proto, new_ops=[*OWN, *ops])

    def run(self, names: list[str] | None, feed: dict[str, Array]) -> list[Array]:
        """The named tensors (None: all outputs) for a feed, as ONNX Runtime's ``run``."""
        outputs: Any = self._evaluator.run(names, self._weights | self._still | feed)
        return list(outputs)

    def anchor(self, feed: dict[str, Array], seen: Mapping[str, Array] | None = None) -> None:
        """Take this input as the one around which the runs that follow are smooth.

        Args:
            feed: the input.
            seen: what decides instead of it, as in `Kept`.
        """
        if self.smooth:
            self.kept.parts.clear()
            self.kept.seen = seen or {}
            self.run(None, feed)


def moved(name: str) -> str:
    """The input that is added to a tap."""
    return f"{name}/moved by"


def _movable(graph: onnx.GraphProto, name: str) -> None:
    """Let what reads a tensor read its sum with a new input."""
    at = next(i for i, node in enumerate(graph.node) if name in node.output)
    for node in graph.node[at + 1 :]:
        node.input[:] = [f"{name}/moved" if x == name else x for x in node.input]
    sum_ = helper.make_node("Add", [name, moved(name)], [f"{name}/moved"], name=f"{name}/moved")
    graph.node.insert(at + 1, sum_)
    value = helper.make_empty_tensor_value_info(moved(name))
    value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    graph.input.append(value)


def to_double(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same model computing in float64, for the reference evaluator."""
    floats = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16}
    result = onnx.ModelProto()
    result.CopyFrom(proto)

    def widen(tensor: onnx.TensorProto) -> None:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            return  # the weights are fed instead
        if tensor.data_type in floats:
            array = numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))

    def widen_graph(graph: onnx.GraphProto) -> None:
        for tensor in graph.initializer:
            widen(tensor)
        for node in graph.node:
            widen_node(node)
        del graph.value_info[:]
        for value in (*graph.input, *graph.output):
            if value.type.tensor_type.elem_type in floats:
                value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE

    def widen_node(node: onnx.NodeProto) -> None:
        if node.op_type == "ConstantOfShape" and not node.attribute:
            zero = numpy_helper.from_array(np.zeros(1))
            node.attribute.append(helper.make_attribute("value", zero))
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                widen_graph(attribute.g)
            elif attribute.type == onnx.AttributeProto.TENSOR:
                widen(attribute.t)
            elif node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
                values = np.array(
                    attribute.f if attribute.name == "value_float" else attribute.floats
                )
                attribute.CopyFrom(helper.make_attribute("value", numpy_helper.from_array(values)))
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i in floats:
                attribute.i = onnx.TensorProto.DOUBLE

    widen_graph(result.graph)
    return result


def _double(weights: Array) -> Array:
    return weights.astype(np.float64) if weights.dtype.kind == "f" else weights
