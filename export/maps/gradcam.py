"""``gradcam``: Grad-CAM of the last feature map (Selvaraju et al. 2017, arXiv 1610.02391)."""

from __future__ import annotations

import onnx_ir as ir

from ..autodiff.ops import Ops
from .grids import Grid, single, weighted
from .row import FileMap


def _gradcam(op: Ops, grid: Grid, g: ir.Value) -> ir.Value:
    axes = [2] if grid.tokens else [a for a in (2, 3, 4) if a != grid.channel + 1]
    return weighted(op, grid, op.ReduceMean(single(op, grid, g), axes, keepdims=1))


ROW = FileMap(
    "gradcam",
    "relu(sum over channels of mean(d score / d features) * features)",
    choose=lambda grids, spec: grids[-1:],
    of_features=_gradcam,
)
