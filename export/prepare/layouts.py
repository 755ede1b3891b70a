"""Operators whose channels come last, between the transpositions that undo it.

https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

import onnx_ir as ir

from ..autodiff.ops import Ops
from ..graph.values import attribute
from .forms import (
    Inputs,
    activated,
    attributes,
    channels_back,
    channels_first,
    form,
    optional,
    rank,
    refuse,
)


@form("NhwcFusedConv")
def nhwc_fused_conv(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """Y = activation(Conv(x, w, bias) + z), channels of x, z and y last; w as ever."""
    x, w, bias, z = optional(inputs, 4)
    axes = rank(w)
    kept = attributes(node, "activation", "activation_params")
    y = op.Conv(channels_first(op, _value(x), True, axes), w, bias, **kept)
    y = channels_back(op, y, True, axes)
    y = y if z is None else op.Add(y, z)
    return activated(op, node, y, attribute(node, "activation_params", []))


@form("NhwcMaxPool")
def nhwc_max_pool(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """MaxPool, channels last."""
    axes = len(attribute(node, "kernel_shape")) + 2
    y = op.MaxPool(channels_first(op, _value(inputs[0]), True, axes), **attributes(node))
    return channels_back(op, y, True, axes)


@form("GroupNorm", "SkipGroupNorm")
def group_norm(op: Ops, node: ir.Node, inputs: Inputs) -> list[ir.Value | None]:
    """Y = activation(GroupNormalization(s)), s = x (+ skip + bias); outputs y, s.

    Channels last unless ``channels_last`` is 0; ``activation`` 1 is SiLU.
    """
    x, scale, beta, skip, bias = optional(inputs, 5)
    last, axes = bool(attribute(node, "channels_last", 1)), rank(x)
    total = _value(x)
    if skip is not None:
        if rank(skip) == 2:  # [N, C]
            places = [1] * (axes - 2)
            skip = op.Reshape(skip, [0, *places, -1] if last else [0, -1, *places])
        total = op.Add(total, skip)
    if bias is not None:
        total = op.Add(total, bias if last else op.Reshape(bias, [-1, *[1] * (axes - 2)]))
    # Written out: as an operator its scale is per channel from opset 21 on only.
    inner = channels_first(op, total, last, axes)
    grouped = op.Reshape(inner, [0, attribute(node, "groups"), -1])
    centred = op.Sub(grouped, op.ReduceMean(grouped, [-1], keepdims=1))
    variance = op.ReduceMean(op.Mul(centred, centred), [-1], keepdims=1)
    unit = op.Div(centred, op.Sqrt(op.Add(variance, float(attribute(node, "epsilon", 1e-5)))))
    unit = op.Reshape(unit, op.Shape(inner))
    around = [-1, *[1] * (axes - 2)]
    y = op.Add(op.Mul(unit, op.Reshape(scale, around)), op.Reshape(beta, around))
    activation = attribute(node, "activation", 0)
    if activation not in (0, 1):
        refuse(node, f"has an activation {activation} of its own")
    y = op.Mul(y, op.Sigmoid(y)) if activation else y
    return [channels_back(op, y, last, axes), total]


def _value(x: ir.Value | None) -> ir.Value:
    if x is None:
        raise TypeError("a required input is missing")
    return x
