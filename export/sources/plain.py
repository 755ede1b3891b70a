"""What ONNX lets files say in several ways, in the one way that every reader knows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ..graph.weights import SMALL

_FREE = 4  # the version of the IR from which on initializers need not be inputs
_NUMBERS = {
    "value_float": np.float32, "value_floats": np.float32,
    "value_int": np.int64, "value_ints": np.int64,
}  # fmt: skip


def spell_out(proto: onnx.ModelProto, parts: Iterable[onnx.GraphProto]) -> None:
    """Change a model in place; what it computes stays the same.

    Constants are dense tensors, loops have a condition, and calls of the model's own functions all
    their attributes; where functions are of another opset, tensors have their types.

    Args:
        proto: the model.
        parts: its graph and all graphs inside it.
    """
    for sparse in proto.graph.sparse_initializer:
        proto.graph.initializer.append(_dense(sparse))
    del proto.graph.sparse_initializer[:]
    bodies: list[Any] = [*parts, *proto.functions]
    for body in bodies:
        for node in body.node:
            _constant(node)
        _conditions(body, proto.ir_version)
    _defaults(proto, bodies)
    own = {o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")}
    used = {o.version for f in proto.functions for o in f.opset_import if o.domain == ""}
    if used - own:
        _types(proto)


def _dense(sparse: onnx.SparseTensorProto) -> onnx.TensorProto:
    values = numpy_helper.to_array(sparse.values)
    dense = np.zeros(list(sparse.dims), values.dtype)
    at = numpy_helper.to_array(sparse.indices)
    if at.ndim == 1:
        dense.reshape(-1)[at] = values
    else:
        dense[tuple(at.T)] = values
    return numpy_helper.from_array(dense, sparse.values.name)


def _constant(node: onnx.NodeProto) -> None:
    """``value`` for the other attributes of a Constant."""
    if node.op_type != "Constant" or len(node.attribute) != 1:
        return
    (given,) = node.attribute
    if given.ref_attr_name:
        return
    if given.name == "sparse_value":
        tensor = _dense(given.sparse_tensor)
    elif given.name in _NUMBERS:
        number = helper.get_attribute_value(given)
        tensor = numpy_helper.from_array(np.array(number, _NUMBERS[given.name]))
    else:
        return
    given.CopyFrom(helper.make_attribute("value", tensor))


def _conditions(body: Any, version: int) -> None:
    """True for a Loop's condition where it has none: onnx's evaluator would not enter it."""
    if all(node.op_type != "Loop" or any(node.input[1:2]) for node in body.node):
        return
    nodes = []
    for node in body.node:
        if node.op_type == "Loop" and not any(node.input[1:2]):
            name = f"{next(filter(None, node.output))}/goes_on"
            value = numpy_helper.from_array(np.array(True), name)
            if isinstance(body, onnx.GraphProto) and version >= _FREE:
                body.initializer.append(value)  # where a loop of constant length is known by it
            else:
                nodes.append(helper.make_node("Constant", [], [name], value=value))
            node.input[:] = [*(node.input[:1] or [""]), name, *node.input[2:]]
        nodes.append(onnx.NodeProto.FromString(node.SerializeToString()))
    del body.node[:]
    body.node.extend(nodes)


def _defaults(proto: onnx.ModelProto, bodies: Sequence[Any]) -> None:
    """At calls of functions, the attributes that were left at their defaults: inlining forgets."""
    functions = {(f.domain, f.name): f for f in proto.functions if f.attribute_proto}
    for body in bodies if functions else ():
        for node in body.node:
            called = functions.get((node.domain, node.op_type))
            given = {a.name for a in node.attribute}
            for default in called.attribute_proto if called is not None else ():
                if default.name not in given:
                    node.attribute.append(default)


def _types(proto: onnx.ModelProto) -> None:
    """Types of tensors, which inlining a function of another opset asks for."""
    small = onnx.ModelProto()
    small.CopyFrom(proto)
    del small.graph.initializer[:]
    given = {v.name for v in proto.graph.input}
    for tensor in proto.graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL and len(tensor.raw_data) <= SMALL:
            small.graph.initializer.append(tensor)
        elif tensor.name not in given:
            value = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            small.graph.input.append(value)
    known = {v.name for v in (*proto.graph.value_info, *proto.graph.output)}
    found = onnx.shape_inference.infer_shapes(small).graph.value_info
    proto.graph.value_info.extend(v for v in found if v.name not in known)


__all__ = ["spell_out"]
