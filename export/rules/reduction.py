"""Reductions along axes.  Specs: https://onnx.ai/onnx/operators/."""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx_ir as ir

from ...runtime.errors import ModelError
from ..context import Ops, args, attribute, constant, shape_of
from ..registry import vjp


@vjp("ReduceSum")
def reduce_sum(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g, repeated along the reduced axes."""
    axes = reduced(node)
    return op.expand(kept(op, node, g, axes), args(node)[0], axes)


@vjp("ReduceMean")
def reduce_mean(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g / number of elements, repeated along the reduced axes."""
    x, axes = args(node)[0], reduced(node)
    dims = [shape_of(x)[a] for a in axes]
    if None in dims:
        raise ModelError(f"{node.name!r} averages over the batch.", "classify images one by one.")
    count = math.prod(d for d in dims if d is not None)
    return op.expand(kept(op, node, g / count, axes), x, axes)


@vjp("ReduceMax", "ReduceMin")
def reduce_extremum(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx: the elements that equal the result share g evenly (as torch.amax does)."""
    x, axes = args(node)[0], reduced(node)
    y = node.outputs[0]
    if not attribute(node, "keepdims", 1):
        y = op.Unsqueeze(y, axes)
    hits = op.Cast(op.Equal(x, y), to=int(op.dtype))
    return kept(op, node, g, axes) * (hits / op.ReduceSum(hits, axes, keepdims=1))


@vjp("ReduceL2")
def reduce_l2(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g x / y; 0 where the norm is 0 (as torch.linalg.vector_norm)."""
    x, axes, y = args(node)[0], reduced(node), node.outputs[0]
    if not attribute(node, "keepdims", 1):
        y = op.Unsqueeze(y, axes)
    unit = op.Where(op.Equal(y, 0.0), 0.0, x / y)
    return kept(op, node, g, axes) * unit


def reduced(node: ir.Node) -> list[int]:
    """The reduced axes, none negative; all where none is given."""
    rank = len(shape_of(args(node)[0]))
    given = node.inputs[1] if len(node.inputs) > 1 else None
    if given is None:
        return [] if attribute(node, "noop_with_empty_axes", 0) else list(range(rank))
    axes = constant(given)
    if axes is None:
        raise ModelError(f"{node.name!r}: axes must be constant.", "fold constants first.")
    if not axes.size and not attribute(node, "noop_with_empty_axes", 0):
        return list(range(rank))
    return sorted(int(a) % rank for a in axes)


def kept(op: Ops, node: ir.Node, g: ir.Value, axes: Sequence[int]) -> ir.Value:
    """Give g the reduced axes back, with length 1."""
    if attribute(node, "keepdims", 1) or not axes:
        return g
    return op.Unsqueeze(g, [a + 1 for a in axes])
