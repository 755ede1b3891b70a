"""Operators that files declare in ONNX's own domain though their opset has them not.

ONNX Runtime writes LayerNormalization into files of any opset; the others are of the time before
opset 7, and converters from Caffe and Core ML went on writing them.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..autodiff.ops import Ops
from ..graph.values import args, attribute
from .forms import FORMER, MICROSOFT, Inputs, attributes, form, rank
from .fused import root_mean_square


@form("LayerNormalization", domain=FORMER)
def layer_normalization(op: Ops, node: ir.Node, inputs: Inputs) -> list[ir.Value | None]:
    """The standard's own since opset 17."""
    y = op.LayerNormalization(*inputs, **attributes(node, "stash_type"))
    return [y, None, None]


@form("SimplifiedLayerNormalization", domain=FORMER)
@form("SimplifiedLayerNormalization", "RMSNormalization", domain=MICROSOFT)
def simplified(op: Ops, node: ir.Node, inputs: Inputs) -> list[ir.Value | None]:
    """Y = x / sqrt(mean(x^2) + epsilon) scale, the mean over all axes from ``axis`` on."""
    axis = attribute(node, "axis", -1)
    axes = list(range(axis if axis < 0 else axis - rank(inputs[0]), 0))
    x, scale = args(node)
    epsilon = float(attribute(node, "epsilon", 1e-5))
    return [root_mean_square(op, x, scale, axes, epsilon), None]


@form("STFT", domain="")
def stft(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """In full: shape inference forgets that ``onesided`` is 1 where it is left out.

    torch writes signals [N, length], which ONNX Runtime takes and the standard has not.
    """
    signal, *rest = inputs
    if rank(signal) == 2:
        signal = op.Unsqueeze(signal, [2])
    return op.STFT(signal, *rest, onesided=attribute(node, "onesided", 1))


@form("ImageScaler", domain=FORMER)
def image_scaler(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """Y = scale x + bias, the bias one for each channel of [N, C, H, W]."""
    y = op.Mul(inputs[0], float(attribute(node, "scale", 1.0)))
    bias = [float(b) for b in attribute(node, "bias", [])]
    return op.Add(y, op.Reshape(np.array(bias), [-1, 1, 1])) if bias else y


@form("Affine", domain=FORMER)
def affine(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """Y = alpha x + beta."""
    alpha, beta = (float(attribute(node, name, d)) for name, d in (("alpha", 1.0), ("beta", 0.0)))
    return op.Add(op.Mul(inputs[0], alpha), beta)


@form("Scale", domain=FORMER)
def scale(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """Y = scale x."""
    return op.Mul(inputs[0], float(attribute(node, "scale", 1.0)))


@form("ScaledTanh", domain=FORMER)
def scaled_tanh(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """Y = alpha tanh(beta x)."""
    alpha, beta = (float(attribute(node, name, 1.0)) for name in ("alpha", "beta"))
    return op.Mul(op.Tanh(op.Mul(inputs[0], beta)), alpha)


@form("ParametricSoftplus", domain=FORMER)
def parametric_softplus(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """Y = alpha log(1 + exp(beta x))."""
    alpha, beta = (float(attribute(node, name, 1.0)) for name in ("alpha", "beta"))
    return op.Mul(op.Softplus(op.Mul(inputs[0], beta)), alpha)


@form("Crop", domain=FORMER)
def crop(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """[N, C, H, W] without ``border`` (left, top, right, bottom), or ``scale`` (height, width)."""
    left, top, right, bottom = attribute(node, "border")
    sizes = attribute(node, "scale")
    ends = [top + sizes[0], left + sizes[1]] if sizes else [-bottom or 2**31, -right or 2**31]
    return op.Slice(inputs[0], [top, left], ends, [2, 3])
