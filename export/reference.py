"""The source classifier in float64: what gradients are measured against.

onnx's reference evaluator, with the operator put right in which it strays from the specification.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from .normalise import upgraded
from .weights import Detached, array

Array: TypeAlias = np.ndarray[Any, Any]


class LRN(OpRun):
    """Local response normalisation; onnx's own leaves the window's last channel out."""

    def _run(self, x: Any, alpha: float, beta: float, bias: float, size: int) -> tuple[Any]:
        squares = np.pad(x * x, [(0, 0), ((size - 1) // 2, size // 2)] + [(0, 0)] * (x.ndim - 2))
        channels = x.shape[1]
        sums = np.add.reduce([squares[:, i : i + channels] for i in range(size)])
        return ((x / (bias + alpha / size * sums) ** beta).astype(x.dtype),)


class Evaluator:
    """A model computing in float64."""

    def __init__(self, model: Detached) -> None:
        graph = to_double(upgraded(model.proto))
        small = [t for t in graph.graph.initializer if t.name not in model.weights]
        del graph.graph.initializer[:]
        graph.graph.initializer.extend(small)
        self._weights = {name: _double(array(t)) for name, t in model.weights.items()}
        self._evaluator = ReferenceEvaluator(graph, new_ops=[LRN])

    def run(self, names: list[str] | None, feed: dict[str, Array]) -> list[Array]:
        """The named outputs (None: all) for a feed, as ONNX Runtime's ``run``."""
        outputs: Any = self._evaluator.run(names, self._weights | feed)
        return list(outputs)


def evaluator(proto: onnx.ModelProto) -> Evaluator:
    """An evaluator of the model in float64, ``run(None, feed)``."""
    return Evaluator(Detached(proto, {}))


def with_output(proto: onnx.ModelProto, name: str, keep: bool = False) -> onnx.ModelProto:
    """A copy of the model that returns one named tensor, instead of or beside its outputs."""
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    declared = [v for v in result.graph.output if v.name == name]
    if not keep:
        del result.graph.output[:]
    result.graph.output.extend(declared or [onnx.helper.make_empty_tensor_value_info(name)])
    return result


def to_double(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same model computing in float64, for the reference evaluator."""
    floats = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16}
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    graph = result.graph

    def widen(tensor: onnx.TensorProto) -> None:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            return  # the weights are fed instead
        if tensor.data_type in floats:
            array = numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))

    for tensor in graph.initializer:
        widen(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                widen(attribute.t)
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i in floats:
                attribute.i = onnx.TensorProto.DOUBLE
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type in floats:
            value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    return result


def _double(weights: Array) -> Array:
    return weights.astype(np.float64) if weights.dtype.kind == "f" else weights
