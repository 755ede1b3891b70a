"""Operators that pick elements by position: what was taken adds up where it was taken from.

Constant positions become pads and gathers; computed ones are compared with a range (Ops.add_at),
never a Scatter with reduction.  Specs: https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from ...runtime.errors import ModelError
from ..autodiff.adjoints import add_at, pad, scatter
from ..autodiff.ops import Ops
from ..autodiff.registry import Grads, no_gradient, vjp
from ..graph.values import Shape, args, attribute, constant, length, not_constant, shape_of

no_gradient("Hardmax", "piecewise constant: its derivative is zero almost everywhere")


@vjp("Slice")
def slice_(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g put back at the places taken, zeros elsewhere."""
    x = args(node)[0]
    starts, ends, axes, steps = (*map(constant, node.inputs[1:]), None, None)[:4]
    if starts is None or ends is None:
        raise not_constant(node, "starts and ends")
    axes = np.arange(len(starts)) if axes is None else axes
    steps = np.ones_like(starts) if steps is None else steps
    rank, dims = len(shape_of(x)), [*shape_of(node.outputs[0])]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        n = length(x, int(axis) % rank)
        taken = range(n)[_slice(int(start), int(end), int(step), n)]
        g = scatter(op, g, taken, n, int(axis) % rank, dims)
        dims[int(axis) % rank] = n
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
    (x, where), dims = args(node), shape_of(args(node)[0])
    axis = attribute(node, "axis", 0) % len(dims)
    indices, n = constant(where), length(x, axis)
    before, after = dims[:axis], dims[axis + 1 :]
    if indices is not None:
        if indices.ndim != 1:  # one axis for the indices, whatever their shape was
            target = [-1 if d is None else d for d in (*before, indices.size, *after)]
            g = op.Reshape(g, [0, *target])
        return scatter(op, g, [int(i) % n for i in indices.reshape(-1)], n, axis, dims)
    rows = op.Reshape(g, [0, _size(before), _size(shape_of(where)), _size(after)])
    return op.reshape(add_at(op, rows, op.Reshape(where, [-1]), n), x)


@vjp("GatherND")
def gather_nd(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx: as Gather's, the indexed axes counted as one."""
    (x, where), batch = args(node), attribute(node, "batch_dims", 0)
    places, depth = shape_of(where)[:-1], length(where, -1)
    last = batch + depth
    indexed = np.array([length(x, i) for i in range(batch, last)])
    strides = np.cumprod([1, *indexed[:0:-1]])[::-1]
    lead, n = shape_of(x)[:batch], int(np.prod(indexed))
    target = [-1 if d is None else d for d in (0, *lead, _size(places[batch:]))]
    rows = op.Reshape(g, [*target, _size(shape_of(x)[last:])])
    indices = constant(where)
    if indices is not None and not batch:
        flat = (indices % indexed).reshape(-1, depth) @ strides
        after = _size(shape_of(x)[last:])
        shape = [n, None if after < 0 else after]
        return op.reshape(scatter(op, rows, [int(i) for i in flat], n, 0, shape), x)
    wrapped = op.Mod(op.Cast(where, to=int(ir.DataType.INT64)), indexed)
    flat = op.ReduceSum(wrapped * op.const(strides), [-1], keepdims=0)
    return op.reshape(add_at(op, rows, op.Reshape(flat, target[1:]), n), x)


@vjp("GatherElements")
def gather_elements(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = each element of g added to the place it was taken from."""
    x, where = args(node)
    axis, rank = attribute(node, "axis", 0) % len(shape_of(x)), len(shape_of(x))
    dx = _elements(op, g, where, x, axis)
    pairs = enumerate(zip(shape_of(x), shape_of(where), strict=True))
    short = [i for i, (n, m) in pairs if i != axis and n != m]
    if not short:
        return dx
    missing = {i - rank: (0, length(x, i) - length(where, i)) for i in short}
    dims = [length(x, axis) if i == axis else d for i, d in enumerate(shape_of(where))]
    return pad(op, dx, rank + 1, missing, dims=dims)


@vjp("TopK")
def top_k(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g at the elements chosen (gradient of the values)."""
    x = args(node)[0]
    axis = attribute(node, "axis", -1) % len(shape_of(x))
    return _elements(op, g, node.outputs[1], x, axis)


def _elements(op: Ops, g: ir.Value, where: ir.Value, x: ir.Value, axis: int) -> ir.Value:
    """The adjoint of x[..., where, ...]: the axis is moved last and each element made a row."""
    rank, n = len(shape_of(x)), length(x, axis)
    swap = [i if i not in (axis, rank - 1) else axis + rank - 1 - i for i in range(rank)]
    swap_g = [0, *(i + 1 for i in swap)]
    last = axis == rank - 1
    rows = op.Unsqueeze(g if last else op.Transpose(g, perm=swap_g), [-1])
    index = where if last else op.Transpose(where, perm=swap)
    dx = op.Squeeze(add_at(op, rows, index, n), [-1])
    return dx if last else op.Transpose(dx, perm=swap_g)


@vjp("ScatterElements")
def scatter_elements(op: Ops, node: ir.Node, g: ir.Value) -> Grads:
    """d data = g where nothing was written, d updates = g where they were written."""
    x, where, updates = args(node)
    axis = attribute(node, "axis", 0) % len(shape_of(x)) - len(shape_of(x))
    written = op.GatherElements(g, op.for_each_class(where), axis=axis)
    if _adds(node):
        return g, None, written
    ones, zeros = (op.Expand(v, op.Shape(t)) for v, t in ((1.0, x), (0.0, updates)))
    return g * op.ScatterElements(ones, where, zeros, axis=axis), None, written


@vjp("ScatterND")
def scatter_nd(op: Ops, node: ir.Node, g: ir.Value) -> Grads:
    """d data = g where nothing was written, d updates = g where they were written."""
    x, where, updates = args(node)
    written = op.GatherND(g, op.for_each_class(where), batch_dims=1)
    if _adds(node):
        return g, None, written
    ones, zeros = (op.Expand(v, op.Shape(t)) for v, t in ((1.0, x), (0.0, updates)))
    return g * op.ScatterND(ones, where, zeros), None, written


def _adds(node: ir.Node) -> bool:
    """Whether updates are added to the data (else: written over it)."""
    reduction = attribute(node, "reduction", "none")
    if reduction not in ("none", "add"):
        raise ModelError(
            f"{node.op_type} {node.name!r} with reduction={reduction!r} has no backward rule.",
            "replace it in the model; the reductions none and add have one.",
        )
    return bool(reduction == "add")


@vjp("OneHot")
def one_hot(op: Ops, node: ir.Node, g: ir.Value) -> Grads:
    """Values [off, on]: each gets the sum of g where it was written."""
    indices, depth, _ = args(node)
    hot = op.OneHot(
        indices, depth, op.const(np.array([0.0, 1.0])), axis=attribute(node, "axis", -1)
    )
    axes = [i + 1 for i in range(len(shape_of(node.outputs[0])))]
    on = op.ReduceSum(g * hot, axes, keepdims=0)
    return (
        None,
        None,
        op.Concat(
            *(op.Unsqueeze(v, [1]) for v in (op.ReduceSum(g, axes, keepdims=0) - on, on)), axis=1
        ),
    )


@vjp("ReverseSequence")
def reverse_sequence(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g reversed the same way; K waits behind the two axes that must come first."""
    rank = len(shape_of(args(node)[0]))
    behind = [1, 2, 0, *range(3, rank + 1)]
    axes = {"time_axis": attribute(node, "time_axis", 0)}
    axes["batch_axis"] = attribute(node, "batch_axis", 1)
    turned = op.ReverseSequence(op.Transpose(g, perm=behind), args(node)[1], **axes)
    return op.Transpose(turned, perm=[2, 0, 1, *range(3, rank + 1)])


def _size(dims: Shape | list[int | None]) -> int:
    """How many elements; -1 where that depends on the batch."""
    return -1 if None in dims else math.prod(d or 0 for d in dims)
