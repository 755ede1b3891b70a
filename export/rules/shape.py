"""Operators that move elements and change none: the gradient moves them back.

Specs: https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...runtime.errors import ModelError
from ..context import Ops, args, attribute, constant, length, shape_of
from ..registry import Grads, vjp


@vjp("Flatten", "Reshape", "Squeeze", "Unsqueeze")
def reshape(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g in x's shape."""
    return op.reshape(g, args(node)[0])


@vjp("Transpose")
def transpose(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g, axes put back."""
    rank = len(shape_of(args(node)[0]))
    perm = attribute(node, "perm", list(range(rank))[::-1])
    return op.Transpose(g, perm=[0, *(int(i) + 1 for i in np.argsort(perm))])


@vjp("Expand", broadcast=True)
def expand(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g, summed over the repeated axes by the engine."""
    return g


@vjp("Concat")
def concat(op: Ops, node: ir.Node, g: ir.Value) -> Grads:
    """Each input gets its part of g."""
    rank = len(shape_of(node.outputs[0]))
    axis = attribute(node, "axis") % rank
    sizes = [length(x, axis) for x in args(node)]
    if len(sizes) == 1:
        return g
    return op.Split(g, sizes, axis=axis - rank, outputs=len(sizes))


@vjp("Split", variadic=True)
def split(op: Ops, node: ir.Node, grads: list[ir.Value | None]) -> ir.Value:
    """dx = the gradients joined again, zeros for a part nobody used."""
    x = args(node)[0]
    parts = zip(grads, node.outputs, strict=True)
    whole = [op.full(0.0, y) if g is None else g for g, y in parts]
    axis, rank = attribute(node, "axis", 0), len(shape_of(x))
    return op.Concat(*whole, axis=axis % rank - rank)


@vjp("Slice")
def slice_(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g put back at the places taken, zeros elsewhere."""
    x = args(node)[0]
    starts, ends, axes, steps = (*map(constant, node.inputs[1:]), None, None)[:4]
    if starts is None or ends is None:
        raise _not_constant(node, "starts and ends")
    axes = np.arange(len(starts)) if axes is None else axes
    steps = np.ones_like(starts) if steps is None else steps
    rank = len(shape_of(x))
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        n = length(x, int(axis) % rank)
        taken = range(n)[_slice(int(start), int(end), int(step), n)]
        g = op.scatter(g, taken, x, int(axis) % rank)
    return g


def _slice(start: int, end: int, step: int, n: int) -> slice:
    """ONNX's clamping: unlike Python's, a backward slice that ends before 0 reaches element 0."""
    start += n if start < 0 else 0
    end += n if end < 0 else 0
    if step > 0:
        return slice(max(start, 0), max(end, 0), step)
    return slice(min(start, n - 1), end if end >= 0 else None, step)


@vjp("Gather")
def gather(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = each slice of g added to the place it was taken from."""
    x, axis = args(node)[0], attribute(node, "axis", 0)
    indices, rank = constant(node.inputs[1]), len(shape_of(x))
    if indices is None:
        raise _not_constant(node, "indices")
    axis %= rank
    if indices.ndim != 1:  # one axis for the indices, whatever their shape was
        dims = shape_of(x)
        dims = (*dims[:axis], indices.size, *dims[axis + 1 :])
        target = [-1 if d is None else d for d in dims]
        g = op.Reshape(g, [0, *target])
    n = length(x, axis)
    return op.scatter(g, [int(i) % n for i in indices.reshape(-1)], x, axis)


@vjp("Pad")
def pad(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g without the padding; what edge, reflect and wrap repeated is added back."""
    x, pads = args(node)[0], constant(node.inputs[1])
    if pads is None:
        raise _not_constant(node, "pads")
    rank, mode = len(shape_of(x)), attribute(node, "mode", "constant")
    axes = constant(node.inputs[3]) if len(node.inputs) > 3 else None
    axes = np.arange(rank) if axes is None else axes % rank
    for i, axis in enumerate(int(a) for a in axes):
        before, after = int(pads[i]), int(pads[len(axes) + i])
        if not before and not after:
            continue
        if mode == "constant":
            if before > 0 or after > 0:
                last = length(node.outputs[0], axis) - max(after, 0)
                g = op.Slice(g, [max(before, 0)], [last], [axis - rank])
            if before < 0 or after < 0:
                g = op.Pad(g, [max(-before, 0), max(-after, 0)], 0.0, [axis - rank])
        else:
            # numpy's modes have ONNX's names
            source = np.pad(np.arange(length(x, axis)), (max(before, 0), max(after, 0)), mode)
            source = source[max(-before, 0) : len(source) - max(-after, 0)]
            g = op.scatter(g, [int(s) for s in source], x, axis)
    return g


def _not_constant(node: ir.Node, what: str) -> ModelError:
    return ModelError(
        f"{node.op_type} {node.name!r}: {what} must be constant to be differentiated.",
        "pin the image with --size HEIGHTxWIDTH, so that shapes become constants.",
    )
