"""Pooling, without index tensors.

MaxPool's Indices output costs ONNX Runtime 16 times the pooling itself (48 ms against 2.9 on
float32 [4,64,112,112], one thread), and TensorRT refuses it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
import onnx_ir as ir

from ...runtime.arrays import Array
from ..autodiff.masks import gate
from ..autodiff.ops import Ops
from ..autodiff.registry import vjp
from ..graph.values import EXACT, HALF, args, attribute, shape_of, static
from .convolution import Window, fit, interleave, undo, window


@vjp("MaxPool")
def max_pool(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx: each output's gradient goes to the FIRST maximum of its window (row-major), as PyTorch.

    A window's maximum is that of its rows' maxima: one axis after the other has k + k positions to
    compare where the whole window has k k (36 ms against 12 on that tensor, for 3 x 3 / 2). The
    first row that holds the maximum, and in it the first column, is the first in row-major order.
    https://onnx.ai/onnx/operators/onnx__MaxPool.html
    """
    x, y, win = args(node)[0], node.outputs[0], touching(node)
    rank, size = len(win.kernel), list(static(x, 2))
    source = x.producer()
    after_relu = source is not None and source.op_type == "Relu" and "pooled-relu" in op.on
    after_relu = after_relu and op.rectifiers.rule != "deconvnet"  # which does not mask by x
    if after_relu:
        g = gate(op, g, y)  # the mask of x's Relu, on the smaller tensor
    if _is_whole(node, win):
        g = _at_first_maximum(op, x, g)
        if after_relu:
            op.rectifiers.done.add(g)
        return g
    axes = [i for i in range(rank) if win.kernel[i] > 1 or win.strides[i] > 1]
    half = op.dtype in HALF
    if half:
        x = op.Cast(x, to=int(EXACT))
    groups = [[i] for i in axes]
    if axes and "separable-pool" not in op.on:
        groups = [axes]
    stages = [x]  # the maxima along the last axis, along the last two, ...
    for group in groups[: None if half else 0 : -1]:
        stages.append(op.MaxPool(
            stages[-1], kernel_shape=_at(group, win.kernel, 1),
            strides=_at(group, win.strides, 1),
            pads=_at(group, win.begin, 0) + _at(group, win.end, 0),
            **({"dilations": _at(group, win.dilations, 1)} if max(win.dilations) > 1 else {}),
        ))  # fmt: skip
    if half and groups:
        y = stages.pop()
    shape = list(static(node.outputs[0], 1))
    for group, inner in zip(groups, reversed(stages)):  # noqa: B905  no group: nothing is pooled
        lines = [
            Line(i - rank, win.kernel[i], win.strides[i], win.dilations[i], win.begin[i], size[i])
            for i in group
        ]
        g, y = _max_pool(op, lines, inner, y, g, shape), inner
    if after_relu:
        op.rectifiers.done.add(g)
    return g


class Line(NamedTuple):
    """A pooling window along one axis, counted from the end, of length n before pooling.

    ``begin`` is the padding before.
    """

    axis: int
    kernel: int
    stride: int
    dilation: int
    begin: int
    n: int


def _max_pool(
    op: Ops, lines: list[Line], x: ir.Value, y: ir.Value, g: ir.Value, shape: list[int]
) -> ir.Value:
    """The gradient of x, pooled along these axes to y, [N, *shape]; makes shape that of x.

    Position t of window o is element (o + q) stride + phase of x: every phase is one strided Slice,
    every position a shifted phase. What no position before took belongs to the last one.
    """
    phases: dict[tuple[int, ...], ir.Value] = {}
    parts: dict[tuple[int, ...], list[ir.Value]] = {
        phase: [] for phase in np.ndindex(*(line.stride for line in lines))
    }
    out = [shape[line.axis] for line in lines]
    *taps, last = np.ndindex(*(line.kernel for line in lines))
    for tap in (*taps, last):
        moved = [t * line.dilation - line.begin for t, line in zip(tap, lines, strict=True)]
        shifts = [m // line.stride for m, line in zip(moved, lines, strict=True)]
        phase = tuple(m % line.stride for m, line in zip(moved, lines, strict=True))
        taken = g
        if tap != last:
            if phase not in phases:
                phases[phase] = _phase(op, x, lines, phase)
            here = phases[phase]
            for line, first, q, o in zip(lines, phase, shifts, out, strict=True):
                count = -(-(line.n - first) // line.stride)
                pads, low = (-q, o - count + q), _lowest(op)
                here = fit(op, here, _with([None, *shape], line.axis, count), line.axis, *pads, low)
            taken = g * op.Cast(op.Equal(here, y), to=int(op.dtype))
            g = g - taken
        now: list[int | None] = [None, *shape]
        for line, q, o in zip(lines, shifts, out, strict=True):
            length = -(-line.n // line.stride)
            taken = fit(op, taken, now, line.axis, q, length - o - q, classes=True)
            now = _with(now, line.axis, length)
        parts[phase].append(taken)
    sums = {p: functools.reduce(op.Add, part) if part else None for p, part in parts.items()}
    zero = next(v for v in sums.values() if v is not None) * 0.0 if None in sums.values() else None
    whole = {p: cast("ir.Value", v or zero) for p, v in sums.items()}
    for line in lines:
        shape[line.axis] = -(-line.n // line.stride)
    for line in reversed(lines):
        rows = dict.fromkeys(p[:-1] for p in whole)
        whole = {
            row: interleave(
                op, [whole[*row, i] for i in range(line.stride)], line.axis, [0, -1, *shape], line.n
            )
            for row in rows
        }
        shape[line.axis] = line.n
    return whole[()]


def _with(dims: Sequence[int | None], axis: int, n: int) -> list[int | None]:
    """A shape with another length along one axis."""
    return [n if i == axis % len(dims) else d for i, d in enumerate(dims)]


def _phase(op: Ops, x: ir.Value, lines: list[Line], phase: tuple[int, ...]) -> ir.Value:
    """Every stride-th element, from the phase on."""
    if max(line.stride for line in lines) == 1:
        return x
    axes, strides = [line.axis for line in lines], [line.stride for line in lines]
    return op.Slice(x, phase, [line.n for line in lines], axes, strides)


def _at(axes: list[int], values: list[int], other: int) -> list[int]:
    """The values with all but those of the axes replaced."""
    return [v if i in axes else other for i, v in enumerate(values)]


@vjp("AveragePool")
def average_pool(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx: each output spreads g / count evenly over its window.

    count leaves the padding out unless count_include_pad; what ceil_mode adds beyond the padding
    never counts.  https://onnx.ai/onnx/operators/onnx__AveragePool.html
    """
    x, y, win = args(node)[0], node.outputs[0], touching(node)
    kernel, begin = attribute(node, "kernel_shape"), attribute(node, "pads")
    pads = attribute(node, "pads") if attribute(node, "count_include_pad", 0) else [0] * 99
    counts = []
    for i, (n, o) in enumerate(zip(static(x, 2), static(y, 2), strict=True)):
        first = np.arange(o)[:, None] * attribute(node, "strides")[i] - begin[i]
        taps = first + np.arange(kernel[i]) * win.dilations[i]
        low, high = -pads[i], n + pads[len(kernel) + i]
        counts.append(((taps >= low) & (taps < high)).sum(1))
    count = functools.reduce(np.multiply.outer, counts).astype(np.float64)
    if _is_whole(node, win):
        return op.expand(g / float(count.min()), x, range(2, len(shape_of(x))))
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
    x, y, win, p = args(node)[0], node.outputs[0], touching(node), attribute(node, "p", 2)
    inner, outer = _lp(op, x, y, p)
    if _is_whole(node, win):
        return g * outer * inner
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


def _lowest(op: Ops) -> ir.Value:
    return op.const(-3.4e38, EXACT if op.dtype in HALF else op.dtype)


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
    return _at_first_maximum(op, args(node)[0], g)


def _at_first_maximum(op: Ops, x: ir.Value, g: ir.Value) -> ir.Value:
    """g [K, N, C, 1, ...] where a channel of x first has its maximum, zeros elsewhere."""
    positions = math.prod(static(x, 2))
    flat = [0, 0, positions]
    best = op.ArgMax(op.Reshape(x, flat), axis=2, keepdims=1)
    chosen = op.Equal(best, op.const(np.arange(positions)))
    here = op.Reshape(chosen, [0, 0, *static(x, 2)])
    return op.Where(here, g, 0.0)


def touching(node: ir.Node) -> Window:
    """A pooling window without the positions that lie outside the input wherever it stands.

    So a kernel larger than its map (AvgPool2d(1280) as global pooling) is as large as the map, and
    a window that stands in one place only has the smallest stride.
    """
    win = window(node)
    fields: list[list[int]] = []
    for i, (n, o) in enumerate(zip(win.size, static(node.outputs[0], 2), strict=True)):
        kernel, stride, dilation, begin = (
            v[i] for v in (win.kernel, win.strides, win.dilations, win.begin)
        )
        before = max(begin - (o - 1) * stride, 0) // dilation
        before = min(before, kernel - 1)
        kernel, begin = kernel - before, begin - before * dilation
        kernel = max(min(kernel, -(-(n + begin) // dilation)), 1)
        missing = n + begin - (o - 1) * stride - dilation * (kernel - 1) - 1
        if o == 1:
            stride = max(missing, 0) + 1
        fields.append([kernel, stride, begin, max(-missing, 0), max(missing, 0)])
    kernels, strides, begins, ends, paddings = (list(v) for v in zip(*fields, strict=True))
    return Window(kernels, strides, win.dilations, begins, ends, paddings, win.size)


def _is_whole(node: ir.Node, win: Window) -> bool:
    """Whether there is one window, and it is the input: then it is global pooling."""
    one = all(o == 1 for o in static(node.outputs[0], 2)) and max(win.dilations) == 1
    return one and win.kernel == list(win.size) and not any(win.begin)
