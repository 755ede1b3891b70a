"""Operators of ai.onnx.ml that are sums and products: what sklearn-onnx makes of linear models."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..autodiff.ops import Ops
from ..graph.values import attribute
from .forms import Inputs, form, refuse

_ML = "ai.onnx.ml"


@form("Scaler", domain=_ML)
def scaler(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """Y = (x - offset) scale, of one number or one for each feature."""
    offset, scale = (
        np.array(attribute(node, name, [n])) for name, n in (("offset", 0), ("scale", 1))
    )
    y: ir.Value = op.Mul(op.Sub(inputs[0], offset.astype(float)), scale.astype(float))
    return y


@form("Normalizer", domain=_ML)
def normalizer(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """Each row by its largest number, or by its L1 or L2 norm."""
    norm = attribute(node, "norm", "MAX")
    if norm == "MAX":
        return op.Div(inputs[0], op.ReduceMax(inputs[0], [-1], keepdims=1))
    return op.LpNormalization(inputs[0], axis=-1, p=1 if norm == "L1" else 2)


@form("LinearRegressor", domain=_ML)
def linear_regressor(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value:
    """Y = x coefficients^T + intercepts."""
    return _transformed(op, node, _linear(op, node, inputs, attribute(node, "targets", 1)))


@form("LinearClassifier", domain=_ML)
def linear_classifier(op: Ops, node: ir.Node, inputs: Inputs) -> list[ir.Value | None]:
    """Y = x coefficients^T + intercepts, and the label of the largest."""
    numbers = attribute(node, "classlabels_ints")
    names = attribute(node, "classlabels_strings")
    classes = len(numbers or names or ())
    features = len(attribute(node, "coefficients")) // max(classes, 1)
    if not classes or features * classes != len(attribute(node, "coefficients")):
        refuse(node, "has not one row of coefficients for each class")
    scores = _linear(op, node, inputs, classes)
    label = None
    if numbers:
        label = op.Gather([int(n) for n in numbers], op.ArgMax(scores, axis=-1, keepdims=0))
    return [label, _transformed(op, node, scores)]


def _linear(op: Ops, node: ir.Node, inputs: Inputs, rows: int) -> ir.Value:
    weights = np.array(attribute(node, "coefficients"), float).reshape(rows, -1)
    y = op.MatMul(inputs[0], np.ascontiguousarray(weights.T))
    intercepts = attribute(node, "intercepts")
    return op.Add(y, np.array(intercepts, float)) if intercepts else y


def _transformed(op: Ops, node: ir.Node, scores: ir.Value) -> ir.Value:
    kind = attribute(node, "post_transform", "NONE")
    if kind == "NONE":
        return scores
    if kind == "LOGISTIC":
        return op.Sigmoid(scores)
    if kind != "SOFTMAX":
        refuse(node, f"has the post_transform {kind}")
    return op.Softmax(scores, axis=-1)


__all__ = ["linear_classifier", "linear_regressor", "normalizer", "scaler"]
