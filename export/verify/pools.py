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
from .windows import Window, is_same, window


@dataclasses.dataclass(frozen=True)
class _Windows:
    """Where the windows of a pool lie, over a map [N, C, ...axes].

    Attributes:
        size: lengths of the map, int64 [axes], as the others.
        moving: the window.
        before, after: padding.
        count: windows along each axis.
    """

    size: Array
    moving: Window
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
        end = (self.count - 1) * self.moving.stride + self.moving.reach
        missing = np.maximum(end - self.size - self.before, 0)
        padding = np.minimum(self.after, missing)
        around = [(0, 0), (0, 0), *zip(self.before, padding, strict=True)]
        padded = np.pad(x, around, constant_values=fill if within is None else within)
        beyond = [(0, 0), (0, 0), *((0, n) for n in missing - padding)]
        padded = np.pad(padded, beyond, constant_values=fill)
        axes = tuple(range(2, x.ndim))
        reach = tuple(self.moving.reach)  # a view, which is twice as fast as a part for each tap
        windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axes)
        last = (self.count - 1) * self.moving.stride + 1
        steps = [slice(None, e, s) for e, s in zip(last, self.moving.stride, strict=True)]
        taps = [slice(None, None, d) for d in self.moving.dilation]
        windows = windows[(slice(None), slice(None), *steps, *taps)]
        return windows.reshape(*windows.shape[: x.ndim], -1)


def _windows(
    x: Array, kernel_shape: Sequence[int], auto_pad: str | None, ceil_mode: int | None,
    dilations: Any, pads: Any, strides: Any,
) -> _Windows:  # fmt: skip
    size, moving = np.array(x.shape[2:]), window(kernel_shape, strides, dilations)
    before, after = moving.padding(size, pads, auto_pad)
    room = size + before + after - moving.reach
    count = room // moving.stride + 1
    if ceil_mode:  # a window must begin inside the image or the padding before it
        count = -(-room // moving.stride) + 1
        count -= (count - 1) * moving.stride >= size + before
    all_of_it = size + before + after
    whole = (moving.kernel >= all_of_it).all() and (moving.dilation == 1).all()
    if whole and not is_same(auto_pad):
        moving, count = dataclasses.replace(moving, kernel=all_of_it), np.ones_like(count)
    return _Windows(size, moving, before, after, count)


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
        moving, taps = where.moving, np.unravel_index(chosen, where.moving.kernel)
        each = zip(first, taps, moving.stride, moving.dilation, where.before, strict=True)
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
