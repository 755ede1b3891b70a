"""Masks: where a rectifier lets the gradient through, in the form that engines are fast at."""

from __future__ import annotations

import math

import onnx_ir as ir

from .ops import Ops


def gate(op: Ops, g: ir.Value, y: ir.Value, high: float | None = None) -> ir.Value:
    """g where 0 < y (and y < high), else 0; y rectifies."""
    g = op.before_expand(g)  # expanded by the mask
    if "step-masks" in op.on:
        return g * (step(op, y) if high is None else inside(op, y, high))
    return op.Where(_between(op, y, high), g, 0.0)


def step(op: Ops, y: ir.Value) -> ir.Value:
    """1 where y > 0, else 0, as floats.

    HardSigmoid clamps 3e38 y - 1 to [0, 1]: an exact step for normal float32. (With beta = 0,
    which -1 stands for, OpenVINO 2025.4 takes beta's default, 0.5.)
    """
    if "step-masks" not in op.on:
        return op.Cast(_between(op, y, None), to=int(op.dtype))
    return op.HardSigmoid(y, alpha=3e38, beta=-1.0)


def inside(op: Ops, y: ir.Value, high: float) -> ir.Value:
    """1 where 0 < y < high, else 0, for a y that is clamped to [0, high].

    alpha is a power of two, so that -alpha y + alpha high is exactly 0 at high, and at the
    number below it still more than 1. (Min, or Greater and Where, cost several times that.)
    """
    if "step-masks" not in op.on:
        return op.Cast(_between(op, y, high), to=int(op.dtype))
    alpha = 2.0 ** (126 - math.ceil(math.log2(high)))
    return step(op, y) * op.HardSigmoid(y, alpha=-alpha, beta=alpha * high)


def _between(op: Ops, y: ir.Value, high: float | None) -> ir.Value:
    above = op.Greater(y, 0.0)
    return above if high is None else op.And(above, op.Less(y, high))
