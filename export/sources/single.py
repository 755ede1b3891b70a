"""Classifiers in float64 and bfloat16 as float32: no engine has all their operators.

ONNX Runtime's CPU provider has no Conv of either, TensorRT takes no float64. bfloat16 weights are
float32 numbers already, and float64 ones lose what float32 gradients could not show.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import onnx_ir as ir

BF16 = ir.DataType.BFLOAT16
_WIDE = (ir.DataType.DOUBLE, BF16)
_TYPES = ("to", "dtype", "output_dtype", "stash_type", "precision")


def in_float32(model: ir.Model, types: Collection[ir.DataType] = _WIDE) -> None:
    """Make a model compute in float32, if its input or its weights are float64 or bfloat16.

    So it becomes where autocast left parts in bfloat16 between Casts. A float32 model with some
    numbers in float64 stays as it is.

    Args:
        model: changed in place.
        types: those that are not kept.
    """
    weights = (v for v in model.graph.initializers.values() if len(v.shape or ()) > 1)
    found = {v.dtype for v in (*model.graph.inputs, *weights)} & set(types)
    casts = (n for n in model.graph if n.op_type == "Cast" and "to" in n.attributes)
    found |= {BF16 for node in casts if node.attributes["to"].value == BF16}
    if not found:
        return
    values: set[ir.Value] = set()
    graphs: list[Any] = [*model.graphs(), *model.functions.values()]
    for graph in graphs:
        values.update(graph.inputs, graph.outputs, getattr(graph, "initializers", {}).values())
        for node in graph:
            values.update(node.outputs)
            _attributes(node, found)
    for value in values:
        if value.const_value is not None and value.const_value.dtype in found:
            value.const_value = _narrow(value.const_value)
        if value.dtype in found:
            value.dtype = ir.DataType.FLOAT


def _attributes(node: ir.Node, found: Collection[ir.DataType | None]) -> None:
    for name, attribute in list(node.attributes.items()):
        if attribute.type == ir.AttributeType.TENSOR and attribute.value.dtype in found:
            node.attributes[name] = ir.AttrTensor(name, _narrow(attribute.value))
        elif attribute.type == ir.AttributeType.INT and name in _TYPES and attribute.value in found:
            node.attributes[name] = ir.AttrInt64(name, int(ir.DataType.FLOAT))


def _narrow(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    return ir.tensor(tensor.numpy().astype(np.float32), name=tensor.name)


__all__ = ["in_float32"]
