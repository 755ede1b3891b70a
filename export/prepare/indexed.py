"""Indices that name the batch's images one after another: what they mean for a batch of any length.

x[arange(N), 0] and x[:, 0] = y hold the number of every image in a constant.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from ...runtime.arrays import Array
from ..graph.values import attribute
from .walk import MARK, Dims, Walk, mends


@mends("Gather", always=True)
def gather(walk: Walk, node: ir.Node, dims: Dims) -> None:
    """From a flat tensor, the same elements of every image (PyTorch's as_strided)."""
    if walk.axis(node.inputs[0]) != 0 or attribute(node, "axis", 0) % len(dims) or 0 in dims:
        return
    per, rest = dims[0] // MARK, dims[1:]

    def within(rows: Array, image: Array) -> Array:
        return rows % (len(rows) * per) - per * image

    places = _places(walk, node.inputs[1], within, per)
    if places is None:
        if (
            walk.whole == 1 and walk.axis(node.inputs[1]) == 0
        ):  # each image decides; it was the first
            own = walk.emitted(walk.op.Unsqueeze(node.inputs[1], [-1]))
            _take_own(walk, node, own, [per, *rest])
    elif np.array_equal(places.ravel(), np.arange(per)):
        walk.becomes(node, "Reshape", np.array([-1, *places.shape[1:], *rest]))
    else:
        _take(walk, node, places, per, rest)


@mends("GatherND", always=True)
def gather_nd(walk: Walk, node: ir.Node, dims: Dims) -> None:
    """The same elements of every image."""
    if walk.axis(node.inputs[0]) != 0 or dims[0] != MARK or attribute(node, "batch_dims", 0):
        return
    indices, found = node.inputs[1], _flat(walk, node.inputs[1], dims)
    if found is not None:
        _take(walk, node, *found)
    elif walk.whole == 1 and walk.axis(indices) == 0:  # each image decides; it was the first
        own = walk.emitted(walk.op.Slice(indices, [1], [MARK], [-1]))
        _take_own(walk, node, own, dims[1:])


@mends("ScatterND", always=True)
def scatter_nd(walk: Walk, node: ir.Node, dims: Dims) -> None:
    """The same elements of every image; what is not of the image is repeated for every one."""
    data, indices, updates = node.inputs[:3]
    if (walk.axis(data) is not None and walk.axis(data) != 0) or walk.dims(data) is None:
        return
    dims = [MARK, *(walk.dims(data) or [])[1:]]
    found = None if 0 in dims else _flat(walk, indices, dims)
    if data is None or updates is None or found is None:
        return
    places, per, rest = found
    data, updates = (
        x if walk.axis(x) is not None else walk.repeated(x, 0) for x in (data, updates)
    )
    rows = walk.emitted(walk.op.Reshape(data, [-1, per, *rest]))
    new = walk.emitted(walk.op.Reshape(updates, [-1, places.size, *rest]))
    flat = places.reshape(1, -1, *[1] * len(rest))
    where = walk.op.const(np.broadcast_to(flat, (1, places.size, *rest)).astype(np.int64))
    walk.seed(where)
    everywhere = walk.repeated(where, 0)
    how = attribute(node, "reduction", "none")
    made = walk.emitted(walk.op.ScatterElements(rows, everywhere, new, axis=1, reduction=how))
    node.replace_input_with(0, made)
    walk.becomes(node, "Reshape", np.array([-1, *dims[1:]]))


@mends("GatherElements", "ScatterElements")
def elements(walk: Walk, node: ir.Node, dims: Dims) -> None:
    """What is not of the image is repeated for every one."""
    if dims[0] % MARK == 0 and attribute(node, "axis", 0) % len(dims):
        walk.repeat_others(node, 0)


def _places(
    walk: Walk, indices: ir.Value | None, within: Callable[[Array, Array], Array], per: int
) -> Array | None:
    """Indices [n q, ...] of n images, in order, as the same places [q, ...] of each; None: others.

    Args:
        walk: for the value of ``indices``.
        indices: of a Gather.
        within: places of an image of rows [n, q, ...], and the image's numbers [n, 1, ...].
        per: how many places an image has.
    """
    places = None
    for n in (2, 3) if walk.whole == MARK else (walk.old,):
        found = walk.at(indices, n)
        if found is None or not found.ndim or not found.size or len(found) % n:
            return None
        rows = found.reshape(n, -1, *found.shape[1:])
        made = within(rows, np.arange(n).reshape(-1, *[1] * (rows.ndim - 1)))
        places = made[0] if places is None else places
        if made.shape[1:] != places.shape or (made != places).any():
            return None
    outside = places is None or places.min() < 0 or places.max() >= per
    return None if outside else places


def _flat(walk: Walk, indices: ir.Value | None, dims: Dims) -> tuple[Array, int, Dims] | None:
    """Of indices [..., k] whose first is the image: the places in an image, flat up to axis k.

    With how many there are, and the lengths of the axes after them.
    """
    shape = walk.dims(indices)
    if not shape or not 0 < shape[-1] <= len(dims):
        return None
    first = dims[1 : shape[-1]]

    def within(rows: Array, image: Array) -> Array:
        own = rows[..., 0] % len(rows) == image[..., 0]
        place = np.zeros(own.shape, np.int64)
        for i, length in enumerate(first, 1):
            place = place * length + rows[..., i] % length
        return np.where(own, place, -1)

    per = math.prod(first)
    places = _places(walk, indices, within, per)
    return None if places is None else (places, per, dims[shape[-1] :])


def _take_own(walk: Walk, node: ir.Node, indices: ir.Value, dims: Dims) -> None:
    """Let a node take, of every image [dims], the elements at its own indices [N, ..., k]."""
    indices.dtype = ir.DataType.INT64
    rows = walk.emitted(walk.op.Reshape(node.inputs[0], [-1, *dims]))
    node.replace_input_with(0, rows)
    walk.becomes(node, "GatherND", indices, batch_dims=1)


def _take(walk: Walk, node: ir.Node, places: Array, per: int, rest: Sequence[int]) -> None:
    """Let a node take places [q, ...] of every image: [N q, ..., rest]."""
    rows = walk.emitted(walk.op.Reshape(node.inputs[0], [-1, per, *rest]))
    node.replace_input_with(0, rows)
    if len(places) == 1:
        walk.becomes(node, "Gather", places[0], axis=1)
        return
    taken = walk.emitted(walk.op.Gather(rows, places, axis=1))
    node.replace_input_with(0, taken)
    walk.becomes(node, "Reshape", np.array([-1, *places.shape[1:], *rest]))
