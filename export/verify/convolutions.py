"""Convolution in the reference: a matrix product for each element of the kernel.

onnx's own loops in Python over channels and windows (a float64 pass of MobileNet took 16 s), and
its transposed convolution strays where a group has several channels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun

from ...runtime.arrays import Array


@dataclasses.dataclass(frozen=True)
class _Window:
    """A kernel and how it moves, int64 [axes] each; the padding's sign is that of the convolution.

    Attributes:
        kernel: lengths.
        stride, dilation: steps of the window, and within it.
        before, after: padding.
    """

    kernel: Array
    stride: Array
    dilation: Array
    before: Array
    after: Array

    @property
    def reach(self) -> Array:
        """From a window's first element to its last."""
        return self.dilation * (self.kernel - 1) + 1

    def taps(self, count: Array) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """The elements of the kernel, and where each meets the longer map in ``count`` windows."""
        for number, tap in enumerate(np.ndindex(*self.kernel)):
            first = np.array(tap) * self.dilation
            end = first + (count - 1) * self.stride + 1
            yield number, (..., *map(slice, first, end, self.stride))


def _split(total: Array, auto_pad: str | None) -> tuple[Array, Array]:
    """Padding before and after; the odd one is after in SAME_UPPER."""
    before = total // 2 if auto_pad == "SAME_UPPER" else total - total // 2
    return before, total - before


def _lengths(given: Sequence[int] | None, rank: int, usual: int = 1) -> Array:
    return np.array([usual] * rank if given is None else given, np.int64)


def _placed(x: Array, lengths: Array, offset: Array) -> Array:
    """A map [..., axes] of those lengths, zero but for x, which begins at an offset, or before."""
    size = np.array(x.shape[x.ndim - len(lengths) :])
    if not offset.any() and (size == lengths).all():
        return x
    made = np.zeros((*x.shape[: x.ndim - len(lengths)], *lengths), x.dtype)
    low, high = np.maximum(offset, 0), np.minimum(offset + size, lengths)
    if (high > low).all():
        target: Any = (..., *map(slice, low, high))
        origin: Any = (..., *map(slice, low - offset, high - offset))
        made[target] = x[origin]
    return made


def _product(weights: Array, x: Array) -> Array:
    """[groups, out, in] by [N, groups, in, ...axes]; one channel for each group is no matrix."""
    if weights.shape[1:] == (1, 1):
        return weights.reshape(-1, *[1] * (x.ndim - 2)) * x
    made = np.matmul(weights, x.reshape(*x.shape[:3], -1))
    return made.reshape(*made.shape[:3], *x.shape[3:])


class Conv(OpRun):
    """Convolution, in the precision of its input."""

    def _run(
        self, x: Any, w: Any, b: Any = None, auto_pad: str | None = None, dilations: Any = None,
        group: int | None = 1, kernel_shape: Any = None, pads: Any = None, strides: Any = None,
    ) -> tuple[Any]:  # fmt: skip
        rank, groups = x.ndim - 2, group or 1
        size, kernel = np.array(x.shape[2:]), np.array(w.shape[2:])
        before, after = _lengths(pads, 2 * rank, 0).reshape(2, rank)
        window = _Window(kernel, _lengths(strides, rank), _lengths(dilations, rank), before, after)
        if (auto_pad or "NOTSET") != "NOTSET":
            total = np.zeros(rank, np.int64)
            if auto_pad != "VALID":
                count = -(-size // window.stride)
                total = np.maximum((count - 1) * window.stride + window.reach - size, 0)
            before, after = _split(total, auto_pad)
        padded = _placed(x, size + before + after, before)
        count = (size + before + after - window.reach) // window.stride + 1
        padded = padded.reshape(x.shape[0], groups, -1, *padded.shape[2:])
        matrices = _matrices(w.reshape(groups, -1, *w.shape[1:]))
        made = np.zeros((x.shape[0], groups, matrices.shape[2], *count), x.dtype)
        for number, where in window.taps(count):
            made += _product(matrices[number], padded[where])
        return (_with_bias(made.reshape(x.shape[0], -1, *count), b),)


class ConvTranspose(OpRun):
    """Transposed convolution, in the precision of its input."""

    def _run(
        self, x: Any, w: Any, b: Any = None, auto_pad: str | None = None, dilations: Any = None,
        group: int | None = 1, kernel_shape: Any = None, output_padding: Any = None,
        output_shape: Any = None, pads: Any = None, strides: Any = None,
    ) -> tuple[Any]:  # fmt: skip
        rank, groups = x.ndim - 2, group or 1
        size, kernel = np.array(x.shape[2:]), np.array(w.shape[2:])
        before, after = _lengths(pads, 2 * rank, 0).reshape(2, rank)
        window = _Window(kernel, _lengths(strides, rank), _lengths(dilations, rank), before, after)
        full = (size - 1) * window.stride + window.reach + _lengths(output_padding, rank, 0)
        if output_shape is not None:
            lengths = np.array(output_shape[-rank:])
            if auto_pad or pads is None:
                before, _ = _split(full - lengths, auto_pad)
        elif (auto_pad or "NOTSET").startswith("SAME"):
            lengths = size * window.stride
            before, _ = _split(full - lengths, auto_pad)
        else:
            lengths = full - before - after
        grouped = x.reshape(x.shape[0], groups, -1, *size)
        matrices = _matrices(w.reshape(groups, -1, *w.shape[1:])).swapaxes(-1, -2)
        made = np.zeros((x.shape[0], groups, matrices.shape[2], *full), x.dtype)
        for number, where in window.taps(size):
            made[where] += _product(matrices[number], grouped)
        made = made.reshape(x.shape[0], -1, *full)
        return (_with_bias(_placed(made, lengths, -before), b),)


def _matrices(weights: Array) -> Array:
    """[groups, a, b, ...kernel] as [elements of the kernel, groups, a, b]."""
    flat = weights.reshape(*weights.shape[:3], -1)
    return np.ascontiguousarray(np.moveaxis(flat, -1, 0))


def _with_bias(made: Array, bias: Array | None) -> Array:
    return made if bias is None else made + bias.reshape(-1, *[1] * (made.ndim - 2))
