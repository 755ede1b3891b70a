"""``layercam``: LayerCAM of the last fine feature map (Jiang et al. 2021, IEEE TIP 30)."""

from __future__ import annotations

import onnx_ir as ir

from ...runtime.contract import ImageInput
from ..autodiff.ops import Ops
from .grids import Grid, fine, single, weighted
from .row import FileMap


def _last_fine(grids: list[Grid], spec: ImageInput) -> list[Grid]:
    """The last one of at most 18 pixels a cell, or the last."""
    return (fine(grids, spec) or grids)[-1:]


def _layercam(op: Ops, grid: Grid, g: ir.Value) -> ir.Value:
    return weighted(op, grid, op.Relu(single(op, grid, g)))


ROW = FileMap(
    "layercam",
    "relu(sum over channels of relu(d score / d features) * features)",
    choose=_last_fine,
    of_features=_layercam,
)
