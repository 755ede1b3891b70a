"""Circular and hyperbolic functions.  Specs: https://onnx.ai/onnx/operators/."""

from __future__ import annotations

import onnx_ir as ir

from ..autodiff.ops import Ops
from ..autodiff.registry import vjp
from ..graph.values import args


@vjp("Sin")
def sin(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g cos x."""
    return g * op.Cos(args(node)[0])


@vjp("Cos")
def cos(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = -g sin x."""
    return g * op.Neg(op.Sin(args(node)[0]))


@vjp("Tan")
def tan(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g (1 + y^2)."""
    y = node.outputs[0]
    return g * (y * y + 1)


@vjp("Asin")
def asin(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g / sqrt(1 - x^2)."""
    x = args(node)[0]
    return g / op.Sqrt(1 - x * x)


@vjp("Acos")
def acos(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = -g / sqrt(1 - x^2)."""
    x = args(node)[0]
    return g / op.Neg(op.Sqrt(1 - x * x))


@vjp("Atan")
def atan(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g / (1 + x^2)."""
    x = args(node)[0]
    return g / (x * x + 1)


@vjp("Sinh")
def sinh(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g cosh x."""
    return g * op.Cosh(args(node)[0])


@vjp("Cosh")
def cosh(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g sinh x."""
    return g * op.Sinh(args(node)[0])


@vjp("Asinh")
def asinh(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g / sqrt(x^2 + 1)."""
    x = args(node)[0]
    return g / op.Sqrt(x * x + 1)


@vjp("Acosh")
def acosh(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g / sqrt(x^2 - 1), the factors rooted apart: x^2 - 1 cancels near 1."""
    x = args(node)[0]
    return g / (op.Sqrt(x - 1) * op.Sqrt(x + 1))


@vjp("Atanh")
def atanh(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g / (1 - x^2)."""
    x = args(node)[0]
    return g / (1 - x * x)
