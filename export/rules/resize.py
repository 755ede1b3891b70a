"""Resampling of images by constant factors, and the grids of spatial transformers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from ...runtime.arrays import Array
from ..autodiff.adjoints import along, scatter
from ..autodiff.ops import Ops
from ..autodiff.registry import vjp
from ..graph.values import Shape, args, attribute, constant, not_constant, shape_of, static


@vjp("Resize")
def resize(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """Y = M x along each resized axis: dx = M^T g.

    A matrix that picks one element per row (nearest) becomes a sum over copies instead.
    https://onnx.ai/onnx/operators/onnx__Resize.html
    """
    dims = [*shape_of(node.outputs[0])]
    for axis, matrix in _matrices(node):
        n, chosen = matrix.shape[1], matrix.argmax(1)
        if np.array_equal(matrix, np.eye(n)[chosen]):
            g = scatter(op, g, chosen.tolist(), n, axis, dims)
        else:
            g = along(op, g, matrix, axis, len(dims))
        dims[axis] = n
    return g


def _matrices(node: ir.Node) -> Iterator[tuple[int, Array]]:
    """Every resized axis and its matrix [m, n]: the very same Resize of an identity matrix."""
    x, y = shape_of(args(node)[0]), shape_of(node.outputs[0])
    roi, scales, sizes = (_given(v) for v in (*node.inputs[1:], None, None, None)[:3])
    axes = [a % len(x) for a in attribute(node, "axes", range(len(x)))]
    crop = attribute(node, "coordinate_transformation_mode", "") == "tf_crop_and_resize"
    if (scales is None and len(node.inputs) < 4) or (crop and roi is None):
        raise not_constant(node, "scales and roi")
    guide = _guide(node, x, axes, sizes) if scales is None else None
    for i, axis in enumerate(axes):
        n, m = x[axis], y[axis]
        if axis == 0 and n is None and m is None and (scales is None or scales[i] == 1):
            continue  # the batch, which nobody resizes
        if n is None or m is None:
            raise not_constant(node, "scales or sizes")
        window = [0, 1] if roi is None or not crop else [roi[i], roi[len(axes) + i]]
        if n == m and window == [0, 1] and guide is None and (scales is None or scales[i] == 1):
            continue
        if scales is not None:
            made = _resized(node, np.eye(n), window, scales=[1, scales[i]])
        elif guide is None or sizes is None:
            made = _resized(node, np.eye(n), window, sizes=[n, m])
        else:
            both = np.repeat(np.eye(n)[..., None], guide[0], 2)
            made = _resized(node, both, window, axes=[1, 2], sizes=[int(sizes[i]), guide[1]])[
                ..., 0
            ]
        yield axis, made.T


def _guide(node: ir.Node, x: Shape, axes: list[int], sizes: Array | None) -> tuple[int, int] | None:
    """Length and size of the axis whose scale all share to keep the aspect ratio, if so asked."""
    policy = attribute(node, "keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return None
    if sizes is None:
        raise not_constant(node, "sizes")
    pairs = [(x[axis] or 1, int(size)) for axis, size in zip(axes, sizes, strict=True)]
    return (min if policy == "not_larger" else max)(pairs, key=lambda pair: pair[1] / pair[0])


def _resized(node: ir.Node, x: Array, window: list[float], **to: list[Any]) -> Array:
    """The node's own Resize of ``x`` along its axis 1."""
    keep = ("keep_aspect_ratio_policy",) if "axes" in to else ()
    changed = {"axes", "extrapolation_value", "keep_aspect_ratio_policy"}.difference(keep)
    attributes: dict[str, Any] = {
        a.name: a.value for a in node.attributes.values() if a.name not in changed
    }
    feed: dict[str, Array] = {"x": x, "roi": np.array([0, window[0], 1, window[1]])}
    feed |= {k: np.array(v) for k, v in to.items() if k != "axes"}
    names = [k if k in feed else "" for k in ("x", "roi", "scales", "sizes")]
    attributes["axes"] = to.get("axes")
    made = onnx.helper.make_node("Resize", names, ["y"], **attributes)
    (y,) = ReferenceEvaluator(made).run(None, feed)
    return np.asarray(y)


def _given(value: ir.Value | None) -> Array | None:
    """A constant input; None where it is absent, empty or not constant."""
    array = constant(value)
    return array if array is not None and array.size else None


@vjp("AffineGrid")
def affine_grid(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """Grid = base theta^T, base the places' coordinates (x, y, ..., 1): d theta = g^T base.

    https://onnx.ai/onnx/operators/onnx__AffineGrid.html
    """
    sizes = static(node.outputs[0], 1)[:-1]
    aligned = attribute(node, "align_corners", 0)
    ends = [1.0 if aligned else 1 - 1 / n for n in sizes]
    lines = [np.linspace(-end, end, n) for end, n in zip(ends, sizes, strict=True)]
    places = np.stack(np.meshgrid(*lines, indexing="ij")[::-1], -1).reshape(-1, len(sizes))
    base = np.concatenate([places, np.ones((len(places), 1))], 1)
    rows = op.Reshape(g, [0, 0, -1, len(sizes)])
    return op.MatMul(op.Transpose(rows, perm=[0, 1, 3, 2]), base)
