"""GridSample in float64; onnx's own rounds positions to float32, where small steps vanish."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun

from ...runtime.arrays import Array

_CUBIC = -0.75


class GridSample(OpRun):
    """Samples x [N,C,D1..Dr] at a grid [N,O1..Or,r] of positions in -1..1, the last axis first."""

    def _run(
        self, x: Any, grid: Any, align_corners: Any = 0, mode: Any = "linear",
        padding_mode: Any = "zeros",
    ) -> tuple[Any]:  # fmt: skip
        taps = []
        for axis, size in enumerate(x.shape[2:]):
            at = grid[..., grid.shape[-1] - 1 - axis].astype(np.float64)
            at = (at + 1) / 2 * (size - 1) if align_corners else ((at + 1) * size - 1) / 2
            if padding_mode != "zeros" and mode not in ("cubic", "bicubic"):
                at = _inside(at, size, padding_mode, align_corners)
            taps.append(_taps(at, mode, size, padding_mode, align_corners))
        batch = np.arange(len(x)).reshape(-1, *[1] * (x.ndim - 2))
        total: Any = 0.0
        for chosen in itertools.product(*taps):
            weight = np.prod([w for _, w, _ in chosen], axis=0)
            weight = weight * np.logical_and.reduce([there for _, _, there in chosen])
            values = x[(batch, slice(None), *(i for i, _, _ in chosen))]  # [N, O..., C]
            total = total + values * weight[..., None]
        return (np.moveaxis(total, -1, 1),)


def _inside(at: Array, size: int, mode: str, align_corners: bool) -> Array:
    """Positions outside brought back, to the border or reflected by it."""
    if mode == "border":
        return np.clip(at, 0, size - 1)
    low, high = (0.0, size - 1.0) if align_corners else (-0.5, size - 0.5)
    length = high - low
    if not length:
        return np.zeros_like(at)
    away = np.mod(at - low, 2 * length)
    return low + np.minimum(away, 2 * length - away)


def _taps(
    at: Array, mode: str, size: int, padding: str, align_corners: bool
) -> list[tuple[Array, Array, Array]]:
    """The elements that a position reads: index, weight, and whether there is one."""
    start, part = np.floor(at), at - np.floor(at)
    a = _CUBIC
    if mode == "nearest":
        read = [(np.rint(at), np.ones_like(at))]
    elif mode in ("linear", "bilinear"):
        read = [(start, 1 - part), (start + 1, part)]
    else:
        far = [((a * d - 5 * a) * d + 8 * a) * d - 4 * a for d in (1 + part, 2 - part)]
        near = [((a + 2) * d - (a + 3)) * d * d + 1 for d in (part, 1 - part)]
        weights = (far[0], *near, far[1])
        read = [(start + offset, w) for offset, w in zip((-1, 0, 1, 2), weights, strict=True)]
    found = []
    for index, weight in read:
        there = np.ones(index.shape, bool)
        if padding == "zeros":
            there = (index >= 0) & (index < size)
        else:
            index = np.rint(_inside(index, size, padding, align_corners))
        found.append((np.clip(index, 0, size - 1).astype(np.int64), weight, there))
    return found
