"""Convolutions and matrix products, with respect to their data input."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir

from ..context import Ops, Shape, args, attribute, shape_of, static
from ..registry import Grads, vjp


class Window(NamedTuple):
    """The sliding window of a Conv or pooling node, and how to undo it.

    Attributes:
        kernel, strides, dilations, begin: one number per spatial axis; begin is the padding before.
        end, output_padding: with these a ConvTranspose of y's shape has exactly x's: a window may
            stop short of the padded input (stride) or, with ceil_mode, reach past it.
        size: of x.
    """

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    begin: list[int]
    end: list[int]
    output_padding: list[int]
    size: tuple[int, ...]


def window(node: ir.Node) -> Window:
    """Read the window from the attributes, which normalise.py has made explicit."""
    kernel, strides, pads = (list(attribute(node, a)) for a in ("kernel_shape", "strides", "pads"))
    rank, size = len(kernel), static(args(node)[0], 2)
    dilations = list(attribute(node, "dilations", [1] * rank))
    axes = zip(static(node.outputs[0], 2), kernel, strides, dilations, strict=True)
    reach = [(o - 1) * s + d * (k - 1) + 1 for o, k, s, d in axes]
    covered = [r - p - q for r, p, q in zip(reach, pads[:rank], pads[rank:], strict=True)]
    missing = [n - c for n, c in zip(size, covered, strict=True)]
    end = [q + max(-m, 0) for q, m in zip(pads[rank:], missing, strict=True)]
    output_padding = [max(m, 0) for m in missing]
    return Window(kernel, strides, dilations, pads[:rank], end, output_padding, size)


def undo(op: Ops, gf: ir.Value, w: ir.Value, win: Window, **attributes: Any) -> ir.Value:
    """A ConvTranspose from y's shape to x's.

    ONNX Runtime's CUDA provider leaves one with unequal pads to the CPU: then the padding is cut
    off afterwards.
    """
    attributes = {"kernel_shape": win.kernel, "strides": win.strides, **attributes}
    attributes |= {"dilations": win.dilations, "output_padding": win.output_padding}
    if win.begin == win.end:
        return op.ConvTranspose(gf, w, pads=win.begin + win.end, **attributes)
    stop = [b + n for b, n in zip(win.begin, win.size, strict=True)]
    axes = list(range(2, 2 + len(win.size)))
    return op.Slice(op.ConvTranspose(gf, w, **attributes), win.begin, stop, axes)


def flipped(op: Ops, w: ir.Value, group: int) -> ir.Value:
    """The kernel of the backward convolution: [O, C/G, ...] -> [C, O/G, ...], mirrored.

    Emitted as operators on the initializer: engines fold them when they load the file, and the file
    does not carry every weight twice.
    """
    out, per_group, *kernel = static(w)
    spatial = list(range(2, 2 + len(kernel)))
    if group == 1:
        w = op.Transpose(w, perm=[1, 0, *spatial])
    elif per_group > 1 or out > group:
        w = op.Reshape(w, [group, out // group, per_group, *kernel])
        w = op.Transpose(w, perm=[0, 2, 1, *(i + 1 for i in spatial)])
        w = op.Reshape(w, [group * per_group, out // group, *kernel])
    axes = [i for i, k in zip(spatial, kernel, strict=True) if k > 1]
    before_first = -(2**62)
    backwards = [-1] * len(axes)
    return op.Slice(w, backwards, [before_first] * len(axes), axes, backwards) if axes else w


@vjp("Conv")
def conv(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx: the adjoint of correlation with w.

    With stride 1 a Conv with the mirrored kernel (45 ms where ConvTranspose takes 65), else a
    ConvTranspose. Where engines refuse that one (TensorRT: stride with dilation; the reference
    evaluator: groups of several channels) the gradient is spread out first.
    https://onnx.ai/onnx/operators/onnx__Conv.html
    """
    (x, w), (y,), win = args(node)[:2], node.outputs, window(node)
    group, gf = attribute(node, "group", 1), op.fold(g, y)
    grouped = group > 1 and static(y, 1)[0] > group
    if max(win.strides) > 1 and (grouped or max(win.dilations) > 1):
        gf, win = spread(op, gf, y, win.strides), win._replace(strides=[1] * len(win.strides))
    reach = [d * (k - 1) for d, k in zip(win.dilations, win.kernel, strict=True)]
    before = [r - p for r, p in zip(reach, win.begin, strict=True)]
    after = [r - e + p for r, e, p in zip(reach, win.end, win.output_padding, strict=True)]
    if max(win.strides) > 1 or min(before + after) < 0:
        return op.unfold(undo(op, gf, w, win, group=group), x)
    same = {"kernel_shape": win.kernel, "dilations": win.dilations, "group": group}
    return op.unfold(op.Conv(gf, flipped(op, w, group), pads=before + after, **same), x)


def spread(op: Ops, gf: ir.Value, y: ir.Value, strides: list[int]) -> ir.Value:
    """Put strides - 1 zeros between neighbours: a ConvTranspose with a kernel of one 1.

    Args:
        op: emitter.
        gf: folded gradient, [K*N, C, ...].
        y: the forward tensor it belongs to, [N, C, ...].
        strides: one per spatial axis.
    """
    channels, *out = static(y, 1)
    ones = [1] * len(strides)
    alone = op.Reshape(gf, [-1, 1, *out])
    kernel = op.const(np.ones([1, 1, *ones]))
    far = op.ConvTranspose(alone, kernel, kernel_shape=ones, strides=strides)
    wide = [(o - 1) * s + 1 for o, s in zip(out, strides, strict=True)]
    return op.Reshape(far, [-1, channels, *wide])


@vjp("ConvTranspose")
def conv_transpose(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = Conv(g, w): the adjoint of the adjoint.

    The last rows that output_padding added have no window over them and are cut off.
    https://onnx.ai/onnx/operators/onnx__ConvTranspose.html
    """
    (x, w), (y,) = args(node)[:2], node.outputs
    names = ("kernel_shape", "strides", "dilations", "pads")
    kernel, strides, dilations, pads = (list(attribute(node, name)) for name in names)
    rank = len(kernel)
    sizes = zip(static(x, 2), static(y, 2), kernel, strides, dilations, pads[:rank], strict=True)
    end = [(n - 1) * s + d * (k - 1) + 1 - p - o for n, o, k, s, d, p in sizes]
    gf = op.fold(g, y)
    if min(end) < 0:
        axes = list(range(2, 2 + rank))
        kept = [o + min(e, 0) for o, e in zip(static(y, 2), end, strict=True)]
        gf = op.Slice(gf, [0] * rank, kept, axes)
    dx = op.Conv(
        gf, w, kernel_shape=kernel, strides=strides, dilations=dilations,
        pads=pads[:rank] + [max(e, 0) for e in end], group=attribute(node, "group", 1),
    )  # fmt: skip
    return op.unfold(dx, x)


@vjp("Gemm")
def gemm(op: Ops, node: ir.Node, g: ir.Value) -> Grads:
    """Y = alpha A' B' + beta C: dA' = alpha g B'^T, dB' = alpha A'^T g, dC = beta g.

    https://onnx.ai/onnx/operators/onnx__Gemm.html
    """
    (a, b, *c), y = args(node), node.outputs[0]
    trans_a, trans_b = attribute(node, "transA", 0), attribute(node, "transB", 0)
    alpha, beta = attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)
    if trans_a:
        da = op.MatMul(_transposed(op, b, 2, bool(trans_b)), _transposed(op, g, 3)) * alpha
    else:  # Gemm's transB instead of a Transpose: the weights are stored and read once
        da = op.Gemm(op.fold(g, y), b, alpha=alpha, transB=1 - trans_b)
        da = op.unfold(da, a)
    if trans_b:
        db = op.MatMul(_transposed(op, g, 3), _transposed(op, a, 2, bool(trans_a))) * alpha
    else:
        db = op.MatMul(_transposed(op, a, 2, not trans_a), g) * alpha
    return [da, db, *(op.sum_to(g * beta, shape_of(y), shape_of(v)) for v in c)]


@vjp("MatMul")
def matmul(op: Ops, node: ir.Node, g: ir.Value) -> Grads:
    """dA = g B^T, dB = A^T g, summed over broadcast batch axes.

    A vector is a matrix of one row (A) or one column (B).
    https://onnx.ai/onnx/operators/onnx__MatMul.html
    """
    a, b = args(node)
    (*_, rows, inner), (*_, _, columns) = a_shape, b_shape = _matrices(shape_of(a), shape_of(b))
    batch = shape_of(node.outputs[0])
    batch = batch[: len(batch) - (len(shape_of(a)) > 1) - (len(shape_of(b)) > 1)]
    if a_vector := len(shape_of(a)) == 1:
        a, g = op.Unsqueeze(a, [0]), op.Unsqueeze(g, [-1 if len(shape_of(b)) == 1 else -2])
    if b_vector := len(shape_of(b)) == 1:
        b, g = op.Unsqueeze(b, [1]), op.Unsqueeze(g, [-1])
    da = op.MatMul(g, _transposed(op, b, len(b_shape)))
    db = op.MatMul(_transposed(op, a, len(a_shape)), g)
    da = op.sum_to(da, (*batch, rows, inner), a_shape)
    db = op.sum_to(db, (*batch, inner, columns), b_shape)
    return op.Squeeze(da, [-2]) if a_vector else da, op.Squeeze(db, [-1]) if b_vector else db


def _matrices(a: Shape, b: Shape) -> tuple[Shape, Shape]:
    return (1, *a) if len(a) == 1 else a, (*b, 1) if len(b) == 1 else b


def _transposed(op: Ops, v: ir.Value, rank: int, swap: bool = True) -> ir.Value:
    """Exchange the last two axes."""
    return op.Transpose(v, perm=[*range(rank - 2), rank - 1, rank - 2]) if swap else v
