"""Sampling at computed places: spatial transformers and deformable layers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...runtime.errors import ModelError
from ..autodiff.ops import Ops
from ..autodiff.registry import Grads, vjp
from ..graph.values import args, attribute, static

_A = -0.75  # of the cubic convolution, in ONNX Runtime and PyTorch


@vjp("GridSample")
def grid_sample(op: Ops, node: ir.Node, g: ir.Value) -> Grads:
    """Y[c, m] = sum over pixels of x[c, p] w[m, p], w the product over the axes of w_a(u[m] - p_a).

    dx = g w; d grid along axis a = sum over c of g x w', w' with the derivative of w_a. The weights
    [N, places, pixels] are whole matrices: meant for feature maps, not for photos.
    https://onnx.ai/onnx/operators/onnx__GridSample.html
    """
    (x, grid), sizes = args(node), static(args(node)[0], 2)
    places, rank = op.Reshape(grid, [0, -1, len(sizes)]), len(sizes)
    weights, slopes = [], []
    for i, n in enumerate(sizes):
        at = op.Slice(places, [rank - 1 - i], [rank - i], [2])  # x, the last axis, comes first
        weight, slope = _interpolation(op, node, at, n)
        weights.append(weight)
        slopes.append(slope)
    rows = op.Reshape(g, [0, 0, static(x, 1)[0], -1])  # [K, N, C, places]
    dx = op.reshape(op.MatMul(rows, _outer(op, weights)), x)
    pixels = op.Transpose(op.Reshape(x, [0, 0, -1]), perm=[0, 2, 1])
    parts = []
    for i in reversed(range(rank)):
        moved = _outer(op, [slopes[j] if j == i else weights[j] for j in range(rank)])
        change = op.Transpose(op.MatMul(moved, pixels), perm=[0, 2, 1])  # [N, C, places]
        parts.append(op.Unsqueeze(op.ReduceSum(rows * change, [-2], keepdims=0), [-1]))
    return dx, op.reshape(op.Concat(*parts, axis=-1), grid)


def _interpolation(op: Ops, node: ir.Node, at: ir.Value, n: int) -> tuple[ir.Value, ir.Value]:
    """Weights [N, places, n] of an axis's pixels and their slopes, for coordinates in [-1, 1]."""
    mode = _MODES.get(attribute(node, "mode", "linear"))
    padding, aligned = attribute(node, "padding_mode", "zeros"), attribute(node, "align_corners", 0)
    if mode is None or padding not in ("zeros", "border", "reflection"):
        raise ModelError(
            f"GridSample {node.name!r} has mode {attribute(node, 'mode')!r} and padding "
            f"{padding!r}, which the standard has not.",
            "export it with mode nearest, linear or cubic and padding zeros, border or reflection.",
        )
    scale = (n - 1) / 2 if aligned else n / 2
    u = at * scale + (n - 1) / 2
    ends = (0.0, n - 1.0) if aligned else (-0.5, n - 0.5)
    if mode == "cubic":
        return _cubic(op, u, n, scale, padding, ends)
    if mode == "nearest":
        weight = _hits(op, _padded(op, op.Round(u), n, padding, ends)[0], n)
        return weight, weight * 0.0
    u, moved = _padded(op, u, n, padding, ends)
    far = u - op.const(np.arange(float(n)))
    weight = op.Relu(1 - op.Abs(far))
    touched = op.And(op.Less(far, 1.0), op.GreaterOrEqual(far, -1.0))
    falling = op.Where(op.GreaterOrEqual(far, 0.0), -scale, scale)  # torch's choice at a pixel
    slope = op.Where(touched, falling, 0.0)
    return weight, slope if moved is None else slope * moved


def _cubic(
    op: Ops, u: ir.Value, n: int, scale: float, padding: str, ends: tuple[float, float]
) -> tuple[ir.Value, ir.Value]:
    """Four pixels around each place, (a + b t + c t^2 + d t^3) of each, t its distance.

    A pixel outside is padded itself, not the place.
    """
    base = op.Floor(u)
    t = u - base
    weights, slopes = [], []
    for offset, (a, b, c, d) in zip((-1, 0, 1, 2), _CUBIC, strict=True):
        value = ((t * d + c) * t + b) * t + a
        change = ((t * (3 * d) + 2 * c) * t + b) * scale
        hits = _hits(op, _padded(op, base + float(offset), n, padding, ends)[0], n)
        weights.append(hits * value)
        slopes.append(hits * change)
    return op.Sum(*weights), op.Sum(*slopes)


_MODES = {
    "linear": "linear", "bilinear": "linear", "nearest": "nearest", "cubic": "cubic",
    "bicubic": "cubic",
}  # fmt: skip
_CUBIC = (  # the pixel before the last one passed, that one, the next, the one after it
    (0.0, _A, -2 * _A, _A),
    (1.0, 0.0, -(_A + 3), _A + 2),
    (0.0, -_A, 2 * _A + 3, -(_A + 2)),
    (0.0, 0.0, _A, -_A),
)


def _hits(op: Ops, at: ir.Value, n: int) -> ir.Value:
    """1 for the pixel at each whole place, else 0: [N, places, n]."""
    return op.Relu(1 - op.Abs(at - op.const(np.arange(float(n)))))


def _padded(
    op: Ops, u: ir.Value, n: int, padding: str, ends: tuple[float, float]
) -> tuple[ir.Value, ir.Value | None]:
    """Where a place outside of [0, n - 1] is taken from, and the slope of that (None: 1).

    Reflection is at ``ends``, then what is left outside is at the border. At 0 and n - 1 nothing
    flows (as PyTorch has it).
    """
    if padding == "zeros":
        return u, None
    turn = None
    if padding == "reflection":
        low, span = ends[0], ends[1] - ends[0]
        if span == 0:
            return u * 0.0, u * 0.0
        inner = op.Abs(u - low)
        rest = inner - op.Floor(inner / (2 * span)) * (2 * span)
        turn = op.Where(op.Less(rest, span), 1.0, -1.0) * op.Where(op.Less(u, low), -1.0, 1.0)
        u = span + low - op.Abs(rest - span)
    inside = op.And(op.Greater(u, 0.0), op.Less(u, n - 1.0))
    moved = op.Where(inside, 1.0 if turn is None else turn, 0.0)
    return op.Clip(u, 0.0, n - 1.0), moved


def _outer(op: Ops, factors: list[ir.Value]) -> ir.Value:
    """[N, places, n_a] per axis -> [N, places, pixels], their products."""
    product = factors[0]
    for factor in factors[1:]:
        product = op.Unsqueeze(product, [3]) * op.Unsqueeze(factor, [2])
        product = op.Reshape(product, [0, 0, -1])
    return product
