"""QLinear operators in their QDQ form: DequantizeLinear, the float operator, QuantizeLinear.

That is what they are defined to compute, in standard operators with rules of their own, and ONNX
Runtime's CPU provider fuses it back into the integer kernels, so the scores stay the same.
https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from ..autodiff.ops import Ops
from ..graph.values import attribute, constant
from .forms import (
    Inputs,
    attributes,
    channels_back,
    channels_first,
    form,
    optional,
    rank,
    refuse,
)


@form("QLinearConv", domain="")
@form("QLinearConv")
def qlinear_conv(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """x, scale, zero, w, scale, zero, scale of y, zero of y, int32 bias in scale_x scale_w.

    ONNX Runtime's own form has ``channels_last`` for x and y; its weights are as ever.
    https://onnx.ai/onnx/operators/onnx__QLinearConv.html
    """
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, *bias = inputs
    last = bool(attribute(node, "channels_last", 0))
    axes = rank(w) if last else 0
    operands = [
        channels_first(op, op.DequantizeLinear(x, x_scale, x_zero), last, axes),
        op.DequantizeLinear(w, w_scale, w_zero, axis=0),
    ]
    if bias and bias[0] is not None:
        scale = op.Mul(x_scale, w_scale)
        operands.append(op.DequantizeLinear(bias[0], scale, axis=0))
    y = op.Conv(*operands, **attributes(node, "channels_last"))
    return op.QuantizeLinear(channels_back(op, y, last, axes), y_scale, y_zero)


@form("QLinearMatMul", domain="")
def qlinear_matmul(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """https://onnx.ai/onnx/operators/onnx__QLinearMatMul.html"""
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = inputs
    # One scale per row of a and per column of b, where there are several.
    left = op.DequantizeLinear(a, a_scale, a_zero, axis=-2)
    right = op.DequantizeLinear(b, b_scale, b_zero, axis=-1)
    return op.QuantizeLinear(op.MatMul(left, right), y_scale, y_zero)


@form("QGemm")
def qgemm(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """As Gemm; the bias is int32 in alpha scale_a scale_b; without y's scale the result is float.

    https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
    """
    a, a_scale, a_zero, b, b_scale, b_zero, *rest = inputs
    bias, y_scale, y_zero = (*rest, None, None, None)[:3]
    trans_a, trans_b = attribute(node, "transA", 0), attribute(node, "transB", 0)
    alpha = attribute(node, "alpha", 1.0)
    operands = [
        op.DequantizeLinear(a, a_scale, a_zero),
        op.DequantizeLinear(b, b_scale, b_zero, axis=0 if trans_b else 1),
    ]
    if bias is not None:
        scale = op.Mul(op.Mul(a_scale, b_scale), alpha)
        operands.append(op.DequantizeLinear(bias, scale, axis=-1))
    y = op.Gemm(*operands, alpha=alpha, transA=trans_a, transB=trans_b)
    return y if y_scale is None else op.QuantizeLinear(y, y_scale, y_zero)


@form("QLinearAdd", "QLinearMul")
def qlinear_binary(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """a, scale, zero, b, scale, zero, scale of c, zero of c."""
    a, b = op.DequantizeLinear(*inputs[:3]), op.DequantizeLinear(*inputs[3:6])
    both = op.Add(a, b) if node.op_type == "QLinearAdd" else op.Mul(a, b)
    return op.QuantizeLinear(both, *inputs[6:])


@form("QLinearConcat")
def qlinear_concat(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """Scale of y, zero of y, then tensor, scale, zero of each part."""
    parts = [op.DequantizeLinear(*inputs[i : i + 3]) for i in range(2, len(inputs), 3)]
    joined = op.Concat(*parts, axis=attribute(node, "axis"))
    return op.QuantizeLinear(joined, *inputs[:2])


@form(
    "QLinearSigmoid", "QLinearLeakyRelu", "QLinearGlobalAveragePool", "QLinearAveragePool",
)  # fmt: skip
def qlinear_unary(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """x, scale, zero, scale of y, zero of y; ``channels_last`` where the operator has it."""
    last = bool(attribute(node, "channels_last", 0))
    axes = len(attribute(node, "kernel_shape", [1, 1])) + 2
    x = channels_first(op, op.DequantizeLinear(*inputs[:3]), last, axes)
    y = getattr(op, node.op_type.removeprefix("QLinear"))(x, **attributes(node, "channels_last"))
    return op.QuantizeLinear(channels_back(op, y, last, axes), *inputs[3:])


@form("QLinearSoftmax")
def qlinear_softmax(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """x, scale, zero, scale of y, zero of y; ``opset`` says which Softmax it was."""
    x = op.DequantizeLinear(*inputs[:3])
    axis = attribute(node, "axis", -1)
    if attribute(node, "opset", 13) >= 13 or axis == -1:
        return op.QuantizeLinear(op.Softmax(x, axis=axis), *inputs[3:])
    y = op.Softmax(op.Flatten(x, axis=axis), axis=-1)
    return op.QuantizeLinear(op.Reshape(y, op.Shape(x)), *inputs[3:])


@form("QLinearReduceMean")
def qlinear_reduce_mean(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """x, scale, zero, scale of y, zero of y; ``axes`` as attribute, all where left out."""
    axes = attribute(node, "axes")
    mean = op.ReduceMean(
        op.DequantizeLinear(*inputs[:3]), axes, keepdims=attribute(node, "keepdims", 1)
    )
    return op.QuantizeLinear(mean, *inputs[3:])


@form("QLinearWhere")
def qlinear_where(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """Condition, x, scale, zero, y, scale, zero, scale of z, zero of z."""
    both = op.DequantizeLinear(*inputs[1:4]), op.DequantizeLinear(*inputs[4:7])
    return op.QuantizeLinear(op.Where(inputs[0], *both), *inputs[7:])


@form("MatMulIntegerToFloat")
def matmul_integer_to_float(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """Y = (a - zero_a) scale_a (b - zero_b) scale_b + bias, from a, b, scales, zeros, bias."""
    a, b, a_scale, b_scale, a_zero, b_zero, bias = optional(inputs, 7)
    y = op.MatMul(
        op.DequantizeLinear(a, a_scale, a_zero, axis=-2),
        op.DequantizeLinear(b, b_scale, b_zero, axis=-1),
    )
    return y if bias is None else op.Add(y, bias)


@form("DynamicQuantizeMatMul")
def dynamic_quantize_matmul(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """Y = q(a) (b - zero_b) scale_b + bias, q rounding to 256 steps of the range that a has."""
    a, b, b_scale, b_zero, bias = optional(inputs, 5)
    rounded = op.DequantizeLinear(*op.DynamicQuantizeLinear(a, outputs=3))
    y = op.MatMul(rounded, op.DequantizeLinear(b, b_scale, b_zero, axis=-1))
    return y if bias is None else op.Add(y, bias)


@form("MatMulNBits")
def matmul_n_bits(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """Y = A W^T + bias, W [N, K] in ``bits`` bits with a scale and a zero point for each block.

    B [N, blocks, bytes of a block] holds the numbers from the low bits of a byte to the high ones;
    zero points in such bits [N, bytes] or as floats [N, blocks], 2^(bits-1) where left out.
    """
    a, b, scales, zeros, order, bias = optional(inputs, 6)
    bits, size = attribute(node, "bits", 4), attribute(node, "block_size")
    packed, scale, zero = constant(b), constant(scales), constant(zeros)
    if packed is None or scale is None or (zeros is not None and zero is None):
        refuse(node, "has weights that are computed")
    if order is not None or attribute(node, "weight_prepacked", 0) or bits not in (2, 4, 8):
        refuse(node, "has weights in an order of its own")
    n, k, blocks = attribute(node, "N"), attribute(node, "K"), -(-attribute(node, "K") // size)
    numbers = _unpacked(packed.reshape(n, blocks, -1), bits)[..., :size]
    if zero is None:
        zero = np.full((n, blocks), 2.0 ** (bits - 1))
    elif zero.dtype == np.uint8:
        zero = _unpacked(zero.reshape(n, -1), bits)[:, :blocks]
    weights = (numbers - zero.reshape(n, blocks, 1)) * scale.reshape(n, blocks, 1)
    y = op.MatMul(a, weights.astype(np.float64).reshape(n, -1)[:, :k].T)
    return y if bias is None else op.Add(y, bias)


def _unpacked(packed: np.ndarray[Any, Any], bits: int) -> np.ndarray[Any, Any]:
    """The numbers in bytes, low bits first, along the last axis."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    numbers = (packed[..., None] >> shifts) & (2**bits - 1)
    return numbers.reshape(*packed.shape[:-1], -1).astype(np.float64)


@form("QuantizeLinear", "DequantizeLinear")
def standard(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """The same operators, standard since opset 10 (16 bits: since 21)."""
    kept = {"axis": node.attributes["axis"].value} if "axis" in node.attributes else {}
    return getattr(op, node.op_type)(*inputs, **kept)
