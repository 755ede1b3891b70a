"""Normalisation layers and softmax."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..context import Ops, args, attribute, shape_of, static
from ..registry import vjp


@vjp("BatchNormalization")
def batch_normalization(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g scale / sqrt(var + epsilon), per channel: at inference the statistics are constants.

    https://onnx.ai/onnx/operators/onnx__BatchNormalization.html
    """
    x, scale, _, _, var = args(node)
    factor = scale / op.Sqrt(var + attribute(node, "epsilon", 1e-5))
    return g * op.Reshape(factor, [-1, *[1] * (len(shape_of(x)) - 2)])


@vjp("LRN")
def lrn(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """Y = x s^-beta, s = bias + alpha/size sum of x^2 over neighbouring channels (Krizhevsky 2012).

    dx = g s^-beta - 2 alpha beta/size x W^T(g x s^(-beta-1)), W the 0/1 matrix of neighbours.
    https://onnx.ai/onnx/operators/onnx__LRN.html
    """
    x, y = args(node)[0], node.outputs[0]
    size, alpha = attribute(node, "size"), attribute(node, "alpha", 1e-4)
    beta, bias = attribute(node, "beta", 0.75), attribute(node, "bias", 1.0)
    channels, *spatial = static(x, 1)
    offset = np.arange(channels)[None, :] - np.arange(channels)[:, None]
    near = (offset >= -((size - 1) // 2)) & (offset <= size // 2)  # [output, neighbour]
    flat = [0, 0, -1]
    squares = op.Reshape(x * x, flat)
    sums = op.Reshape(op.MatMul(near.astype(np.float64), squares), [0, 0, *spatial])
    s = sums * (alpha / size) + bias
    inner = g * (y / s)
    back = op.MatMul(near.T.astype(np.float64), op.Reshape(inner, [0, 0, 0, -1]))
    back = op.Reshape(back, [0, 0, 0, *spatial])
    return g * op.Pow(s, -beta) - back * (x * (2 * alpha * beta / size))


@vjp("Softmax")
def softmax(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = y (g - sum of g y).  https://onnx.ai/onnx/operators/onnx__Softmax.html"""
    y = node.outputs[0]
    return (g - op.ReduceSum(g * y, [_axis(node)], keepdims=1)) * y


@vjp("LogSoftmax")
def log_softmax(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g - exp(y) sum of g.  https://onnx.ai/onnx/operators/onnx__LogSoftmax.html"""
    y = node.outputs[0]
    return g - op.Exp(y) * op.ReduceSum(g, [_axis(node)], keepdims=1)


def _axis(node: ir.Node) -> int:
    """The axis counted from the end."""
    axis, rank = attribute(node, "axis", -1), len(shape_of(node.outputs[0]))
    return int(axis % rank - rank)
