"""Convolutions, with respect to their data input."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir

from ..autodiff.adjoints import own, pad
from ..autodiff.ops import Ops
from ..autodiff.registry import vjp
from ..graph.values import Operand, args, attribute, constant, not_constant, static


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

    With stride 1 a Conv with the mirrored kernel, else a ConvTranspose. Where engines refuse that
    one (TensorRT: stride with dilation; the reference evaluator: groups of several channels) the
    gradient is spread out first.
    https://onnx.ai/onnx/operators/onnx__Conv.html
    """
    (x, w), (y,), win = args(node)[:2], node.outputs, window(node)
    group, gf = attribute(node, "group", 1), op.fold(g, y)
    grouped = group > 1 and static(y, 1)[0] > group
    refused = max(win.strides) > 1 and (grouped or max(win.dilations) > 1)
    if refused:
        gf, win = spread(op, gf, y, win.strides), win._replace(strides=[1] * len(win.strides))
    reach = [d * (k - 1) for d, k in zip(win.dilations, win.kernel, strict=True)]
    before = [r - p for r, p in zip(reach, win.begin, strict=True)]
    after = [r - e + p for r, e, p in zip(reach, win.end, win.output_padding, strict=True)]
    flip = "flipped-conv" in op.on or grouped or refused
    if max(win.strides) > 1 or min(before + after) < 0 or not flip:
        w, gf = own(op, w, gf)
        return op.unfold(undo(op, gf, w, win, group=group), x)
    same = {"kernel_shape": win.kernel, "dilations": win.dilations, "group": group}
    return op.unfold(op.Conv(gf, flipped(op, w, group), pads=before + after, **same), x)


def interleave(op: Ops, parts: list[ir.Value], axis: int, shape: list[int], n: int) -> ir.Value:
    """Element i of part j becomes element i len(parts) + j of the axis, which is cut off at n.

    A Concat of single elements (ONNX Runtime's CPU provider: 1 ms where DepthToSpace takes 4 and
    Transpose more), or a Transpose.

    Args:
        op: emitter.
        parts: tensors of the shape given, one per phase.
        axis: counted from the end.
        shape: of a part, as Reshape takes it (0 and -1 for what is not known).
        n: length wanted.
    """
    if len(parts) == 1:
        return parts[0]
    whole = [*shape]
    whole[axis] *= len(parts)
    if axis == -1 and "transposed-phases" in op.on:
        rank = len(shape)
        rows = op.Concat(*(op.Unsqueeze(v, [-2]) for v in parts), axis=-2)
        split = op.Transpose(rows, perm=[*range(rank - 1), rank, rank - 1])
    else:
        split = op.Concat(*(op.Unsqueeze(v, [axis]) for v in parts), axis=axis)
    joined = op.Reshape(split, whole)
    return joined if whole[axis] == n else op.Slice(joined, [0], [n], [axis])


def fit(
    op: Ops,
    v: ir.Value,
    dims: list[int | None],
    axis: int,
    before: int,
    after: int,
    fill: Operand = 0.0,
    classes: bool = False,
) -> ir.Value:
    """Lengthen an axis at its ends, or, where negative, cut off from them.

    Args:
        op: emitter.
        v: the tensor.
        dims: its shape, without the classes.
        axis: counted from the end.
        before: how much at the beginning.
        after: how much at the end.
        fill: the number there.
        classes: whether the classes are v's first axis.
    """
    n = dims[axis] or 0
    if before < 0 or after < 0:
        v = op.Slice(v, [max(-before, 0)], [n - max(-after, 0)], [axis])
        n += min(before, 0) + min(after, 0)
    here = [n if i == len(dims) + axis else d for i, d in enumerate(dims)] if classes else None
    ends = {axis: (max(before, 0), max(after, 0))}
    return pad(op, v, len(dims) + classes, ends, fill, dims=here)


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


@vjp("Col2Im")
def col2im(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx: the patches of g, one row per place in the kernel: a Conv with one-hot kernels.

    https://onnx.ai/onnx/operators/onnx__Col2Im.html
    """
    x, y, (_, block) = args(node)[0], node.outputs[0], map(constant, node.inputs[1:])
    if block is None:
        raise not_constant(node, "block_shape")
    taps, kernel = int(np.prod(block)), [int(k) for k in block]
    one_hot = op.const(np.eye(taps).reshape(taps, 1, *kernel))
    given = {
        k: attribute(node, k) for k in ("dilations", "pads", "strides") if k in node.attributes
    }
    images = op.Reshape(g, [-1, 1, *static(y, 2)])
    return op.Reshape(op.Conv(images, one_hot, kernel_shape=kernel, **given), op.shape(x))
