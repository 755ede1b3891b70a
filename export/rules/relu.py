"""Backward rules of ReLU and the operators that rectify like it.

Section 4 of the paper compares its gradient with the DeconvNet of Zeiler and Fergus (2014): they
differ in one sign test. Guided backpropagation (Springenberg et al. 2015) makes both tests.

| rule | ReLU's input gets |
|---|---|
| ``gradient`` | g where x > 0: the test is on the layer's input |
| ``deconvnet`` | g where g > 0: the test is on the gradient |
| ``guided`` | g where x > 0 and g > 0 |

What else rectifies: a test that
fails multiplies by the slope below 0 instead of by 0 (LeakyRelu, PRelu), twice under ``guided`` if
both fail. Clip(0, b), ReLU6's form, has its bound b tested on the layer under all rules: that is no
sign test. ThresholdedRelu's test of x > alpha is replaced by that of g > 0, or joined by it. Max
with 0 is a ReLU. All other activations (SiLU, GELU, ELU, hard-swish, ...) keep their derivative,
the clamp within a hard-sigmoid written out, Clip(x + 3, 0, 6), too.

The test on the gradient is written as Relu(g), which is continuous: no mask that a rounding could
flip, and the same for a gradient scaled by a positive number, as float16's are.
"""

from __future__ import annotations

import onnx_ir as ir

from ..autodiff.masks import gate
from ..autodiff.ops import Ops
from ..autodiff.rectifiers import Rectifier
from ..autodiff.registry import Grads, vjp
from ..graph.values import args, attribute, constant


@vjp("Relu")
def relu(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g [y > 0]; deconvnet: g [g > 0]; guided: both.

    The mask is read from the output, so that Conv + Relu can still be fused.
    https://onnx.ai/onnx/operators/onnx__Relu.html
    """
    _met(op, node, g)
    if op.rectifiers.rule != "deconvnet" and g not in op.rectifiers.done:
        g = gate(op, g, node.outputs[0])
    return _positive(op, g)


@vjp("LeakyRelu")
def leaky_relu(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g where x > 0, else alpha g.  https://onnx.ai/onnx/operators/onnx__LeakyRelu.html"""
    _met(op, node, g)
    alpha = attribute(node, "alpha", 0.01)
    if op.rectifiers.rule != "gradient":
        g = op.LeakyRelu(g, alpha=alpha)
    return g if op.rectifiers.rule == "deconvnet" else g * _slope(op, node, alpha)


@vjp("PRelu")
def prelu(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g where x > 0, else slope g.  https://onnx.ai/onnx/operators/onnx__PRelu.html"""
    _met(op, node, g)
    slope = args(node)[1]
    if op.rectifiers.rule != "gradient":
        g = op.Relu(g) + slope * op.Min(g, 0.0)
    return g if op.rectifiers.rule == "deconvnet" else g * _slope(op, node, slope)


@vjp("ThresholdedRelu")
def thresholded_relu(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g [x > alpha].  https://onnx.ai/onnx/operators/onnx__ThresholdedRelu.html"""
    _met(op, node, g)
    if op.rectifiers.rule != "deconvnet":
        g = op.Where(op.Greater(args(node)[0], attribute(node, "alpha", 1.0)), g, 0.0)
    return _positive(op, g)


@vjp("Clip")
def clip(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g [min <= x <= max], like torch.clamp: a value on a bound passes its gradient.

    A lower bound of 0 is a rectifier (ReLU6 is written Clip(0, 6)), and there the bounds pass
    nothing, like torch's ReLU and ReLU6.  https://onnx.ai/onnx/operators/onnx__Clip.html
    """
    x, y = args(node)[0], node.outputs[0]
    lower, upper = (*node.inputs[1:], None, None)[:2]
    low, high = constant(lower), constant(upper)
    if low is None or low.item() != 0 or (upper is not None and high is None):
        return op.Where(op.Equal(x, y), g, 0.0)
    bound = None if high is None else high.item()
    if _is_gate(x, bound):
        return gate(op, g, y, bound)
    _met(op, node, g)
    if op.rectifiers.rule != "deconvnet":
        g = gate(op, g, y, bound)
    elif bound is not None:
        g = op.Where(op.Less(y, bound), g, 0.0)
    return _positive(op, g)


def max_with_zero(op: Ops, node: ir.Node, g: ir.Value) -> Grads:
    """The gradients of Max(x, 0) by the rule chosen; None where the node is none."""
    zeros = [(v := constant(x)) is not None and not v.any() for x in node.inputs]
    if op.rectifiers.rule == "gradient" or sorted(zeros) != [False, True]:
        return None
    place = zeros.index(False)
    op.rectifiers.met.append(Rectifier(node, args(node)[place], g))
    if op.rectifiers.rule == "guided":
        g = gate(op, g, node.outputs[0])
    answer: list[ir.Value | None] = [None, None]
    answer[place] = _positive(op, g)
    return answer


def _met(op: Ops, node: ir.Node, g: ir.Value) -> None:
    op.rectifiers.met.append(Rectifier(node, args(node)[0], g))


def _positive(op: Ops, g: ir.Value) -> ir.Value:
    """The test on the gradient, for rules that make it."""
    tested: ir.Value = g if op.rectifiers.rule == "gradient" else op.Relu(g)
    return tested


def _slope(op: Ops, node: ir.Node, below: float | ir.Value) -> ir.Value:
    slope: ir.Value = op.Where(op.Greater(args(node)[0], 0.0), 1.0, below)
    return slope


def _is_gate(x: ir.Value, bound: float | None) -> bool:
    """Whether Clip(x, 0, bound) is six times a hard-sigmoid: x = ... + 3, bound = 6."""
    node = x.producer()
    if node is None or node.op_type != "Add" or bound != 6:
        return False
    shifts = [v for y in node.inputs if (v := constant(y)) is not None]
    return any(v.size == 1 and v.item() == 3 for v in shifts)


__all__ = ["max_with_zero"]
