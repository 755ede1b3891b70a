"""Normalisation layers and softmax."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..autodiff.ops import Ops
from ..autodiff.registry import Grads, vjp
from ..graph.values import args, attribute, length, shape_of, static


@vjp("BatchNormalization")
def batch_normalization(op: Ops, node: ir.Node, g: ir.Value) -> Grads:
    """dx = g f per channel, f = scale / sqrt(v), v = var + epsilon, at inference.

    Where scale, bias, mean and variance are computed from the image (hypernetworks, layers without
    running statistics), sums over the channel: of g u, u = (x - mean) / sqrt(v), of g, of -g f, of
    -g u f / (2 sqrt(v)).  https://onnx.ai/onnx/operators/onnx__BatchNormalization.html
    """
    x, scale, bias, mean, var = args(node)
    rank = len(shape_of(x))
    std = op.Sqrt(var + attribute(node, "epsilon", 1e-5))
    factor, around = scale / std, [-1, *[1] * (rank - 2)]
    dx = g * op.Reshape(factor, around)
    if all(v.const_value is not None for v in (scale, bias, mean, var)):
        return dx
    axes = [1, *range(3, rank + 1)]  # of [K, N, C, ...]
    unit = (x - op.Reshape(mean, around)) / op.Reshape(std, around)
    along, total = op.ReduceSum(g * unit, axes, keepdims=0), op.ReduceSum(g, axes, keepdims=0)
    return [dx, along, total, -1 * total * factor, along * factor / (-2 * std)]


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
    """dx = y (g - sum of g y).

    Attention masks whole rows and replaces their NaN afterwards; nothing flows back there.
    https://onnx.ai/onnx/operators/onnx__Softmax.html
    """
    y = node.outputs[0]
    if _replaced(y):
        y = op.Where(op.IsNaN(y), 0.0, y)
    return (g - op.ReduceSum(g * y, [_axis(node)], keepdims=1)) * y


def _replaced(y: ir.Value) -> bool:
    """Whether the graph puts something else where ``y`` is NaN, as attention does."""
    users = [use.node for use in y.uses()]
    casts = [n for n in users if n.op_type == "Cast"]
    found = any(n.op_type in ("IsNaN", "Where") for n in users)
    return found or any(_replaced(n.outputs[0]) for n in casts)


@vjp("LogSoftmax")
def log_softmax(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g - exp(y) sum of g.  https://onnx.ai/onnx/operators/onnx__LogSoftmax.html"""
    y = node.outputs[0]
    return g - op.Exp(y) * op.ReduceSum(g, [_axis(node)], keepdims=1)


@vjp("LayerNormalization")
def layer_normalization(op: Ops, node: ir.Node, g: ir.Value) -> Grads:
    """Mean 0 and variance 1 over the axes from ``axis`` on, then scale and bias.

    TensorRT refuses the operator's outputs Mean and InvStdDev: they are computed again.
    https://onnx.ai/onnx/operators/onnx__LayerNormalization.html
    """
    (x, scale, *bias), axes = args(node), _last_axes(node)
    unit, std = _standardised(op, x, axes, attribute(node, "epsilon", 1e-5))
    dx = _back(op, g * scale, unit, std, axes)
    return [dx, *_affine(op, node, g, unit, [scale, *bias])]


@vjp("RMSNormalization")
def rms_normalization(op: Ops, node: ir.Node, g: ir.Value) -> Grads:
    """Y = scale u, u = x / r, r = sqrt(mean of x^2 + epsilon).

    dx = (h - u mean(h u)) / r, h = g scale.
    https://onnx.ai/onnx/operators/onnx__RMSNormalization.html
    """
    (x, scale), axes = args(node), _last_axes(node)
    mean = op.ReduceMean(x * x, axes, keepdims=1)
    rms = op.Sqrt(mean + attribute(node, "epsilon", 1e-5))
    unit, h = x / rms, g * scale
    dx = (h - unit * op.ReduceMean(h * unit, axes, keepdims=1)) / rms
    return [dx, *_affine(op, node, g, unit, [scale])]


@vjp("InstanceNormalization")
def instance_normalization(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """Mean 0 and variance 1 per image and channel, then scale and bias per channel.

    https://onnx.ai/onnx/operators/onnx__InstanceNormalization.html
    """
    x, scale, _ = args(node)
    axes = list(range(2 - len(shape_of(x)), 0))
    unit, std = _standardised(op, x, axes, attribute(node, "epsilon", 1e-5))
    return _back(op, g * op.Reshape(scale, [-1, *[1] * len(axes)]), unit, std, axes)


@vjp("GroupNormalization")
def group_normalization(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """Mean 0 and variance 1 per image and group of channels, then scale and bias.

    They are per channel, or per group in the form of opset 18.
    https://onnx.ai/onnx/operators/onnx__GroupNormalization.html
    """
    x, scale, _ = args(node)
    groups, per = attribute(node, "num_groups"), length(scale, 0)
    grouped = op.Reshape(x, [0, groups, -1])
    unit, std = _standardised(op, grouped, [-1], attribute(node, "epsilon", 1e-5))
    h = op.Reshape(g, [0, 0, per, -1]) * op.Reshape(scale, [per, 1])
    return op.reshape(_back(op, op.Reshape(h, [0, 0, groups, -1]), unit, std, [-1]), x)


@vjp("MeanVarianceNormalization")
def mean_variance_normalization(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """Mean 0 and variance 1 over ``axes``.

    https://onnx.ai/onnx/operators/onnx__MeanVarianceNormalization.html
    """
    x, rank = args(node)[0], len(shape_of(args(node)[0]))
    axes = [a % rank - rank for a in attribute(node, "axes", [0, 2, 3])]
    return _back(op, g, *_standardised(op, x, axes, 0.0), axes)


@vjp("LpNormalization")
def lp_normalization(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """Y = x / r, r the norm: dx = (g - r' sum of g y) / r, r' = sign x (p = 1) or y (p = 2).

    https://onnx.ai/onnx/operators/onnx__LpNormalization.html
    """
    x, y, axes = args(node)[0], node.outputs[0], [_axis(node)]
    manhattan = attribute(node, "p", 2) == 1
    norm = (op.ReduceL1 if manhattan else op.ReduceL2)(x, axes, keepdims=1)
    slope = op.Sign(x) if manhattan else y
    return (g - slope * op.ReduceSum(g * y, axes, keepdims=1)) / norm


def _standardised(
    op: Ops, x: ir.Value, axes: list[int], epsilon: float
) -> tuple[ir.Value, ir.Value]:
    """X with mean 0 and variance 1 over the axes, and the standard deviation it was divided by."""
    centred = x - op.ReduceMean(x, axes, keepdims=1)
    std = op.Sqrt(op.ReduceMean(centred * centred, axes, keepdims=1) + epsilon)
    return centred / std, std


def _back(op: Ops, g: ir.Value, unit: ir.Value, std: ir.Value, axes: list[int]) -> ir.Value:
    """The adjoint of standardising: (g - mean(g) - u mean(g u)) / std."""
    along = op.ReduceMean(g * unit, axes, keepdims=1)
    return (g - op.ReduceMean(g, axes, keepdims=1) - unit * along) / std


def _affine(
    op: Ops, node: ir.Node, g: ir.Value, unit: ir.Value, scale_bias: list[ir.Value]
) -> list[ir.Value]:
    """The gradients of scale and bias: g u and g, summed to their shapes."""
    have = shape_of(node.outputs[0])
    pairs = zip((g * unit, g), scale_bias, strict=False)
    return [op.sum_to(d, have, shape_of(v)) for d, v in pairs]


def _last_axes(node: ir.Node) -> list[int]:
    """All axes from attribute ``axis`` on, counted from the end."""
    return list(range(_axis(node), 0))


def _axis(node: ir.Node) -> int:
    """The axis counted from the end."""
    axis, rank = attribute(node, "axis", -1), len(shape_of(node.outputs[0]))
    return int(axis % rank - rank)
