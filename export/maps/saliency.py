"""``saliency``: the paper's map (section 3.1)."""

from __future__ import annotations

import onnx_ir as ir

from ..autodiff.ops import Ops
from .row import FileMap


def _largest(op: Ops, g: ir.Value) -> ir.Value:
    made: ir.Value = op.Transpose(op.ReduceMax(op.Abs(g), [2], keepdims=0), perm=[1, 0, 2, 3])
    return made


ROW = FileMap("saliency", "max over channels of abs(d score / d image)", of_image=_largest)
