"""``layercam``: LayerCAM of the last fine feature map (Jiang et al. 2021, IEEE TIP 30)."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...runtime.arrays import Array
from ...runtime.contract import ImageInput
from ..autodiff.ops import Ops
from .grids import Grid, fine, single, weighted
from .row import FileMap


def _last_fine(grids: list[Grid], spec: ImageInput) -> list[Grid]:
    """The last one of at most 18 pixels a cell, or the last."""
    return (fine(grids, spec) or grids)[-1:]


def _layercam(op: Ops, grid: Grid, g: ir.Value) -> ir.Value:
    return weighted(op, grid, op.Relu(single(op, grid, g)))


def _in_numpy(features: Array, gradient: Array, _: Array) -> tuple[Array, Array]:
    products = np.maximum(gradient, 0) * features
    return np.maximum(products.sum(2), 0), np.abs(products).sum(2)


ROW = FileMap(
    "layercam",
    "relu(sum over channels of relu(d score / d features) * features)",
    _in_numpy,
    choose=_last_fine,
    of_features=_layercam,
)
