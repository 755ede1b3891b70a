"""``saliency``: the paper's map (section 3.1)."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...runtime.arrays import Array
from ..autodiff.ops import Ops
from .row import FileMap


def _largest(op: Ops, g: ir.Value) -> ir.Value:
    made: ir.Value = op.Transpose(op.ReduceMax(op.Abs(g), [2], keepdims=0), perm=[1, 0, 2, 3])
    return made


def _in_numpy(image: Array, gradient: Array, _: Array) -> tuple[Array, Array]:
    made = np.abs(gradient).max(2)
    return made, made


ROW = FileMap(
    "saliency", "max over channels of abs(d score / d image)", _in_numpy, of_image=_largest
)
