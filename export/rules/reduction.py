"""Reductions along axes.  Specs: https://onnx.ai/onnx/operators/."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ...runtime.errors import ModelError
from ..autodiff.ops import Ops
from ..autodiff.registry import vjp
from ..graph.values import EXACT, HALF, args, attribute, constant, not_constant, shape_of


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
        raise ModelError(
            f"{node.name!r} averages over the batch: the scores of an image depend on the images "
            "beside it.",
            "export the classifier in eval mode (model.eval()), or with a batch of one image.",
        )
    count = math.prod(d for d in dims if d is not None)
    return op.expand(kept(op, node, g / count, axes), x, axes)


@vjp("ReduceMax", "ReduceMin")
def reduce_extremum(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx: the elements that equal the result share g evenly (as torch.amax does)."""
    x, axes = args(node)[0], reduced(node)
    if not axes:
        return g
    y = _kept_output(op, node, axes)
    if op.dtype in HALF:
        x = op.Cast(x, to=int(EXACT))
        y = (op.ReduceMax if node.op_type == "ReduceMax" else op.ReduceMin)(x, axes, keepdims=1)
    hits = op.Cast(op.Equal(x, y), to=int(op.dtype))
    return kept(op, node, g, axes) * (hits / op.ReduceSum(hits, axes, keepdims=1))


@vjp("ReduceL1")
def reduce_l1(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g sign(x); 0 at 0."""
    return kept(op, node, g, reduced(node)) * op.Sign(args(node)[0])


@vjp("ReduceL2")
def reduce_l2(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g x / y; 0 where the norm is 0 (as torch.linalg.vector_norm)."""
    x, axes = args(node)[0], reduced(node)
    y = _kept_output(op, node, axes)
    return kept(op, node, g, axes) * (x / op.Where(op.Equal(y, 0.0), 1.0, y))


@vjp("ReduceSumSquare")
def reduce_sum_square(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = 2 g x."""
    return kept(op, node, g, reduced(node)) * (args(node)[0] * 2)


@vjp("ReduceLogSum")
def reduce_log_sum(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g / exp(y), repeated along the reduced axes."""
    axes = reduced(node)
    whole = kept(op, node, g / op.Exp(node.outputs[0]), axes)
    return op.expand(whole, args(node)[0], axes)


@vjp("ReduceLogSumExp")
def reduce_log_sum_exp(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g exp(x - y)."""
    axes = reduced(node)
    return kept(op, node, g, axes) * op.Exp(args(node)[0] - _kept_output(op, node, axes))


@vjp("ReduceProd")
def reduce_prod(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g times the product of all others, also where there are zeros."""
    x, axes = args(node)[0], reduced(node)
    if not axes:
        return g
    zero = op.Equal(x, 0.0)
    is_zero = op.Cast(zero, to=int(op.dtype))
    filled = op.Where(zero, 1.0, x)
    other_zeros = op.ReduceSum(is_zero, axes, keepdims=1) - is_zero
    others = op.Where(
        op.Greater(other_zeros, 0.5), 0.0, op.ReduceProd(filled, axes, keepdims=1) / filled
    )
    return kept(op, node, g, axes) * others


@vjp("CumSum")
def cum_sum(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = the running sum of g from the other end."""
    axis, rank = constant(node.inputs[1]), len(shape_of(args(node)[0]))
    if axis is None:
        raise not_constant(node, "axis")
    back = np.array(int(axis.item()) % rank - rank)
    reverse, exclusive = 1 - attribute(node, "reverse", 0), attribute(node, "exclusive", 0)
    return op.CumSum(g, back, reverse=reverse, exclusive=exclusive)


@vjp("CumProd")
def cum_prod(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = the running sum of g y from the other end, over x; not defined where x is 0."""
    x, axis = args(node)[0], constant(node.inputs[1])
    if axis is None:
        raise not_constant(node, "axis")
    back = np.array(int(axis.item()) % len(shape_of(x)) - len(shape_of(x)))
    reverse, exclusive = 1 - attribute(node, "reverse", 0), attribute(node, "exclusive", 0)
    return op.CumSum(g * node.outputs[0], back, reverse=reverse, exclusive=exclusive) / x


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


def _kept_output(op: Ops, node: ir.Node, axes: Sequence[int]) -> ir.Value:
    """The result with the reduced axes, of length 1."""
    y = node.outputs[0]
    return y if attribute(node, "keepdims", 1) or not axes else op.Unsqueeze(y, list(axes))


def kept(op: Ops, node: ir.Node, g: ir.Value, axes: Sequence[int]) -> ir.Value:
    """Give g the reduced axes back, with length 1."""
    if attribute(node, "keepdims", 1) or not axes:
        return g
    return op.Unsqueeze(g, [a + 1 for a in axes])
