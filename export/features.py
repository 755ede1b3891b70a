"""Maps made of middle feature maps: which ones, and what of their gradients.

The gradient with respect to a middle feature map lies on the way to the image's, so these maps cost
next to nothing beside it. They are coarse, and much calmer: what boxes are best made of.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import onnx_ir as ir

from ..runtime.contract import ImageInput, Map, MapName
from .autodiff.backward import waists
from .graph.ops import Ops
from .graph.values import FLOATS, shape_of

FINEST, COARSEST = 4, 18  # pixels from cell to cell; 18 leaves a 227 / 13 in
FIRST, LAST = 0.6, 0.75  # of the way through the feature maps
MOST_EXTRA = 8  # tokens that are no part of the image: class, registers
TINY = 1e-30

DEFINITIONS: Mapping[MapName, str] = {
    "features": "mean over channels of abs(d score / d features), scaled to 0..1; their mean",
    "gradcam": "relu(sum over channels of mean(d score / d features) * features)",
    "layercam": "relu(sum over channels of relu(d score / d features) * features)",
}


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


def plan(
    graph: ir.Graph, image: ir.Value, scores: ir.Value, spec: ImageInput, maps: Sequence[MapName]
) -> dict[MapName, list[Grid]]:
    """The feature maps that each map wanted is made of; maps that have none are left out.

    ``features`` takes those between 60 and 75 % of the way, of one size, at most 18 pixels a cell.
    (On labelled photos, with five trained classifiers, boxes are best from there, models/BOXES.md:
    the first layers see edges only, and the last ones see everything everywhere.) ``gradcam`` takes
    the last one (Selvaraju et al. 2017), ``layercam`` the last of at most 18 pixels a cell (Jiang
    et al. 2021).

    Raises:
        ModelError: the scores do not depend on the image.
    """
    if not set(maps) & set(DEFINITIONS):
        return {}
    grids = _coarsening(graph, image, scores, spec)
    if not grids:
        return {}
    fine = [g for g in grids if spec.height <= COARSEST * g.height]
    first, end = math.ceil(FIRST * len(grids)) - 1, math.floor(LAST * len(grids))
    last = ([g for g in grids[:end] if g in fine] or fine or grids)[-1]
    size = last.height, last.width
    planned: dict[MapName, list[Grid]] = {
        "features": [g for g in grids[first:end] if (g.height, g.width) == size] or [last],
        "gradcam": grids[-1:],
        "layercam": (fine or grids)[-1:],
    }
    return {name: planned[name] for name in maps if name in planned}


def _coarsening(graph: ir.Graph, image: ir.Value, scores: ir.Value, spec: ImageInput) -> list[Grid]:
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


def emit(
    op: Ops, name: MapName, grids: Sequence[Grid], gradients: Mapping[ir.Value, ir.Value]
) -> tuple[ir.Value, Map]:
    """Append a map.

    Args:
        op: emitter.
        name: which one.
        grids: the feature maps it is made of, all of one height and width.
        gradients: of each of their tensors, [K, N, ...].

    Returns:
        float32 [N, K, height, width], and its description.
    """
    make = {"features": _magnitude, "gradcam": _gradcam, "layercam": _layercam}[name]
    parts = [make(op, grid, gradients[grid.value]) for grid in grids]
    # Not op.Mean: CUDA has no kernel for it, and one node on the CPU forbids CUDA graphs.
    mean = parts[0] if len(parts) == 1 else op.Div(op.Sum(*parts), float(len(parts)))
    tensors = tuple(grid.value.name or "" for grid in grids)
    made = Map(name, grids[0].height, grids[0].width, DEFINITIONS[name], tensors)
    return op.Transpose(mean, perm=[1, 0, 2, 3]), made


def _magnitude(op: Ops, grid: Grid, g: ir.Value) -> ir.Value:
    """Mean over channels of the gradient's magnitude, scaled to 0..1."""
    m = _spread(
        op, grid, op.ReduceMean(op.Abs(_single(op, grid, g)), [grid.channel + 1], keepdims=0)
    )
    low, high = (reduce(m, [2, 3], keepdims=1) for reduce in (op.ReduceMin, op.ReduceMax))
    return op.Div(op.Sub(m, low), op.Max(op.Sub(high, low), TINY))


def _gradcam(op: Ops, grid: Grid, g: ir.Value) -> ir.Value:
    axes = [2] if grid.tokens else [a for a in (2, 3, 4) if a != grid.channel + 1]
    weights = op.ReduceMean(_single(op, grid, g), axes, keepdims=1)
    return _weighted(op, grid, weights)


def _layercam(op: Ops, grid: Grid, g: ir.Value) -> ir.Value:
    return _weighted(op, grid, op.Relu(_single(op, grid, g)))


def _weighted(op: Ops, grid: Grid, weights: ir.Value) -> ir.Value:
    """Sum over channels of weights times features, where it is positive."""
    products = op.Mul(weights, _single(op, grid, grid.value))
    return op.Relu(_spread(op, grid, op.ReduceSum(products, [grid.channel + 1], keepdims=0)))


def _single(op: Ops, grid: Grid, v: ir.Value) -> ir.Value:
    """Features or their gradient as float32, whatever the classifier computes in."""
    single: ir.Value = v
    if grid.value.dtype != ir.DataType.FLOAT:
        single = op.Cast(v, to=int(ir.DataType.FLOAT))
    return single


def _spread(op: Ops, grid: Grid, m: ir.Value) -> ir.Value:
    """[K, N, height, width] of what may be [K, N, tokens]."""
    if not grid.tokens:
        return m
    cells = op.Slice(m, [grid.extra], [grid.extra + grid.height * grid.width], [2])
    return op.Reshape(cells, [0, 0, grid.height, grid.width])
