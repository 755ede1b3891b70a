"""Quantised tensors, differentiated straight through (Bengio, Leonard, Courville 2013).

Rounding has no derivative; its steps follow the identity, and the gradient is that of the identity.
Where a value saturates, nothing flows: there the clamp is a ReLU that was fused into it. The
gradient of an integer tensor is the derivative by its numbers.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import onnx_ir as ir

from ..autodiff.masks import step
from ..autodiff.ops import Ops
from ..autodiff.registry import RULES, Grads, vjp
from ..graph.values import args, attribute, seen_as, shape_of


@vjp("QuantizeLinear")
def quantize_linear(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """y = clamp(round(x / scale) + zero): dx = g / scale where y is inside its type's range.

    https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html
    """
    y = node.outputs[0]
    limits = np.iinfo((y.dtype or ir.DataType.UINT8).numpy())
    number = op.as_float(y)
    # The product of both distances is positive exactly between the limits.
    inside = step(op, op.Mul(number - float(limits.min), float(limits.max) - number))
    return g * (inside / _per_axis(op, node))


@vjp("DequantizeLinear")
def dequantize_linear(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """y = (x - zero) scale: dx = g scale.

    https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html
    """
    return g * _per_axis(op, node)


def _per_axis(op: Ops, node: ir.Node) -> ir.Value:
    """The scale as it broadcasts over the tensor: one number, or one per index of an axis."""
    scale, shape = args(node)[1], shape_of(args(node)[0])
    if len(shape_of(scale)) == 0:
        return scale
    axis = attribute(node, "axis", 1) % len(shape)
    return op.Reshape(scale, [-1, *[1] * (len(shape) - axis - 1)])


@vjp("DynamicQuantizeLinear")
def dynamic_quantize_linear(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g / scale: the range covers every value; scale and zero point count as constants.

    https://onnx.ai/onnx/operators/onnx__DynamicQuantizeLinear.html
    """
    return g / node.outputs[1]


@vjp("MatMulInteger")
def matmul_integer(op: Ops, node: ir.Node, g: ir.Value) -> Grads:
    """y = (a - zero_a) (b - zero_b), with MatMul's gradients.

    https://onnx.ai/onnx/operators/onnx__MatMulInteger.html
    """
    a, b, zero_a, zero_b = (*node.inputs, None, None)[:4]
    operands = [_minus_zero(op, a, zero_a, after=1), _minus_zero(op, b, zero_b)]
    return RULES["MatMul"].rule(op, seen_as(node, operands, node.outputs), g)


@vjp("ConvInteger")
def conv_integer(op: Ops, node: ir.Node, g: ir.Value) -> Grads:
    """y = Conv(x - zero_x, w - zero_w), with Conv's gradient.

    https://onnx.ai/onnx/operators/onnx__ConvInteger.html
    """
    x, w, zero_x, zero_w = (*node.inputs, None, None)[:4]
    operands = [_minus_zero(op, x, zero_x), _minus_zero(op, w, zero_w, after=3)]
    return RULES["Conv"].rule(op, seen_as(node, operands, node.outputs), g)


def _minus_zero(
    op: Ops, tensor: ir.Value | None, zero: ir.Value | None, after: int = 0
) -> ir.Value:
    """An integer operand as the float numbers that it stands for, but for the scale.

    Args:
        op: emitter.
        tensor: the integers.
        zero: their zero point, a number or one for each row or channel; None: 0.
        after: axes of the tensor behind the one that the zero points are along.
    """
    number = op.as_float(cast("ir.Value", tensor))
    if zero is None:
        return number
    offset = op.as_float(zero)
    if after and len(shape_of(zero)) == 1:
        offset = op.Reshape(offset, [-1, *[1] * after])
    value = number - offset
    value.dtype, value.shape = op.dtype, number.shape
    return value
