"""Pooling, without index tensors.

MaxPool's Indices output costs ONNX Runtime 16 times the pooling itself (48 ms against 2.9 on
float32 [4,64,112,112], one thread), and TensorRT refuses it.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir

from ..context import Ops, args, attribute, shape_of, static
from ..registry import vjp
from .convolution import Window, undo, window

Array: TypeAlias = np.ndarray[Any, Any]


@vjp("MaxPool")
def max_pool(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx: each output's gradient goes to the FIRST maximum of its window (row-major), as PyTorch.

    Every position of the window is a strided Slice of the padded input; compared with the output
    they give one mask per position, and a ConvTranspose with one-hot kernels puts the masked
    gradients back (5 ms where the masks take 27, on that tensor).
    https://onnx.ai/onnx/operators/onnx__MaxPool.html
    """
    x, y, win = args(node)[0], node.outputs[0], window(node)
    rank, out = len(win.kernel), static(y, 2)
    taps = list(itertools.product(*(range(k) for k in win.kernel)))
    masks, taken = [], None
    padded = op.Pad(x, [0, 0, *win.begin, 0, 0, *win.end], _lowest(op.dtype))
    for tap in taps:
        start = [t * d for t, d in zip(tap, win.dilations, strict=True)]
        stop = [a + (o - 1) * s + 1 for a, o, s in zip(start, out, win.strides, strict=True)]
        here = op.Equal(op.Slice(padded, start, stop, list(range(2, 2 + rank)), win.strides), y)
        masks.append(op.Unsqueeze(here if taken is None else op.And(here, op.Not(taken)), [2]))
        taken = here if taken is None else op.Or(taken, here)
    chosen = op.Concat(*masks, axis=2)  # [N, C, taps, ...]
    spread = op.Where(chosen, op.Unsqueeze(g, [-rank - 1]), 0.0)
    gf = op.Reshape(spread, [-1, len(taps), *out])
    one_hot = np.eye(len(taps), dtype=np.float32).reshape(len(taps), 1, *win.kernel)
    return _scatter(op, gf, one_hot, win, x)


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
