"""QLinear operators in their QDQ form: DequantizeLinear, the float operator, QuantizeLinear.

That is what they are defined to compute, in standard operators with rules of their own, and ONNX
Runtime's CPU provider fuses it back into the integer kernels, so the scores stay the same.
https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import onnx_ir as ir

from ..autodiff.ops import Ops
from ..graph.values import attribute

Inputs: TypeAlias = list[ir.Value | None]
Form: TypeAlias = Callable[[Ops, ir.Node, Inputs], ir.Value]

FORMS: dict[tuple[str, str], Form] = {}


def expand(model: ir.Model) -> None:
    """Replace every operator of ``FORMS``."""
    found = [(n, f) for n in model.graph if (f := FORMS.get((n.domain, n.op_type)))]
    for node, form in found:
        op = Ops(model.graph, 1, prefix=node.name or node.op_type)
        old, new = node.outputs[0], form(op, node, list(node.inputs))
        name, old.name = old.name, f"{old.name}/int8"
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        new.name, new.shape = name, old.shape
        if old.dtype is not None:
            new.dtype = old.dtype
        model.graph.remove(node, safe=True)
    if found:
        model.graph.sort()


def _form(op_type: str, domain: str = "") -> Callable[[Form], Form]:
    def register(form: Form) -> Form:
        FORMS[domain, op_type] = form
        return form

    return register


@_form("QLinearConv")
def qlinear_conv(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """x, scale, zero, w, scale, zero, scale of y, zero of y, int32 bias in scale_x scale_w.

    https://onnx.ai/onnx/operators/onnx__QLinearConv.html
    """
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, *bias = inputs
    operands = [
        op.DequantizeLinear(x, x_scale, x_zero),
        op.DequantizeLinear(w, w_scale, w_zero, axis=0),
    ]
    if bias and bias[0] is not None:
        scale = op.Mul(x_scale, w_scale)
        operands.append(op.DequantizeLinear(bias[0], scale, axis=0))
    y = op.Conv(*operands, **{a.name: a.value for a in node.attributes.values()})
    return op.QuantizeLinear(y, y_scale, y_zero)


@_form("QLinearMatMul")
def qlinear_matmul(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """https://onnx.ai/onnx/operators/onnx__QLinearMatMul.html"""
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = inputs
    # One scale per row of a and per column of b, where there are several.
    left = op.DequantizeLinear(a, a_scale, a_zero, axis=-2)
    right = op.DequantizeLinear(b, b_scale, b_zero, axis=-1)
    return op.QuantizeLinear(op.MatMul(left, right), y_scale, y_zero)


@_form("QGemm", "com.microsoft")
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


@_form("QLinearAdd", "com.microsoft")
@_form("QLinearMul", "com.microsoft")
def qlinear_binary(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """a, scale, zero, b, scale, zero, scale of c, zero of c."""
    a, b = op.DequantizeLinear(*inputs[:3]), op.DequantizeLinear(*inputs[3:6])
    both = op.Add(a, b) if node.op_type == "QLinearAdd" else op.Mul(a, b)
    return op.QuantizeLinear(both, *inputs[6:])


@_form("QLinearConcat", "com.microsoft")
def qlinear_concat(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """Scale of y, zero of y, then tensor, scale, zero of each part."""
    parts = [op.DequantizeLinear(*inputs[i : i + 3]) for i in range(2, len(inputs), 3)]
    joined = op.Concat(*parts, axis=attribute(node, "axis"))
    return op.QuantizeLinear(joined, *inputs[:2])


@_form("QLinearSigmoid", "com.microsoft")
@_form("QLinearLeakyRelu", "com.microsoft")
@_form("QLinearSoftmax", "com.microsoft")
@_form("QLinearGlobalAveragePool", "com.microsoft")
@_form("QLinearAveragePool", "com.microsoft")
def qlinear_unary(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """x, scale, zero, scale of y, zero of y; ``channels_last`` where the operator has it."""
    float_type = node.op_type.removeprefix("QLinear")
    attributes = {a.name: a.value for a in node.attributes.values()}
    last = attributes.pop("channels_last", 0)
    attributes.pop("opset", None)  # QLinearSoftmax's own
    x = op.DequantizeLinear(*inputs[:3])
    if last:
        x = op.Transpose(x, perm=[0, 3, 1, 2])
    y = getattr(op, float_type)(x, **attributes)
    if last:
        y = op.Transpose(y, perm=[0, 2, 3, 1])
    return op.QuantizeLinear(y, *inputs[3:])


@_form("QuantizeLinear", "com.microsoft")
@_form("DequantizeLinear", "com.microsoft")
def standard(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """The same operators, standard since opset 10 (16 bits: since 21)."""
    kept = {"axis": node.attributes["axis"].value} if "axis" in node.attributes else {}
    return getattr(op, node.op_type)(*inputs, **kept)


__all__ = ["FORMS", "expand"]
