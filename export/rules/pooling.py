"""Pooling, without index tensors.

MaxPool's Indices output costs ONNX Runtime 16 times the pooling itself (48 ms against 2.9 on
float32 [4,64,112,112], one thread), and TensorRT refuses it.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np
import onnx_ir as ir

from ..context import Ops, args, attribute, shape_of, static
from ..registry import vjp
from .convolution import Window, fit, interleave, undo, window

Array: TypeAlias = np.ndarray[Any, Any]


@vjp("MaxPool")
def max_pool(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx: each output's gradient goes to the FIRST maximum of its window (row-major), as PyTorch.

    A window's maximum is that of its rows' maxima: one axis after the other has k + k positions to
    compare where the whole window has k k (36 ms against 12 on that tensor, for 3 x 3 / 2). The
    first row that holds the maximum, and in it the first column, is the first in row-major order.
    https://onnx.ai/onnx/operators/onnx__MaxPool.html
    """
    x, y, win = args(node)[0], node.outputs[0], window(node)
    rank, size = len(win.kernel), list(static(x, 2))
    source = x.producer()
    if after_relu := source is not None and source.op_type == "Relu":
        g = g * op.step(y)  # the mask of x's Relu, on the smaller tensor
    axes = [i for i in range(rank) if win.kernel[i] > 1 or win.strides[i] > 1]
    stages = [x]  # the maxima along the last axis, along the last two, ...
    for i in axes[:0:-1]:
        stages.append(op.MaxPool(
            stages[-1], kernel_shape=_at(i, win.kernel, 1), strides=_at(i, win.strides, 1),
            pads=_at(i, win.begin, 0) + _at(i, win.end, 0),
            **({"dilations": _at(i, win.dilations, 1)} if max(win.dilations) > 1 else {}),
        ))  # fmt: skip
    out = list(static(y, 2))
    for i, inner in zip(axes, reversed(stages), strict=True):
        line = Line(i - rank, win.kernel[i], win.strides[i], win.dilations[i], win.begin[i])
        whole = [static(x, 1)[0], *out[:i], size[i], *out[i + 1 :]]
        g, y = _max_pool_line(op, line, inner, y, g, whole, out[i]), inner
        out[i] = size[i]
    if after_relu:
        op.rectified.add(g)
    return g


class Line(NamedTuple):
    """A pooling window along one axis, counted from the end; ``begin`` is the padding before."""

    axis: int
    kernel: int
    stride: int
    dilation: int
    begin: int


def _max_pool_line(
    op: Ops, line: Line, x: ir.Value, y: ir.Value, g: ir.Value, shape: list[int], out: int
) -> ir.Value:
    """The gradient of x, [K, N, *shape], pooled along one axis to length ``out``.

    Position t of window o is element (o + q) stride + phase of x: every phase is one strided Slice,
    every position a shifted phase. What no position before took belongs to the last one.
    """
    axis, stride, n = line.axis, line.stride, shape[line.axis]
    length = -(-n // stride)
    phases: dict[int, ir.Value] = {}
    parts: list[list[ir.Value]] = [[] for _ in range(stride)]
    for t in range(line.kernel):
        q, phase = divmod(t * line.dilation - line.begin, stride)
        taken = g
        if t < line.kernel - 1:
            if phase not in phases:
                phases[phase] = op.Slice(x, [phase], [n], [axis], [stride]) if stride > 1 else x
            count = -(-(n - phase) // stride)
            pads, low = (-q, out - count + q), _lowest(op.dtype)
            here = fit(op, phases[phase], len(shape) + 1, count, axis, *pads, low)
            taken = g * op.Cast(op.Equal(here, y), to=int(op.dtype))
            g = g - taken
        parts[phase].append(fit(op, taken, len(shape) + 2, out, axis, q, length - out - q))
    sums = [functools.reduce(op.Add, part) if part else None for part in parts]
    zero = next(v for v in sums if v is not None) * 0.0 if None in sums else None
    shape[axis] = length
    whole = [cast("ir.Value", v or zero) for v in sums]
    return interleave(op, whole, axis, [0, -1, *shape], n)


def _at(i: int, values: list[int], other: int) -> list[int]:
    """The values with all but the i-th replaced."""
    return [v if j == i else other for j, v in enumerate(values)]


@vjp("AveragePool")
def average_pool(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx: each output spreads g / count evenly over its window.

    count leaves the padding out unless count_include_pad; what ceil_mode adds beyond the padding
    never counts.  https://onnx.ai/onnx/operators/onnx__AveragePool.html
    """
    x, y, win = args(node)[0], node.outputs[0], window(node)
    pads = attribute(node, "pads") if attribute(node, "count_include_pad", 0) else [0] * 99
    counts = []
    for i, (n, o) in enumerate(zip(static(x, 2), static(y, 2), strict=True)):
        first = np.arange(o)[:, None] * win.strides[i] - win.begin[i]
        taps = first + np.arange(win.kernel[i]) * win.dilations[i]
        low, high = -pads[i], n + pads[len(win.kernel) + i]
        counts.append(((taps >= low) & (taps < high)).sum(1))
    count = functools.reduce(np.multiply.outer, counts).astype(np.float64)
    weight = np.ones((1, 1, *win.kernel))
    if count.min() == count.max():
        weight /= count.min()
    else:
        g = g * op.const(1 / count)
    return _scatter(op, op.Reshape(g, [-1, 1, *static(y, 2)]), weight, win, x)


@vjp("LpPool")
def lp_pool(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """Y = (sum |x|^p)^(1/p): dx = sign(x) |x|^(p-1) times the windows' g y^(1-p), added up.

    https://onnx.ai/onnx/operators/onnx__LpPool.html
    """
    x, y, win, p = args(node)[0], node.outputs[0], window(node), attribute(node, "p", 2)
    inner, outer = _lp(op, x, y, p)
    weight = np.ones((1, 1, *win.kernel))
    return _scatter(op, op.Reshape(g * outer, [-1, 1, *static(y, 2)]), weight, win, x) * inner


@vjp("GlobalLpPool")
def global_lp_pool(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g sign(x) |x|^(p-1) y^(1-p), as LpPool's.

    https://onnx.ai/onnx/operators/onnx__GlobalLpPool.html
    """
    inner, outer = _lp(op, args(node)[0], node.outputs[0], attribute(node, "p", 2))
    return g * outer * inner


def _lp(op: Ops, x: ir.Value, y: ir.Value, p: int) -> tuple[ir.Value, ir.Value]:
    """sign(x) |x|^(p-1) and y^(1-p), 0 where the norm is 0."""
    if p == 1:
        return op.Sign(x), op.const(1.0)
    inner = x if p == 2 else op.Sign(x) * op.Pow(op.Abs(x), float(p - 1))
    return inner, op.Where(op.Equal(y, 0.0), 0.0, op.Pow(y, float(1 - p)))


@vjp("MaxUnpool")
def max_unpool(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g at the places written: indices count through the whole tensor.

    https://onnx.ai/onnx/operators/onnx__MaxUnpool.html
    """
    return op.Gather(op.Reshape(g, [0, -1]), args(node)[1], axis=1)


def _scatter(op: Ops, gf: ir.Value, kernel: Array, win: Window, x: ir.Value) -> ir.Value:
    """Overlapping windows added up: [K*N*C, taps, ...] -> [K, N, C, ...].

    Channels ride in the batch axis, so one small kernel serves them all.
    """
    dx = undo(op, gf, op.const(kernel), win)
    return op.unfold(op.Reshape(dx, [-1, *static(x, 1)]), x)


def _lowest(dtype: ir.DataType) -> float:
    return -65504.0 if dtype == ir.DataType.FLOAT16 else -3.4e38


@vjp("GlobalAveragePool")
def global_average_pool(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g / number of positions, everywhere.

    https://onnx.ai/onnx/operators/onnx__GlobalAveragePool.html
    """
    x = args(node)[0]
    return op.expand(g / math.prod(static(x, 2)), x, range(2, len(shape_of(x))))


@vjp("GlobalMaxPool")
def global_max_pool(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx: g at the first maximum.  https://onnx.ai/onnx/operators/onnx__GlobalMaxPool.html"""
    x = args(node)[0]
    positions = math.prod(static(x, 2))
    flat = [0, 0, positions]
    best = op.ArgMax(op.Reshape(x, flat), axis=2, keepdims=1)
    chosen = op.Equal(best, op.const(np.arange(positions)))
    here = op.Reshape(chosen, [0, 0, *static(x, 2)])
    return op.Where(here, g, 0.0)
