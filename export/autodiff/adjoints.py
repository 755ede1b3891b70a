"""Adjoints of taking and moving elements, without the scatters that TensorRT refuses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from ..graph.values import Operand, Shape
from .ops import Ops, Taken


def scatter(
    op: Ops, g: ir.Value, indices: Sequence[int], n: int, axis: int, dims: Sequence[int | None]
) -> ir.Value:
    """The adjoint of taking constant ``indices`` along an axis: add each slice back.

    Scatter with addition is what TensorRT refuses. So each place gathers the slices that were
    taken from it, a slice of zeros filling up where others have more; where one place was taken
    far more often than the rest, a product with a 0/1 matrix is slimmer.

    Args:
        g: gradient with ``len(indices)`` slices along that axis.
        indices: none negative; may repeat.
        n: length of the axis that was indexed.
        axis: of the forward tensor, not negative.
        dims: g's shape without the classes, None for the batch; its length along the axis is not
            read.
    """
    whole = _scatter(op, g, indices, n, axis, dims)
    if len(set(indices)) == len(indices):
        others = tuple(d for i, d in enumerate(dims) if i != axis)
        op.taken[whole] = Taken(g, tuple(indices), n, axis, others)
    return whole


def _scatter(
    op: Ops, g: ir.Value, indices: Sequence[int], n: int, axis: int, dims: Sequence[int | None]
) -> ir.Value:
    m, rank, first = len(indices), len(dims), indices[0] if len(indices) else 0
    back = axis - rank
    here = [m if i == axis else d for i, d in enumerate(dims)]
    if list(indices) == list(range(first, first + m)):
        return pad(op, g, rank + 1, {back: (first, n - first - m)}, dims=here)
    most = int(np.bincount(indices).max())
    if n * most > 4 * (n + m):
        matrix = np.zeros((m, n))
        matrix[range(m), list(indices)] = 1
        return along(op, g, matrix, axis, rank)
    table = np.full((n, most), m)
    filled = [0] * n
    for source, place in enumerate(indices):
        table[place, filled[place]] = source
        filled[place] += 1
    if table.max() == m:
        g = pad(op, g, rank + 1, {back: (0, 1)}, dims=here)
    if most == 1:
        return op.Gather(g, table[:, 0], axis=back)
    if back >= -2 and np.array_equal(table.ravel(), np.arange(m)):  # repeated, as by Resize
        split = op.Reshape(g, [*[0] * (rank + back + 1), n, most, *[-1] * (-1 - back)])
    else:
        split = op.Gather(g, table, axis=back)
    return op.ReduceSum(split, [back], keepdims=0)


def joined(op: Ops, parts: Sequence[ir.Value]) -> list[ir.Value]:
    """Gradients of one tensor; those of different slices of it, along one axis, put together.

    What Split, Gather, Slice or unbind took apart is one Concat again, instead of as many tensors
    of zeros, each with its slice, added up.
    """
    groups: dict[tuple[int, int, Shape], list[Taken]] = {}
    rest = []
    for g in parts:
        taken = op.taken.get(g) if "joined-slices" in op.on else None
        if taken is None:
            rest.append(g)
        else:
            groups.setdefault((taken.n, taken.axis, taken.others), []).append(taken)
    for (n, axis, others), group in groups.items():
        group.sort(key=lambda taken: taken.indices)
        indices = [i for taken in group for i in taken.indices]
        if len(group) == 1 or len(set(indices)) < len(indices):
            rest += [g for g in parts if op.taken.get(g) in group]
            continue
        whole = op.Concat(*(taken.g for taken in group), axis=axis - len(others) - 1)
        dims = [*others[:axis], None, *others[axis:]]
        rest.append(scatter(op, whole, indices, n, axis, dims))
    return rest


def pad(
    op: Ops,
    v: ir.Value,
    rank: int,
    ends: dict[int, tuple[int, int]],
    fill: Operand = 0.0,
    dims: Sequence[int | None] | None = None,
) -> ir.Value:
    """Lengthen axes, counted from the end, of a tensor of that rank.

    All axes are written out: ONNX Runtime's optimiser (1.31) takes a Transpose through a Pad
    that names its axes as if it named all of them, and the graph fails when it is run.

    Args:
        op: emitter.
        v: the tensor.
        rank: of v.
        ends: axis -> how much before and after.
        fill: the number there.
        dims: of a gradient, its shape without the classes: then one axis is lengthened as the
            height of a tensor of rank 4, for which ONNX Runtime's CUDA provider has a kernel that
            is a hundred times faster.
    """
    ends = {axis % rank: most for axis, most in ends.items() if any(most)}
    if dims is not None and len(ends) == 1 and "flat-pads" in op.on:
        ((axis, (before, after)),) = ends.items()
        lead, follow = dims[: axis - 1], dims[axis:]
        if None not in lead or None not in follow:
            high = op.Reshape(v, [0, _size(lead), dims[axis - 1], _size(follow)])
            high = op.Pad(high, [0, 0, before, 0, 0, 0, after, 0], fill)
            longer = before + (dims[axis - 1] or 0) + after
            whole = [*lead, longer, *follow]
            return op.Reshape(high, [0, *(-1 if d is None else d for d in whole)])
    pads = [0] * 2 * rank
    for axis, (before, after) in ends.items():
        pads[axis], pads[rank + axis] = before, after
    return op.Pad(v, pads, fill) if any(pads) else v


def _size(dims: Sequence[int | None]) -> int:
    """How many elements; -1 where that depends on the batch."""
    return -1 if None in dims else math.prod(d or 0 for d in dims)


def along(op: Ops, g: ir.Value, matrix: np.ndarray[Any, Any], axis: int, rank: int) -> ir.Value:
    """Multiply the vectors along an axis of the forward tensor by a constant [m, n]."""
    back = axis - rank
    if back == -1:
        return op.MatMul(g, matrix)
    if back == -2:
        return op.MatMul(matrix.T, g)
    swap = list(range(rank + 1))
    swap[back], swap[-1] = swap[-1], swap[back]
    return op.Transpose(op.MatMul(op.Transpose(g, perm=swap), matrix), perm=swap)


def add_at(op: Ops, g: ir.Value, index: ir.Value, n: int) -> ir.Value:
    """The adjoint of taking rows by computed indices: add each row back where it came from.

    Comparisons with a range and a matrix product instead of a Scatter with addition.

    Args:
        g: gradient [K, *B, m, r].
        index: integers [*B, m]; negative ones count from the end.
        n: the number of rows that could be taken.

    Returns:
        [K, *B, n, r].
    """
    wrapped = op.Mod(op.Cast(index, to=int(ir.DataType.INT64)), [n])
    rows = np.arange(n).reshape(n, 1)
    hits = op.Equal(op.Unsqueeze(wrapped, [-2]), rows)
    return op.MatMul(op.Cast(hits, to=int(op.dtype)), g)


def own(op: Ops, w: ir.Value, g: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Weights, and a gradient to go through them as they are: both negated where w is square.

    OpenVINO 2025.4 brings weights into the layout of the node that it meets first; where rows
    and columns (channels in and out) are as many, it does not notice that the other node wants
    them the other way. Other numbers are other weights. (It sees through an identical copy.)
    """
    tensor = w.const_value
    if tensor is None or len(tensor.shape) < 2 or tensor.shape[0] != tensor.shape[1]:
        return w, g
    return op.Neg(w), op.Neg(g)
