"""Pooling in the reference: all windows at once.

onnx's own loops over every position of a kernel (1280 x 1280 over a map of 7 x 7, AvgPool2d as
global pooling, would take it hours), and strays in SAME_LOWER and ceil_mode.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun

from ...runtime.arrays import Array


@dataclasses.dataclass(frozen=True)
class _Windows:
    """Where the windows of a pool lie, over a map [N, C, ...axes].

    Attributes:
        size, kernel, stride, dilation, before, after: int64 [axes]: lengths of the map and of a
            window, steps of and within it, padding.
        count: windows along each axis.
    """

    size: Array
    kernel: Array
    stride: Array
    dilation: Array
    before: Array
    after: Array
    count: Array

    def of(self, x: Array, fill: float, within: float | None = None) -> Array:
        """The elements of each window, [N, C, ...count, elements].

        Args:
            x: the map.
            fill: what stands where there is none.
            within: what stands in the padding, if that is something else.
        """
        reach = self.dilation * (self.kernel - 1) + 1
        end = (self.count - 1) * self.stride + reach
        padding = np.maximum(np.minimum(self.after, end - self.size - self.before), 0)
        beyond = np.maximum(end - self.size - self.before - padding, 0)
        around = [(0, 0), (0, 0), *zip(self.before, padding, strict=True)]
        padded = np.pad(x, around, constant_values=fill if within is None else within)
        rest = [(0, 0), (0, 0), *((0, int(n)) for n in beyond)]
        padded = np.pad(padded, rest, constant_values=fill)
        axes = tuple(range(2, x.ndim))
        windows = np.lib.stride_tricks.sliding_window_view(padded, tuple(reach), axes)
        last = (self.count - 1) * self.stride + 1
        steps = [slice(None, int(e), int(s)) for e, s in zip(last, self.stride, strict=True)]
        taps = [slice(None, None, int(d)) for d in self.dilation]
        windows = windows[(slice(None), slice(None), *steps, *taps)]
        return windows.reshape(*windows.shape[: x.ndim], -1)


def _windows(
    x: Array, kernel_shape: Sequence[int], auto_pad: str | None = None,
    ceil_mode: int | None = None, dilations: Any = None, pads: Any = None, strides: Any = None,
) -> _Windows:  # fmt: skip
    rank, size, kernel = x.ndim - 2, np.array(x.shape[2:]), np.array(kernel_shape)
    stride, dilation = np.array(strides or [1] * rank), np.array(dilations or [1] * rank)
    how = auto_pad or "NOTSET"
    reach = dilation * (kernel - 1) + 1
    before, after = np.array(pads or [0] * 2 * rank).reshape(2, rank)
    if how.startswith("SAME"):
        total = np.maximum((-(-size // stride) - 1) * stride + reach - size, 0)
        before = total // 2 if how == "SAME_UPPER" else -(-total // 2)
        after = total - before
    room = size + before + after - reach
    count = room // stride + 1
    if ceil_mode:  # a window must begin inside the image or the padding before it
        count = -(-room // stride) + 1
        count -= (count - 1) * stride >= size + before
    whole = (kernel >= size + before + after).all() and (dilation == 1).all()
    if whole and not how.startswith("SAME"):
        kernel, count = size + before + after, np.ones_like(count)
    return _Windows(size, kernel, stride, dilation, before, after, count)


class AveragePool(OpRun):
    """Mean over a window; count_include_pad counts the padding, and nothing beyond it."""

    def _run(
        self, x: Any, auto_pad: Any = None, ceil_mode: Any = None, count_include_pad: Any = None,
        dilations: Any = None, kernel_shape: Any = None, pads: Any = None, strides: Any = None,
    ) -> tuple[Any]:  # fmt: skip
        where = _windows(x, kernel_shape, auto_pad, ceil_mode, dilations, pads, strides)
        counted = where.of(np.ones((1, 1, *x.shape[2:])), 0, 1 if count_include_pad else 0)
        return (where.of(x, 0).sum(-1) / counted.sum(-1),)


class LpPool(OpRun):
    """The p-norm over a window."""

    def _run(
        self, x: Any, auto_pad: Any = None, ceil_mode: Any = None, dilations: Any = None,
        kernel_shape: Any = None, p: Any = 2, pads: Any = None, strides: Any = None,
    ) -> tuple[Any]:  # fmt: skip
        where = _windows(x, kernel_shape, auto_pad, ceil_mode, dilations, pads, strides)
        return ((where.of(np.abs(x), 0) ** (p or 2)).sum(-1) ** (1 / (p or 2)),)


class GlobalLpPool(OpRun):
    """The p-norm over the map; onnx's own evaluator has none."""

    def _run(self, x: Any, p: Any = 2) -> tuple[Any]:
        sums = (np.abs(x) ** (p or 2)).sum(tuple(range(2, x.ndim)), keepdims=True)
        return (sums ** (1 / (p or 2)),)


class GlobalMaxPool(OpRun):
    """The maximum over the map; onnx's own strays on maps of three axes."""

    def _run(self, x: Any) -> tuple[Any]:
        return (x.max(tuple(range(2, x.ndim)), keepdims=True),)


class MaxPool(OpRun):
    """Maximum pooling, and where the maxima are."""

    def _run(
        self, x: Any, auto_pad: Any, ceil_mode: Any, dilations: Any, kernel_shape: Any, pads: Any,
        storage_order: Any, strides: Any,
    ) -> tuple[Any, ...]:  # fmt: skip
        where = _windows(x, kernel_shape, auto_pad, ceil_mode, dilations, pads, strides)
        windows = where.of(x, -np.inf)
        chosen = self.choose(windows)
        made = np.take_along_axis(windows, chosen[..., None], -1)[..., 0]
        if len(self.onnx_node.output) == 1:
            return (made,)
        image, channel, *first = np.indices(chosen.shape)
        taps = np.unravel_index(chosen, where.kernel)
        each = zip(first, taps, where.stride, where.dilation, where.before, strict=True)
        inside = [f * s + tap * d - b for f, tap, s, d, b in each]
        if not storage_order:
            return made, np.ravel_multi_index((image, channel, *inside), x.shape, mode="clip")
        plane = np.ravel_multi_index(inside[::-1], tuple(where.size[::-1]), mode="clip")
        return made, (image * x.shape[1] + channel) * where.size.prod() + plane

    def choose(self, windows: Array) -> Array:
        """Which element of each window, [..., elements] -> [...]."""
        return windows.argmax(-1)


POOLS: list[Any] = [AveragePool, LpPool, GlobalLpPool, GlobalMaxPool]
"""What takes the place of onnx's own; MaxPool comes in two forms."""
