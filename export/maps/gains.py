"""``gains``: what the score gains from each place of early feature maps."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from ...runtime.arrays import Array
from ...runtime.contract import ImageInput
from ..autodiff.ops import Ops
from .grids import Grid, scaled, scaled_in_numpy, single, spread
from .row import FileMap

FIRST, SIZE, LAST = 0.2, 0.3, 0.5  # of the way through the feature maps


def _early(grids: list[Grid], spec: ImageInput) -> list[Grid]:
    """Those between 20 and 50 % of the way of the size that they have at 30 %.

    Early enough for fine cells, and late enough that a gain is one of parts, not of single edges
    (docs/measured/boxes.md).
    """
    like = grids[math.ceil(SIZE * len(grids)) - 1]
    first, end = math.ceil(FIRST * len(grids)) - 1, math.ceil(LAST * len(grids))
    size = like.height, like.width
    return [g for g in grids[first:end] if (g.height, g.width) == size]


def _gains(op: Ops, grid: Grid, g: ir.Value) -> ir.Value:
    """Sum over channels of the positive products, scaled to 0..1."""
    features = single(op, grid, grid.value)
    if grid.tokens:
        axes, end = [1], grid.extra + grid.height * grid.width
        cells = op.Slice(features, [grid.extra], [end], axes) if grid.extra else features
    else:
        axes, cells = [a for a in (1, 2, 3) if a != grid.channel], features
    apart = op.Sub(features, op.ReduceMean(cells, axes, keepdims=1))
    gains = op.Relu(op.Mul(single(op, grid, g), apart))
    return scaled(op, spread(op, grid, op.ReduceSum(gains, [grid.channel + 1], keepdims=0)))


def _in_numpy(features: Array, gradient: Array, _: Array) -> tuple[Array, Array]:
    """A feature that is the same everywhere gains rounding, scaled up: hence the second."""
    mean = features.mean((3, 4), keepdims=True)
    gains = np.maximum(gradient * (features - mean), 0).sum(2)
    size = (np.abs(gradient) * (np.abs(features) + np.abs(mean))).sum(2)
    made, apart = scaled_in_numpy(gains)
    return made, size / apart


ROW = FileMap(
    "gains",
    "sum over channels of relu(d score / d features * (features - their mean over the image)), "
    "scaled to 0..1; their mean",
    _in_numpy,
    choose=_early,
    of_features=_gains,
)
