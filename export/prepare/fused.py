"""What ONNX Runtime's optimiser fuses: an operator and the ones beside it, taken apart again.

Each has a formula in https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from ..autodiff.ops import Ops
from ..graph.values import attribute
from .forms import Inputs, activated, attributes, form, optional, rank, refuse


@form("FusedConv")
def fused_conv(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """Y = activation(Conv(x, w, bias) + z)."""
    x, w, bias, z = optional(inputs, 4)
    y = op.Conv(x, w, bias, **attributes(node, "activation", "activation_params"))
    y = y if z is None else op.Add(y, z)
    return activated(op, node, y, attribute(node, "activation_params", []))


@form("FusedGemm")
def fused_gemm(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """Y = activation(Gemm(a, b, c))."""
    kept = {k: v for k, v in attributes(node).items() if not k.startswith("activation")}
    return activated(op, node, op.Gemm(*inputs, **kept), _parameters(node))


def _parameters(node: ir.Node) -> list[float]:
    found = (attribute(node, f"activation_{name}") for name in ("alpha", "beta", "gamma"))
    return [p for p in found if p is not None]


@form("FusedMatMul", "TransposeMatMul", "FusedMatMulActivation")
def fused_matmul(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """Y = activation(alpha A B), A and B transposed as transA, transBatchA, ... say."""
    a, b = (_transposed(op, node, x, side) for x, side in zip(inputs, "AB", strict=True))
    alpha = attribute(node, "alpha", 1.0)
    y = op.MatMul(a, b)
    if alpha != 1:
        y = op.Mul(y, float(alpha))
    if attribute(node, "activation", "") in ("Softmax", "LogSoftmax"):
        kind = attribute(node, "activation")
        return getattr(op, kind)(y, axis=attribute(node, "activation_axis", -1))
    return activated(op, node, y, _parameters(node))


def _transposed(op: Ops, node: ir.Node, x: ir.Value | None, side: str) -> ir.Value | None:
    """trans: the last two axes swapped; transBatch: the rows were first, before the batch."""
    swapped, rows_first = (
        attribute(node, f"trans{side}", 0),
        attribute(node, f"transBatch{side}", 0),
    )
    if not (swapped or rows_first):
        return x
    axes = list(range(rank(x)))
    if len(axes) < 2:
        return x  # a vector has nothing to swap
    if rows_first:
        axes = [*axes[1:-1], axes[0], axes[-1]]
    if swapped:
        axes[-2:] = axes[:-3:-1]
    return op.Transpose(x, perm=axes)


@form("Gelu", "BiasGelu")
def gelu(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """X Phi(x), of x + bias where there is one."""
    return op.Gelu(_plus(op, *optional(inputs, 2)))


@form("FastGelu")
def fast_gelu(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """The tanh approximation of Gelu, of x + bias."""
    return op.Gelu(_plus(op, *optional(inputs, 2)), approximate="tanh")


@form("GemmFastGelu")
def gemm_fast_gelu(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """The tanh approximation of Gelu, of x w + bias."""
    x, w, bias = optional(inputs, 3)
    return op.Gelu(_plus(op, op.MatMul(x, w), bias), approximate="tanh")


@form("QuickGelu")
def quick_gelu(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """X sigmoid(alpha x); with alpha = 1 it is SiLU."""
    alpha = attribute(node, "alpha", 1.702)
    scaled = inputs[0] if alpha == 1 else op.Mul(inputs[0], float(alpha))
    return op.Mul(inputs[0], op.Sigmoid(scaled))


@form("ScaledSiLU")
def scaled_silu(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """Y = scale x sigmoid(alpha x)."""
    x, scale = optional(inputs, 2)
    y = op.Mul(x, op.Sigmoid(op.Mul(x, float(attribute(node, "alpha", 1.0)))))
    return y if scale is None else op.Mul(y, scale)


@form("BiasSplitGelu")
def bias_split_gelu(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """Y = l Gelu(r), l and r the halves of x + bias along the last axis."""
    left, right = op.Split(op.Add(*inputs), axis=-1, num_outputs=2, outputs=2)
    return op.Mul(left, op.Gelu(right))


@form("BiasAdd")
def bias_add(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """Y = x + bias + skip."""
    x, bias, skip = inputs
    return op.Add(op.Add(x, bias), skip)


@form("BiasDropout")
def bias_dropout(op: Ops, node: ir.Node, inputs: Inputs) -> list[ir.Value | None]:
    """Y = dropout(x + bias) + residual; at inference it drops nothing."""
    x, bias, residual, _, training = optional(inputs, 5)
    if training is not None:
        refuse(node, "is in training mode, or may be")
    return [_plus(op, op.Add(x, bias), residual), None]


@form("BiasSoftmax")
def bias_softmax(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """Softmax(x + bias) over all axes from ``axis`` on.

    The bias has x's axes before ``axis`` or from some axis on; broadcasting adds both the same.
    """
    axis, x = attribute(node, "axis", 1), op.Add(*inputs)
    if axis == -1 or axis == rank(inputs[0]) - 1:
        return op.Softmax(x, axis=-1)
    return op.Reshape(op.Softmax(op.Flatten(x, axis=axis), axis=-1), op.Shape(x))


@form("SkipLayerNormalization")
def skip_layer_normalization(op: Ops, node: ir.Node, inputs: Inputs) -> list[ir.Value | None]:
    """Y = LayerNormalization(s), s = x + skip + bias; outputs y, (mean, 1/std,) s."""
    x, skip, scale, beta, bias = optional(inputs, 5)
    total = _plus(op, op.Add(x, skip), bias)
    y = op.LayerNormalization(total, scale, beta, epsilon=attribute(node, "epsilon", 1e-12))
    return [y, None, None, total]


@form("SkipSimplifiedLayerNormalization")
def skip_simplified(op: Ops, node: ir.Node, inputs: Inputs) -> list[ir.Value | None]:
    """Y = s / sqrt(mean(s^2) + epsilon) scale, s = x + skip + bias; outputs as above."""
    x, skip, scale, bias = optional(inputs, 4)
    total = _plus(op, op.Add(x, skip), bias)
    return [
        root_mean_square(op, total, scale, [-1], attribute(node, "epsilon", 1e-12)),
        None,
        None,
        total,
    ]


def root_mean_square(
    op: Ops, x: ir.Value, scale: ir.Value | None, axes: list[int], epsilon: float
) -> ir.Value:
    """X / sqrt(mean(x^2) + epsilon) scale; an operator of ONNX's own from opset 23 on only."""
    mean = op.ReduceMean(op.Mul(x, x), axes, keepdims=1)
    return op.Mul(op.Div(x, op.Sqrt(op.Add(mean, epsilon))), scale)


@form("GridSample", "Trilu", "Pad")
def standard(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """The same operators, standard since; GridSample's names are those of opset 16."""
    kept = attributes(node)
    if node.op_type == "GridSample":
        kept["mode"] = {"bilinear": "linear", "bicubic": "cubic"}.get(
            attribute(node, "mode", "bilinear"), attribute(node, "mode", "bilinear")
        )
    return getattr(op, node.op_type)(*inputs, **kept)


@form("ExpandDims")
def expand_dims(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """Unsqueeze at an axis that is an int32 scalar."""
    axis = op.Reshape(op.Cast(inputs[1], to=int(ir.DataType.INT64)), [1])
    return op.Unsqueeze(inputs[0], axis)


def _plus(op: Ops, x: ir.Value | None, bias: ir.Value | None) -> Any:
    return x if bias is None else op.Add(x, bias)
