"""Activation functions; ReLU and what rectifies like it are in ../relu.py.

Kinks follow PyTorch.  Specs: https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

import math

import onnx_ir as ir

from ..autodiff.masks import inside
from ..autodiff.ops import Ops
from ..autodiff.registry import vjp
from ..graph.values import args, attribute


@vjp("Sigmoid")
def sigmoid(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g y (1 - y)."""
    y = node.outputs[0]
    return g * (y * (1 - y))


@vjp("Tanh")
def tanh(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g (1 - y^2)."""
    y = node.outputs[0]
    return g * (1 - y * y)


@vjp("Softplus")
def softplus(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g sigmoid(x)."""
    return g * op.Sigmoid(args(node)[0])


@vjp("Softsign")
def softsign(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g / (1 + |x|)^2."""
    d = op.Abs(args(node)[0]) + 1
    return g / (d * d)


@vjp("Elu")
def elu(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g where x > 0, else g (y + alpha)."""
    y = node.outputs[0]
    below = y + attribute(node, "alpha", 1.0)
    return g * op.Where(op.Greater(args(node)[0], 0.0), 1.0, below)


@vjp("Celu")
def celu(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g where x > 0, else g (y / alpha + 1)."""
    below = node.outputs[0] / attribute(node, "alpha", 1.0) + 1
    return g * op.Where(op.Greater(args(node)[0], 0.0), 1.0, below)


@vjp("Selu")
def selu(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = gamma g where x > 0, else g (y + gamma alpha)."""
    alpha = attribute(node, "alpha", 1.67326319217681884765625)
    gamma = attribute(node, "gamma", 1.05070102214813232421875)
    below = node.outputs[0] + gamma * alpha
    return g * op.Where(op.Greater(args(node)[0], 0.0), gamma, below)


@vjp("HardSigmoid")
def hard_sigmoid(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = alpha g where 0 < y < 1, else 0."""
    y, alpha = node.outputs[0], attribute(node, "alpha", 0.2)
    return g * (inside(op, y, 1.0) * alpha)


@vjp("HardSwish")
def hard_swish(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g where x >= 3, g (x/3 + 1/2) where -3 < x < 3, else 0."""
    x = args(node)[0]
    gate = op.HardSigmoid(x, alpha=1 / 6, beta=0.5)  # y = x gate
    return g * (gate + x * inside(op, gate, 1.0) * (1 / 6))


@vjp("Gelu")
def gelu(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g (Phi(x) + x phi(x)), or the derivative of the tanh approximation."""
    x = args(node)[0]
    if attribute(node, "approximate", "none") == "tanh":
        a, b = math.sqrt(2 / math.pi), 0.044715
        t = op.Tanh((x + x * x * x * b) * a)
        slope = (1 - t * t) * (x * x * (3 * b) + 1) * a
        return g * ((t + 1 + x * slope) * 0.5)
    # Twice the slope: the half is left to the product behind, which engines scale for nothing.
    twice_pdf = op.Exp(x * x * -0.5) * math.sqrt(2 / math.pi)
    return g * (op.Erf(x * math.sqrt(0.5)) + x * twice_pdf + 1) * 0.5


@vjp("Mish")
def mish(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """Y = x t, t = tanh(softplus(x)): dx = g (t + x (1 - t^2) sigmoid(x))."""
    x = args(node)[0]
    t = op.Tanh(op.Softplus(x))
    return g * (t + x * (1 - t * t) * op.Sigmoid(x))


@vjp("Swish")
def swish(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """Y = x s, s = sigmoid(alpha x): dx = g (s + alpha y (1 - s))."""
    x, alpha = args(node)[0], attribute(node, "alpha", 1.0)
    s = op.Sigmoid(x * alpha)
    return g * (s + node.outputs[0] * (1 - s) * alpha)


@vjp("Shrink")
def shrink(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g where |x| > lambd, else 0."""
    return op.Where(op.Greater(op.Abs(args(node)[0]), attribute(node, "lambd", 0.5)), g, 0.0)
