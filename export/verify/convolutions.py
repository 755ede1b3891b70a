"""Convolution in the reference: a matrix product for each element of the kernel.

onnx's own loops in Python over channels and windows (a float64 pass of MobileNet took 16 s), and
its transposed convolution strays where a group has several channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun

from ...runtime.arrays import Array
from .windows import is_same, lengths, split, window


def _placed(x: Array, wanted: Array, offset: Array) -> Array:
    """A map [..., axes] of those lengths, zero but for x, which begins at an offset, or before."""
    size = np.array(x.shape[x.ndim - len(wanted) :])
    if not offset.any() and (size == wanted).all():
        return x
    made = np.zeros((*x.shape[: x.ndim - len(wanted)], *wanted), x.dtype)
    low, high = np.maximum(offset, 0), np.minimum(offset + size, wanted)
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
        size, groups = np.array(x.shape[2:]), group or 1
        moving = window(w.shape[2:], strides, dilations)
        before, after = moving.padding(size, pads, auto_pad)
        padded = _placed(x, size + before + after, before)
        count = (size + before + after - moving.reach) // moving.stride + 1
        padded = padded.reshape(x.shape[0], groups, -1, *padded.shape[2:])
        matrices = _matrices(w.reshape(groups, -1, *w.shape[1:]))
        made = np.zeros((x.shape[0], groups, matrices.shape[2], *count), x.dtype)
        for number, where in moving.taps(count):
            made += _product(matrices[number], padded[where])
        return (_with_bias(made.reshape(x.shape[0], -1, *count), b),)


class ConvTranspose(OpRun):
    """Transposed convolution, in the precision of its input."""

    def _run(
        self, x: Any, w: Any, b: Any = None, auto_pad: str | None = None, dilations: Any = None,
        group: int | None = 1, kernel_shape: Any = None, output_padding: Any = None,
        output_shape: Any = None, pads: Any = None, strides: Any = None,
    ) -> tuple[Any]:  # fmt: skip
        size, groups = np.array(x.shape[2:]), group or 1
        moving = window(w.shape[2:], strides, dilations)
        full = (size - 1) * moving.stride + moving.reach + lengths(output_padding, len(size), 0)
        before, after = lengths(pads, 2 * len(size), 0).reshape(2, -1)
        wanted = full - before - after
        if output_shape is not None:
            wanted = np.array(output_shape[-len(size) :])
        elif is_same(auto_pad):
            wanted = size * moving.stride
        if output_shape is not None or is_same(auto_pad):  # what is given as padding does not count
            before, _ = split(full - wanted, auto_pad)
        grouped = x.reshape(x.shape[0], groups, -1, *size)
        matrices = _matrices(w.reshape(groups, -1, *w.shape[1:])).swapaxes(-1, -2)
        made = np.zeros((x.shape[0], groups, matrices.shape[2], *full), x.dtype)
        for number, where in moving.taps(size):
            made[where] += _product(matrices[number], grouped)
        made = made.reshape(x.shape[0], -1, *full)
        return (_with_bias(_placed(made, wanted, -before), b),)


def _matrices(weights: Array) -> Array:
    """[groups, a, b, ...kernel] as [elements of the kernel, groups, a, b]."""
    flat = weights.reshape(*weights.shape[:3], -1)
    return np.ascontiguousarray(np.moveaxis(flat, -1, 0))


def _with_bias(made: Array, bias: Array | None) -> Array:
    return made if bias is None else made + bias.reshape(-1, *[1] * (made.ndim - 2))
