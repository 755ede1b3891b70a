"""Weights that a classifier standardises each time it runs (BiT, NFNet), in plain operators.

torch standardises a kernel by ``batch_norm(weight, training=True)``, and an exporter writes what it
reads: a BatchNormalization in training mode. What it takes is a weight, no image, so there is no
batch whose statistics would mix images: the same in ReduceMean and Sqrt.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir

from ..autodiff.ops import Ops
from ..graph.values import args, attribute, shape_of


def without_saved_statistics(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without the outputs saved_mean and saved_var, which onnx's converter refuses.

    Before opset 14 five outputs were what made a BatchNormalization one in training mode; three
    still do.
    """
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    used = {name for node in proto.graph.node for name in node.input}
    used |= {v.name for v in proto.graph.output}
    for node in result.graph.node:
        if node.op_type == "BatchNormalization" and not used & set(node.output[3:]):
            del node.output[3:]
    return result


def standardised_weights(model: ir.Model) -> bool:
    """Rewrite every BatchNormalization in training mode that no input of the graph reaches.

    The rank of what it takes must be known. Returns whether there was any.
    """
    reached = set(model.graph.inputs)
    found = []
    for node in model.graph:
        if any(x in reached for x in node.inputs):
            reached.update(node.outputs)
        elif node.op_type == "BatchNormalization" and attribute(node, "training_mode", 0):
            found.append(node)
    alone = [n for n in found if not any(y.uses() or y.is_graph_output() for y in n.outputs[1:])]
    known = [n for n in alone if args(n)[0].shape is not None]
    for node in known:
        _plain(model, node)
    if known:
        model.graph.sort()
    return bool(known)


def _plain(model: ir.Model, node: ir.Node) -> None:
    """(x - mean) / sqrt(variance + epsilon) scale + bias, per element of axis 1 of x.

    https://onnx.ai/onnx/operators/onnx__BatchNormalization.html
    """
    x, scale, bias = args(node)[:3]
    rank = len(shape_of(x))
    op = Ops(model.graph, 1, prefix=node.name or str(node.outputs[0].name))
    if x.dtype is not None:
        op.dtype = x.dtype
    axes, along = [i for i in range(rank) if i != 1], [-1, *[1] * (rank - 2)]
    centred = op.Sub(x, op.ReduceMean(x, axes, keepdims=1))
    variance = op.ReduceMean(op.Mul(centred, centred), axes, keepdims=1)
    deviation = op.Sqrt(op.Add(variance, attribute(node, "epsilon", 1e-5)))
    scaled = op.Mul(op.Div(centred, deviation), op.Reshape(scale, along))
    made = op.Add(scaled, op.Reshape(bias, along))
    old = node.outputs[0]
    made.dtype, made.shape = old.dtype, old.shape
    old.replace_all_uses_with(made, replace_graph_outputs=True)
    model.graph.remove(node, safe=True)


__all__ = ["standardised_weights", "without_saved_statistics"]
