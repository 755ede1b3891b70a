"""Nodes that work on a batch of any length, and what does not follow it as constants.

Where a file has fixed the batch, its exporter wrote it into constants (targets of Reshape and
Expand, sizes of Resize, a class token repeated for it): those take it from the image. Where it is
dynamic, what takes the whole batch (a Slice from end to end) does not ask for its length.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from ..graph.values import attribute
from . import indexed  # has mends
from .walk import MARK, SHAPED_AS_INPUT, Dims, Walk, follows, mends, with_batch


def fold_shapes(model: ir.Model) -> tuple[bool, dict[ir.Value, Dims]]:
    """Make constants of what is computed from shapes and does not follow a dynamic length.

    Returns:
        Whether there was any, and the shape of every tensor of the graph where it is known, a
        length that follows the batch as a multiple of MARK.
    """
    if not model.graph.inputs:
        return False, {}
    walk = Walk(model, model.graph.inputs[0])
    walk.run()
    if walk.changed:
        model.graph.sort()
    made = (y for node in model.graph for y in node.outputs)
    return walk.changed, {y: dims for y in made if (dims := walk.dims(y)) is not None}


@mends("Reshape")
def reshape(walk: Walk, node: ir.Node, dims: Dims) -> None:
    """The length at the batch's place in row-major order becomes -1."""
    target = walk.fixed(node.inputs[1])
    axis = walk.axis(node.inputs[0])
    if target is None or axis is None:
        return
    before = walk.before(dims)
    whole = [before[i] if t == 0 else int(t) for i, t in enumerate(target)]
    if -1 in whole:
        rest = -math.prod(whole)
        whole[whole.index(-1)] = math.prod(before) // rest if rest else 0
    outside = walk.outside(node.inputs[0])
    places = []
    for i, n in enumerate(whole):
        prefix = math.prod(whole[:i])
        inner = outside // prefix if prefix and outside % prefix == 0 else 0
        if inner and n % (inner * walk.old) == 0:
            # A batch of 1 may fit in several places: a length of its own, else what precedes it
            # where axes are joined, else what follows it (torch's MultiheadAttention does both).
            places.append((n != walk.old, inner != 1 and len(whole) >= len(before), i))
    if places:
        whole[min(places)[-1]] = -1
        walk.put(node, 1, np.array(whole))


@mends("Expand")
def expand(walk: Walk, node: ir.Node, dims: Dims) -> None:
    """Length 1 keeps what the input has."""
    shape, axis = walk.fixed(node.inputs[1]), walk.axis(node.inputs[0])
    if shape is not None and axis is not None:
        place = axis - len(dims) + len(shape)
        if shape[place] == walk.before(dims)[axis]:
            walk.put(node, 1, np.where(np.arange(len(shape)) == place, 1, shape))


@mends("Concat")
def concat(walk: Walk, node: ir.Node, dims: Dims) -> None:
    """What does not depend on the image (a class token) is repeated for every image."""
    axis = next(i for i, d in enumerate(dims) if d % MARK == 0)
    if attribute(node, "axis") % len(dims) == axis:
        return
    walk.repeat_others(node, axis)


@mends("Resize")
def resize(walk: Walk, node: ir.Node, dims: Dims) -> None:
    """Sizes for the axes that change, and for those alone."""
    sizes = walk.fixed(node.inputs[3]) if len(node.inputs) > 3 else None
    if sizes is not None and len(sizes) == len(dims) and "axes" not in node.attributes:
        axes = [i for i, d in enumerate(dims) if d % MARK]
        node.attributes["axes"] = ir.AttrInt64s("axes", axes)
        walk.put(node, 3, sizes[axes])


@mends("Slice", always=True)
def slice_(walk: Walk, node: ir.Node, dims: Dims) -> None:
    """A slice that took the whole batch takes the whole batch."""
    starts, ends, axes, steps = (*map(walk.known, node.inputs[1:5]), None, None)[:4]
    if starts is None or ends is None:
        return
    along = np.arange(len(starts)) if axes is None else axes % len(dims)
    steps = np.ones_like(along) if steps is None else steps
    from_first = (starts == 0) | (starts <= -walk.whole)
    full = from_first & (ends >= walk.whole) & ((steps == 1) | ((walk.whole == 1) & (steps > 0)))
    part = (along != walk.axis(node.inputs[0])) | ~full
    if not part.any():
        walk.becomes(node, "Identity")
    elif not part.all() and not any(follows(v[part]).any() for v in (starts, ends)):
        for i, values in enumerate((starts, ends, along, steps), 1):
            if len(node.inputs) > i:
                walk.put(node, i, values[part])
        if len(node.inputs) < 4:
            node.resize_inputs(4)
            walk.put(node, 3, along[part])


@mends("Split", always=True)
def split(walk: Walk, node: ir.Node, dims: Dims) -> None:
    """A batch in one part is the batch."""
    if len(node.outputs) == 1 and attribute(node, "axis", 0) % len(dims) == walk.axis(
        node.inputs[0]
    ):
        walk.becomes(node, "Identity")


@mends("LSTM", "GRU", "RNN")
def recurrent(walk: Walk, node: ir.Node, dims: Dims) -> None:
    """Initial states [directions, batch, hidden]."""
    walk.repeat_others(node, 1, inputs=(5, 6))


__all__ = ["SHAPED_AS_INPUT", "fold_shapes", "indexed", "with_batch"]
