"""Operators that move elements and change none: the gradient moves them back.

Specs: https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..autodiff.adjoints import pad as padded
from ..autodiff.adjoints import scatter
from ..autodiff.ops import Ops
from ..autodiff.registry import Grads, vjp
from ..graph.values import args, attribute, constant, length, not_constant, shape_of, static


@vjp("Flatten", "Reshape", "Squeeze", "Unsqueeze")
def reshape(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g in x's shape."""
    return op.reshape(g, args(node)[0])


@vjp("Transpose")
def transpose(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g, axes put back."""
    rank = len(shape_of(args(node)[0]))
    perm = attribute(node, "perm", list(range(rank))[::-1])
    return op.Transpose(g, perm=[0, *(int(i) + 1 for i in np.argsort(perm))])


@vjp("Expand", broadcast=True)
def expand(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g, summed over the repeated axes by the engine."""
    return g


@vjp("Concat")
def concat(op: Ops, node: ir.Node, g: ir.Value) -> Grads:
    """Each input gets its part of g."""
    rank = len(shape_of(node.outputs[0]))
    axis = attribute(node, "axis") % rank
    sizes = [length(x, axis) for x in args(node)]
    if len(sizes) == 1:
        return g
    return op.Split(g, sizes, axis=axis - rank, outputs=len(sizes))


@vjp("Split", variadic=True)
def split(op: Ops, node: ir.Node, grads: list[ir.Value | None]) -> ir.Value:
    """dx = the gradients joined again, zeros for a part nobody used."""
    x = args(node)[0]
    parts = zip(grads, node.outputs, strict=True)
    whole = [op.full(0.0, y) if g is None else g for g, y in parts]
    axis, rank = attribute(node, "axis", 0), len(shape_of(x))
    return op.Concat(*whole, axis=axis % rank - rank)


@vjp("Pad")
def pad(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = g without the padding; what edge, reflect and wrap repeated is added back."""
    x, pads = args(node)[0], constant(node.inputs[1])
    if pads is None:
        raise not_constant(node, "pads")
    rank, mode = len(shape_of(x)), attribute(node, "mode", "constant")
    axes = constant(node.inputs[3]) if len(node.inputs) > 3 else None
    axes = np.arange(rank) if axes is None else axes % rank
    dims = [*shape_of(node.outputs[0])]
    for i, axis in enumerate(int(a) for a in axes):
        before, after = int(pads[i]), int(pads[len(axes) + i])
        if not before and not after:
            continue
        if mode == "constant":
            if before > 0 or after > 0:
                last = length(node.outputs[0], axis) - max(after, 0)
                g = op.Slice(g, [max(before, 0)], [last], [axis - rank])
            if before < 0 or after < 0:
                dims[axis] = length(node.outputs[0], axis) - max(before, 0) - max(after, 0)
                ends = {axis - rank: (max(-before, 0), max(-after, 0))}
                g = padded(op, g, rank + 1, ends, dims=dims)
        else:
            # numpy's modes have ONNX's names
            source = np.pad(np.arange(length(x, axis)), (max(before, 0), max(after, 0)), mode)
            source = source[max(-before, 0) : len(source) - max(-after, 0)]
            g = scatter(op, g, [int(s) for s in source], length(x, axis), axis, dims)
        dims[axis] = shape_of(x)[axis]
    return g


@vjp("Tile")
def tile(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = the sum over the copies: each repeated axis is split into [copies, length]."""
    x, repeats = args(node)[0], constant(node.inputs[1])
    if repeats is None:
        lengths = zip(shape_of(node.outputs[0]), shape_of(x), strict=True)
        repeats = np.array(
            [
                1 if m == n else length(node.outputs[0], i) // length(x, i)
                for i, (m, n) in enumerate(lengths)
            ]
        )
    split, copies = [0], []
    for n, r in zip(shape_of(x), repeats, strict=True):
        if r != 1:
            copies.append(len(split))
            split.append(int(r))
        split.append(-1 if n is None else n)
    return op.ReduceSum(op.Reshape(g, split), copies, keepdims=0) if copies else g


@vjp("SpaceToDepth")
def space_to_depth(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = DepthToSpace(g)."""
    (x, y), block = (args(node)[0], node.outputs[0]), attribute(node, "blocksize")
    mode = attribute(node, "mode", "DCR")
    return op.unfold(op.DepthToSpace(op.fold(g, y), blocksize=block, mode=mode), x)


@vjp("DepthToSpace")
def depth_to_space(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = SpaceToDepth(g), channels in the order of the mode."""
    (x, y), block = (args(node)[0], node.outputs[0]), attribute(node, "blocksize")
    if attribute(node, "mode", "DCR") == "DCR":
        return op.unfold(op.SpaceToDepth(op.fold(g, y), blocksize=block), x)
    channels, height, width = static(x, 1)
    cells = op.Reshape(g, [-1, channels // block**2, height, block, width, block])
    return op.Reshape(op.Transpose(cells, perm=[0, 1, 3, 5, 2, 4]), op.shape(x))


@vjp("Trilu")
def trilu(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """dx = the same triangle of g."""
    return op.Trilu(g, *node.inputs[1:], upper=attribute(node, "upper", 1))
