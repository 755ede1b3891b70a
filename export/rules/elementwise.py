"""Functions of one element.

Kinks follow PyTorch. d is computed at the forward's shape and multiplied by g [K, ...] last, so
that it is computed once for all K classes. Operator specs: https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

import math

import onnx_ir as ir

from ..autodiff.ops import Ops
from ..autodiff.registry import Grads, no_gradient, vjp
from ..graph.values import FLOATS, args

for _op_type in ("Ceil", "Floor", "Round", "Sign"):
    no_gradient(_op_type, "piecewise constant: its derivative is zero almost everywhere")
for _op_type in ("RandomNormalLike", "RandomUniformLike", "Bernoulli", "EyeLike"):
    no_gradient(_op_type, "its values do not depend on the input's, or at random")


@vjp("Identity")
def identity(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g."""
    return g


@vjp("Dropout")
def dropout(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g: at inference Dropout is the identity (normalise refuses training mode)."""
    return g


@vjp("Cast")
def cast(op: Ops, node: ir.Node, g: ir.Value) -> Grads:
    """dx = g in x's type; a quantised x takes the gradient as it is."""
    x = args(node)[0]
    return op.Cast(g, to=int(x.dtype or op.dtype)) if x.dtype in FLOATS else g


@vjp("Neg")
def neg(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = -g."""
    return op.Neg(g)


@vjp("Abs")
def abs_(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g sign(x); 0 at 0."""
    return g * op.Sign(args(node)[0])


@vjp("Reciprocal")
def reciprocal(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = -g y^2."""
    y = node.outputs[0]
    return g * op.Neg(y * y)


@vjp("Exp")
def exp(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g y."""
    return g * node.outputs[0]


@vjp("Log")
def log(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g / x."""
    return g / args(node)[0]


@vjp("Sqrt")
def sqrt(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g / (2 y)."""
    return g / (node.outputs[0] * 2)


@vjp("Erf")
def erf(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g 2/sqrt(pi) exp(-x^2)."""
    x = args(node)[0]
    return g * (op.Exp(op.Neg(x * x)) * (2 / math.sqrt(math.pi)))
