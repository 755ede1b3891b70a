"""``features``: how strongly the score depends on middle feature maps."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from ...runtime.arrays import Array
from ...runtime.contract import ImageInput
from ..autodiff.ops import Ops
from .grids import Grid, fine, scaled, scaled_in_numpy, single, spread
from .row import FileMap

FIRST, LAST = 0.6, 0.75  # of the way through the feature maps


def _middle(grids: list[Grid], spec: ImageInput) -> list[Grid]:
    """Those between 60 and 75 % of the way, of one size, at most 18 pixels a cell.

    On labelled photos, with five trained classifiers, boxes are best from there
    (docs/measured/boxes.md): the first layers see edges only, and the last ones see everything
    everywhere.
    """
    close = fine(grids, spec)
    first, end = math.ceil(FIRST * len(grids)) - 1, math.floor(LAST * len(grids))
    last = ([g for g in grids[:end] if g in close] or close or grids)[-1]
    size = last.height, last.width
    return [g for g in grids[first:end] if (g.height, g.width) == size] or [last]


def _magnitude(op: Ops, grid: Grid, g: ir.Value) -> ir.Value:
    """Mean over channels of the gradient's magnitude, scaled to 0..1."""
    mean = op.ReduceMean(op.Abs(single(op, grid, g)), [grid.channel + 1], keepdims=0)
    return scaled(op, spread(op, grid, mean))


def _in_numpy(features: Array, gradient: Array, _: Array) -> tuple[Array, Array]:
    """A gradient that is the same everywhere is rounding, scaled up: hence the second."""
    size = np.abs(gradient).mean(2)
    made, apart = scaled_in_numpy(size)
    return made, size.max((2, 3), keepdims=True) / apart


ROW = FileMap(
    "features",
    "mean over channels of abs(d score / d features), scaled to 0..1; their mean",
    _in_numpy,
    choose=_middle,
    of_features=_magnitude,
)
