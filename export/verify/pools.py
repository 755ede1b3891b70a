"""Pooling over the whole map in the reference, whose own loops over every position of a kernel.

A kernel of 1280 x 1280 over a map of 7 x 7 (AvgPool2d as global pooling) would take it hours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_average_pool import AveragePool_19
from onnx.reference.ops.op_lp_pool import LpPool as OnnxLpPool

from ...runtime.arrays import Array


def is_whole(
    x: Array,
    kernel: Sequence[int],
    pads: Sequence[int] | None,
    auto_pad: str | None,
    dilations: Any,
) -> bool:
    """Whether a window reaches over all of an input [N, C, ...] and its padding."""
    if (auto_pad or "NOTSET") not in ("NOTSET", "VALID") or max(dilations or [1]) > 1:
        return False
    return bool((np.array(kernel) >= padded(x, pads)).all())


def padded(x: Array, pads: Sequence[int] | None) -> Array:
    """Lengths of the padded input."""
    around = np.array(pads or [0] * 2 * (x.ndim - 2)).reshape(2, -1)
    return np.array(x.shape[2:]) + around.sum(0)


class AveragePool(AveragePool_19):
    """Mean over a window; count_include_pad counts the padding, and nothing beyond it."""

    def _run(  # type: ignore[override]
        self, x: Any, auto_pad: Any = None, ceil_mode: Any = None, count_include_pad: Any = None,
        dilations: Any = None, kernel_shape: Any = None, pads: Any = None, strides: Any = None,
    ) -> tuple[Any]:  # fmt: skip
        if is_whole(x, kernel_shape, pads, auto_pad, dilations):
            area = padded(x, pads).prod() if count_include_pad else math.prod(x.shape[2:])
            return (x.sum(tuple(range(2, x.ndim)), keepdims=True) / area,)
        made: tuple[Any] = super()._run(  # type: ignore[no-untyped-call]
            x, auto_pad=auto_pad, ceil_mode=ceil_mode, count_include_pad=count_include_pad,
            dilations=dilations, kernel_shape=kernel_shape, pads=pads, strides=strides,
        )  # fmt: skip
        return made


class LpPool(OnnxLpPool):
    """The p-norm over a window."""

    def _run(  # type: ignore[override]
        self, x: Any, auto_pad: Any = None, ceil_mode: Any = None, dilations: Any = None,
        kernel_shape: Any = None, p: Any = 2, pads: Any = None, strides: Any = None,
        count_include_pad: Any = None,
    ) -> tuple[Any]:  # fmt: skip
        if is_whole(x, kernel_shape, pads, auto_pad, dilations):
            sums = (np.abs(x) ** p).sum(tuple(range(2, x.ndim)), keepdims=True)
            return (sums ** (1 / p),)
        made: tuple[Any] = super()._run(  # type: ignore[no-untyped-call]
            x, auto_pad=auto_pad, ceil_mode=ceil_mode, dilations=dilations,
            kernel_shape=kernel_shape, p=p, pads=pads, strides=strides,
            count_include_pad=1,  # it makes sums of averages
        )  # fmt: skip
        return made


class GlobalLpPool(OpRun):
    """The p-norm over the map; onnx's own evaluator has none."""

    def _run(self, x: Any, p: Any = 2) -> tuple[Any]:
        sums = (np.abs(x) ** (p or 2)).sum(tuple(range(2, x.ndim)), keepdims=True)
        return (sums ** (1 / (p or 2)),)


class MaxPool(OpRun):
    """Maximum pooling; onnx's own strays in SAME_LOWER and ceil_mode, and loops in Python."""

    def _run(
        self, x: Any, auto_pad: Any, ceil_mode: Any, dilations: Any, kernel_shape: Any, pads: Any,
        storage_order: Any, strides: Any,
    ) -> tuple[Any]:  # fmt: skip
        rank, size = len(kernel_shape), np.array(x.shape[2:])
        if is_whole(x, kernel_shape, pads, auto_pad, dilations):
            kernel_shape, pads, strides = list(x.shape[2:]), None, None
        stride, dilation = np.array(strides or [1] * rank), np.array(dilations or [1] * rank)
        reach = dilation * (np.array(kernel_shape) - 1) + 1
        before, after = np.array(pads or [0] * 2 * rank).reshape(2, rank)
        if (auto_pad or "NOTSET").startswith("SAME"):
            total = np.maximum((-(-size // stride) - 1) * stride + reach - size, 0)
            before = total // 2 if auto_pad == "SAME_UPPER" else -(-total // 2)
            after = total - before
        room = size + before + after - reach
        out = room // stride + 1
        if ceil_mode:  # a window must begin inside the image or the padding before it
            out = -(-room // stride) + 1
            out -= (out - 1) * stride >= size + before
        missing = np.maximum((out - 1) * stride + reach - size - before, 0)
        width = [(0, 0), (0, 0), *zip(before, missing, strict=True)]
        padded = np.pad(x, width, constant_values=-np.inf)
        axes = tuple(range(2, 2 + rank))
        windows = np.lib.stride_tricks.sliding_window_view(padded, tuple(reach), axes)
        steps = [slice(None, (o - 1) * s + 1, s) for o, s in zip(out, stride, strict=True)]
        taps = [slice(None, None, d) for d in dilation]
        windows = windows[(slice(None), slice(None), *steps, *taps)]
        windows = windows.reshape(*windows.shape[: 2 + rank], -1)
        chosen = self.choose(windows)[..., None]
        return (np.take_along_axis(windows, chosen, -1)[..., 0],)

    def choose(self, windows: Array) -> Array:
        """Which element of each window, [..., taps] -> [...]."""
        return windows.argmax(-1)
