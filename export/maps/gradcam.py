"""``gradcam``: Grad-CAM of the last feature map (Selvaraju et al. 2017, arXiv 1610.02391)."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...runtime.arrays import Array
from ..autodiff.ops import Ops
from .grids import Grid, single, weighted
from .row import FileMap


def _gradcam(op: Ops, grid: Grid, g: ir.Value) -> ir.Value:
    axes = [2] if grid.tokens else [a for a in (2, 3, 4) if a != grid.channel + 1]
    return weighted(op, grid, op.ReduceMean(single(op, grid, g), axes, keepdims=1))


def _in_numpy(features: Array, gradient: Array, beside: Array) -> tuple[Array, Array]:
    # The class token counts: the gradient by the last tokens is often its alone.
    every = np.concatenate([gradient.reshape(*gradient.shape[:3], -1), beside], 3)
    products = every.mean(3)[..., None, None] * features
    return np.maximum(products.sum(2), 0), np.abs(products).sum(2)


ROW = FileMap(
    "gradcam",
    "relu(sum over channels of mean(d score / d features) * features)",
    _in_numpy,
    choose=lambda grids, spec: grids[-1:],
    of_features=_gradcam,
)
