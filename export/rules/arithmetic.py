"""Arithmetic of several inputs with broadcasting, which the engine undoes.

Specs: https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

import onnx_ir as ir

from ..autodiff.ops import Ops
from ..autodiff.registry import NOTHING, Grads, vjp
from ..graph.values import args
from .relu import max_with_zero


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
    """da = g b, db = g a.  SiLU, x sigmoid(x): dx = g (s + y (1 - s)), half the products."""
    a, b = args(node)
    for x, s in ((a, b), (b, a)) if "swish" in op.on else ():
        gate = s.producer()
        if gate is not None and gate.op_type == "Sigmoid" and gate.inputs[0] is x:
            dx = g * (s + node.outputs[0] * (1 - s))
            return (dx, NOTHING) if x is a else (NOTHING, dx)
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
    if node.op_type == "Max" and (answer := max_with_zero(op, node, g)) is not None:
        return answer
    hits = [op.Cast(op.Equal(x, node.outputs[0]), to=int(op.dtype)) for x in args(node)]
    share = g / op.Sum(*hits)
    return [share * hit for hit in hits]


@vjp("Where", broadcast=True)
def where(op: Ops, node: ir.Node, g: ir.Value) -> Grads:
    """Each branch gets g where it was chosen."""
    condition = args(node)[0]
    return None, op.Where(condition, g, 0.0), op.Where(condition, 0.0, g)


@vjp("Mod", broadcast=True)
def mod(op: Ops, node: ir.Node, g: ir.Value) -> Grads:
    """a - q b, q the rounded quotient: da = g, db = -g q."""
    a, b = args(node)
    return g, g * op.Neg(op.Round((a - node.outputs[0]) / b))
