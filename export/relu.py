"""Backward rules of ReLU and the operators that rectify like it.

The paper's section 4 compares three rules; they differ only in the sign test. Here is the true
gradient: the test is on the layer's input, and ReLU'(0) = 0 as in PyTorch.
"""

from __future__ import annotations

import onnx_ir as ir

from .context import Ops, args, attribute, constant
from .registry import vjp


@vjp("Relu")
def relu(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g [y > 0].

    The mask is read from the output, so that Conv + Relu can still be fused.
    https://onnx.ai/onnx/operators/onnx__Relu.html
    """
    return g if g in op.rectified else op.gate(g, node.outputs[0])


@vjp("LeakyRelu")
def leaky_relu(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g where x > 0, else alpha g.  https://onnx.ai/onnx/operators/onnx__LeakyRelu.html"""
    alpha = attribute(node, "alpha", 0.01)
    return g * op.Where(op.Greater(args(node)[0], 0.0), 1.0, alpha)


@vjp("PRelu")
def prelu(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g where x > 0, else slope g.  https://onnx.ai/onnx/operators/onnx__PRelu.html"""
    x, slope = args(node)
    return g * op.Where(op.Greater(x, 0.0), 1.0, slope)


@vjp("ThresholdedRelu")
def thresholded_relu(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g [x > alpha].  https://onnx.ai/onnx/operators/onnx__ThresholdedRelu.html"""
    return op.Where(op.Greater(args(node)[0], attribute(node, "alpha", 1.0)), g, 0.0)


@vjp("Clip")
def clip(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g [min <= x <= max], like torch.clamp: a value on a bound passes its gradient.

    A lower bound of 0 is a rectifier (ReLU6 is written Clip(0, 6)), and there the bounds pass
    nothing, like torch's ReLU and ReLU6.  https://onnx.ai/onnx/operators/onnx__Clip.html
    """
    x, y = args(node)[0], node.outputs[0]
    low, high = (constant(v) for v in (*args(node)[1:], None, None)[:2])
    if low is not None and low.item() == 0:
        return op.gate(g, y, None if high is None else high.item())
    return op.Where(op.Equal(x, y), g, 0.0)
