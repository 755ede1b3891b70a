"""Feature maps as grids over the image.

The gradient with respect to a middle feature map lies on the way to the image's, so maps made of it
cost next to nothing beside it. They are coarse, and much calmer: what boxes are best made of.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx_ir as ir

from ...runtime.arrays import Array
from ...runtime.contract import ImageInput
from ..autodiff.backward import waists
from ..autodiff.ops import Ops
from ..graph.values import FLOATS, shape_of

FINEST, COARSEST = 4, 18  # pixels from cell to cell; 18 leaves a 227 / 13 in
MOST_EXTRA = 8  # tokens that are no part of the image: class, registers
TINY = 1e-30


@dataclasses.dataclass(frozen=True)
class Grid:
    """A feature map [N, ...] whose cells lie over the image.

    Attributes:
        value: the tensor: [N,C,height,width], [N,height,width,C], or tokens [N,extra + cells,C].
        channel: the axis of the channels: 1 or the last.
        extra: tokens before the first cell.
    """

    value: ir.Value
    height: int
    width: int
    channel: int
    extra: int = 0

    @property
    def tokens(self) -> bool:
        """Whether the cells lie along one axis."""
        return self.channel == 2


def grid(value: ir.Value, image_height: int, image_width: int) -> Grid | None:
    """A tensor as a grid over the image; None if it is none, or as good as the image itself."""
    if value.dtype not in FLOATS or value.shape is None:
        return None
    dims = [d or 0 for d in shape_of(value)[1:]]

    def lies(height: int, width: int) -> bool:
        steps = image_height / max(height, 1), image_width / max(width, 1)
        same = abs(height * image_width - width * image_height) <= max(image_height, image_width)
        return min(height, width) > 1 and min(steps) >= FINEST and same

    if len(dims) == 3:
        if lies(dims[1], dims[2]):
            return Grid(value, dims[1], dims[2], channel=1)
        return Grid(value, dims[0], dims[1], channel=3) if lies(dims[0], dims[1]) else None
    if len(dims) == 2:
        for step in range(FINEST, image_height):
            height, width = image_height // step, image_width // step
            if lies(height, width) and 0 <= dims[0] - height * width <= MOST_EXTRA:
                return Grid(value, height, width, channel=2, extra=dims[0] - height * width)
    return None


def coarsening(graph: ir.Graph, image: ir.Value, scores: ir.Value, spec: ImageInput) -> list[Grid]:
    """The tensors that everything goes through and that lie over the image, in order.

    They get coarser on the way. What is finer than one before it only looks like one (attention
    weights [N, heads, 16, 16], say), and so do cells on their way to become tokens, [N, C, cells].
    """
    grids: list[Grid] = []
    for value in waists(graph, image, scores):
        found = grid(value, spec.height, spec.width)
        if found is None:
            continue
        if grids:
            last = grids[-1]
            cells = last.height * last.width
            finer = found.height > 1.25 * last.height  # padding adds a cell or two
            if finer or (found.tokens and shape_of(value)[2] == cells):
                continue
        grids.append(found)
    return grids


def fine(grids: list[Grid], spec: ImageInput) -> list[Grid]:
    """Those of at most 18 pixels a cell."""
    return [g for g in grids if spec.height <= COARSEST * g.height]


def weighted(op: Ops, grid: Grid, weights: ir.Value) -> ir.Value:
    """Sum over channels of weights times features, where it is positive."""
    products = op.Mul(weights, single(op, grid, grid.value))
    return op.Relu(spread(op, grid, op.ReduceSum(products, [grid.channel + 1], keepdims=0)))


def single(op: Ops, grid: Grid, v: ir.Value) -> ir.Value:
    """Features or their gradient as float32, whatever the classifier computes in."""
    single: ir.Value = v
    if grid.value.dtype != ir.DataType.FLOAT:
        single = op.Cast(v, to=int(ir.DataType.FLOAT))
    return single


def scaled(op: Ops, m: ir.Value) -> ir.Value:
    """A map [K,N,height,width] scaled to 0..1; all 0 where it is the same everywhere."""
    low, high = (reduce(m, [2, 3], keepdims=1) for reduce in (op.ReduceMin, op.ReduceMax))
    made: ir.Value = op.Div(op.Sub(m, low), op.Max(op.Sub(high, low), TINY))
    return made


def scaled_in_numpy(m: Array) -> tuple[Array, Array]:
    """A map [N,K,height,width] as `scaled` makes it, and what it is divided by."""
    low, high = m.min((2, 3), keepdims=True), m.max((2, 3), keepdims=True)
    apart: Array = np.maximum(high - low, TINY)
    return (m - low) / apart, apart


def spread(op: Ops, grid: Grid, m: ir.Value) -> ir.Value:
    """[K, N, height, width] of what may be [K, N, tokens]."""
    if not grid.tokens:
        return m
    cells = op.Slice(m, [grid.extra], [grid.extra + grid.height * grid.width], [2])
    return op.Reshape(cells, [0, 0, grid.height, grid.width])
