"""BatchNormalization by the statistics of what it is given.

https://onnx.ai/onnx/operators/onnx__BatchNormalization.html
"""

from __future__ import annotations

import onnx
import onnx_ir as ir

from ...runtime.errors import ModelError
from ..autodiff.ops import Ops
from ..graph.values import attribute
from .forms import Inputs, depends_on_inputs, form, rank

_MOVES = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Cast")


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


@form("BatchNormalization", domain="")
def batch_statistics(op: Ops, node: ir.Node, inputs: Inputs) -> list[ir.Value | None] | None:
    """(x - mean) / sqrt(variance + epsilon) scale + bias, both over all axes but the channels'.

    Written out where no batch is averaged over: of weights (weight standardisation), and of a file
    for one image, whose statistics are that image's own. Elsewhere it stays, to be refused. In
    training mode, or with mean and variance computed beside it, as torch writes a layer without
    running statistics.
    """
    x, scale, bias, mean, _ = inputs
    if not (attribute(node, "training_mode", 0) or _is_mean_of(mean, x)):
        return None
    axes, first = rank(x), _first_length(x)
    alone = not depends_on_inputs(x)
    if not alone and (first != 1 or axes < 3):
        return None
    over = [0, *range(2, axes)] if alone else list(range(2, axes))
    centred = op.Sub(x, op.ReduceMean(x, over, keepdims=1))
    spread = op.ReduceMean(op.Mul(centred, centred), over, keepdims=1)
    unit = op.Div(centred, op.Sqrt(op.Add(spread, float(attribute(node, "epsilon", 1e-5)))))
    around = [-1, *[1] * (axes - 2)]
    return [op.Add(op.Mul(unit, op.Reshape(scale, around)), op.Reshape(bias, around)), None, None]


def _is_mean_of(mean: ir.Value | None, x: ir.Value | None) -> bool:
    """Whether a tensor is the mean over some axes of another, both perhaps in another shape."""
    node = _moved(mean)
    if node is None or node.op_type != "ReduceMean":
        return False
    value = node.inputs[0]
    while value is not None and value is not x:
        before = value.producer()
        if before is None or before.op_type not in _MOVES:
            return False
        value = before.inputs[0]
    return value is x


def _moved(value: ir.Value | None) -> ir.Node | None:
    """The operator that made a tensor, but for changes of shape."""
    node = None if value is None else value.producer()
    while node is not None and node.op_type in _MOVES:
        value = node.inputs[0]
        node = None if value is None else value.producer()
    return node


def in_training(node: ir.Node) -> ModelError:
    """The error for a layer that does at every run what it did in training."""
    if node.op_type == "Dropout":
        return ModelError(
            f"Dropout {node.name!r} is in training mode: the scores are random.",
            "export the classifier in eval mode: model.eval().",
        )
    return ModelError(
        f"{node.op_type} {node.name!r} is in training mode: it averages over the batch, so that "
        "the scores of an image depend on the images beside it.",
        "export the classifier in eval mode: model.eval(); a layer without running statistics "
        "(track_running_stats=False) needs an export with a batch of one image.",
    )


def _first_length(x: ir.Value | None) -> object:
    return None if x is None or x.shape is None or not len(x.shape) else x.shape[0]
