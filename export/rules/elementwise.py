"""Functions of one element, and arithmetic with broadcasting.

Kinks follow PyTorch. d is computed at the forward's shape and multiplied by g [K, ...] last, so
that it is computed once for all K classes. Operator specs: https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

import math

import onnx_ir as ir

from ..context import FLOATS, Ops, args, attribute
from ..registry import Grads, no_gradient, vjp

for _op_type in ("Ceil", "Floor", "Round", "Sign"):
    no_gradient(_op_type, "piecewise constant: its derivative is zero almost everywhere")


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
    """dx = g in x's type, between float types; nothing else can be differentiated."""
    x = args(node)[0]
    return op.Cast(g, to=int(x.dtype)) if x is not None and x.dtype in FLOATS else None


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


@vjp("Sin")
def sin(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g cos x."""
    return g * op.Cos(args(node)[0])


@vjp("Cos")
def cos(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = -g sin x."""
    return g * op.Neg(op.Sin(args(node)[0]))


@vjp("Erf")
def erf(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g 2/sqrt(pi) exp(-x^2)."""
    x = args(node)[0]
    return g * (op.Exp(op.Neg(x * x)) * (2 / math.sqrt(math.pi)))


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
    return g * (op.step(op.Min(y, 1 - y)) * alpha)


@vjp("HardSwish")
def hard_swish(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g where x >= 3, g (x/3 + 1/2) where -3 < x < 3, else 0."""
    x = args(node)[0]
    middle = op.Where(op.Greater(x, -3.0), x * (1 / 3) + 0.5, 0.0)
    return g * op.Where(op.Less(x, 3.0), middle, 1.0)


@vjp("Gelu")
def gelu(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g (Phi(x) + x phi(x)), or the derivative of the tanh approximation."""
    x = args(node)[0]
    if attribute(node, "approximate", "none") == "tanh":
        a, b = math.sqrt(2 / math.pi), 0.044715
        t = op.Tanh((x + x * x * x * b) * a)
        slope = (1 - t * t) * (x * x * (3 * b) + 1) * a
        return g * ((t + 1 + x * slope) * 0.5)
    cdf = (op.Erf(x * math.sqrt(0.5)) + 1) * 0.5
    pdf = op.Exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi))
    return g * (cdf + x * pdf)


@vjp("Add", "Sum", broadcast=True)
def add(op: Ops, node: ir.Node, g: ir.Value) -> Grads:
    """Every input gets g."""
    return [g] * len(args(node))


@vjp("Mean", broadcast=True)
def mean(op: Ops, node: ir.Node, g: ir.Value) -> Grads:
    """Every input gets g / number of inputs."""
    return [g / len(args(node))] * len(args(node))


@vjp("Sub", broadcast=True)
def sub(op: Ops, node: ir.Node, g: ir.Value) -> Grads:
    """da = g, db = -g."""
    return g, op.Neg(g)


@vjp("Mul", broadcast=True)
def mul(op: Ops, node: ir.Node, g: ir.Value) -> Grads:
    """da = g b, db = g a."""
    a, b = args(node)
    return g * b, g * a


@vjp("Div", broadcast=True)
def div(op: Ops, node: ir.Node, g: ir.Value) -> Grads:
    """da = g / b, db = -g y / b."""
    b, y = args(node)[1], node.outputs[0]
    return g / b, g * op.Neg(y / b)


@vjp("Pow", broadcast=True)
def power(op: Ops, node: ir.Node, g: ir.Value) -> Grads:
    """da = g b a^(b-1), 0 where b = 0; db = g y log a, 0 where a = 0 <= b (as in PyTorch)."""
    a, b = args(node)
    y = node.outputs[0]
    b = op.Cast(b, to=int(op.dtype))  # the exponent may be an integer
    da = op.Where(op.Equal(b, 0.0), 0.0, b * op.Pow(a, b - 1))
    db = op.Where(op.And(op.Equal(a, 0.0), op.GreaterOrEqual(b, 0.0)), 0.0, y * op.Log(a))
    return g * da, g * db


@vjp("Max", "Min", broadcast=True)
def extremum(op: Ops, node: ir.Node, g: ir.Value) -> Grads:
    """The inputs that equal the result share g evenly (as torch.maximum does at ties)."""
    hits = [op.Cast(op.Equal(x, node.outputs[0]), to=int(op.dtype)) for x in args(node)]
    share = g / op.Sum(*hits)
    return [share * hit for hit in hits]


@vjp("Where", broadcast=True)
def where(op: Ops, node: ir.Node, g: ir.Value) -> Grads:
    """Each branch gets g where it was chosen."""
    condition = args(node)[0]
    return None, op.Where(condition, g, 0.0), op.Where(condition, 0.0, g)
