"""Fourier transforms: sums with constant factors, so the gradient is a product with a matrix.

In the networks that have them (GFNet, FNet, AFNO; spectrograms) an axis is short, and a matrix
runs on every engine.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from ...runtime.errors import ModelError
from ..autodiff.adjoints import scatter
from ..autodiff.ops import Ops
from ..autodiff.registry import vjp
from ..graph.values import args, attribute, constant, length, not_constant, shape_of

Matrix = np.ndarray[Any, Any]


@vjp("DFT")
def dft(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """Y = x M along an axis, M of the cosines and sines 2 pi j k / N: dx = g M^T.

    Complex numbers are the last axis, [real] or [real, imaginary]; N is ``dft_length``, to which
    the signal is cut or filled up with zeros.  https://onnx.ai/onnx/operators/onnx__DFT.html
    """
    size, place = (*args(node)[1:], None, None)[:2]
    shape = shape_of(args(node)[0])
    rank, where = len(shape), -2 if place is None else _number(node, place, "the axis")
    axis, parts = where % rank, length(args(node)[0], rank - 1)
    if axis == rank - 1:
        raise ModelError(
            f"DFT {node.name!r} is along the axis of real and imaginary parts.",
            "name an axis of the signal; check the model with onnx.checker.",
        )
    n = length(args(node)[0], axis)
    inverse, half = bool(attribute(node, "inverse", 0)), bool(attribute(node, "onesided", 0))
    whole = 2 * (n - 1) if inverse and half else n
    if size is not None:
        whole = _number(node, size, "the length")
    matrix = (
        _half_inverse(n, whole) if inverse and half else _matrix(n, whole, parts, inverse, half)
    )
    order = list(range(rank + 1))
    order.insert(rank - 1, order.pop(axis + 1))
    back = [order.index(i) for i in range(rank + 1)]
    turned = order != back or order != list(range(rank + 1))
    rows = op.Transpose(g, perm=order) if turned else g
    rows = op.MatMul(op.Reshape(rows, [*[0] * (rank - 1), -1]), matrix.T)
    rows = op.Reshape(rows, [*[0] * (rank - 1), n, parts])
    return op.Transpose(rows, perm=back) if turned else rows


@vjp("STFT")
def stft(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
    """Frames of the signal, times the window, times M as for DFT: dx adds the frames up again.

    https://onnx.ai/onnx/operators/onnx__STFT.html
    """
    step, window, size = (*args(node)[1:], None, None)[:3]
    shape, (_, frames, bins, _) = shape_of(args(node)[0]), shape_of(node.outputs[0])
    n, parts = length(args(node)[0], 1), shape[2]
    hop = _number(node, step, "the step")
    if size is not None:
        width = _number(node, size, "the length of a frame")
    else:
        width = n if window is None else length(window, 0)
    if frames is None or bins is None or parts is None:
        raise not_constant(node, "the signal's shape")
    matrix: Any = _matrix(width, width, parts, inverse=False, half=bins != width).T
    if window is not None:
        values = constant(window)
        if values is None:
            raise not_constant(node, "the window")
        matrix = matrix * np.repeat(values.astype(np.float64), parts)
    rows = op.MatMul(op.Reshape(g, [0, 0, 0, -1]), matrix)  # [K, N, frames, width parts]
    starts = hop * np.arange(frames)[:, None] + np.arange(width)
    rows = op.Reshape(rows, [0, 0, frames * width, parts])
    return scatter(op, rows, starts.ravel().tolist(), n, 1, [shape[0], n, parts])


def _number(node: ir.Node, value: ir.Value | None, what: str) -> int:
    found = constant(value)
    if found is None or found.size != 1:
        raise not_constant(node, what)
    return int(found.reshape(()))


def _angles(n: int, m: int, whole: int) -> Matrix:
    """2 pi j k / whole for j below n and k below m, its turns taken off first."""
    return np.outer(np.arange(n), np.arange(m)) % whole * (2 * np.pi / whole)


def _matrix(n: int, whole: int, parts: int, inverse: bool, half: bool) -> Matrix:
    """M [n parts, m 2] of a transform with complex results; zero where the signal is cut off."""
    m = whole // 2 + 1 if half else whole
    angles = _angles(n, m, whole)
    c, s = np.cos(angles), np.sin(angles) * (-1 if inverse else 1)
    rows = [np.stack([c, -s], -1), np.stack([s, c], -1)][:parts]
    matrix = np.stack(rows, 1)  # [n, parts, m, 2]
    matrix[whole:] = 0
    return matrix.reshape(n * parts, 2 * m) / (whole if inverse else 1)


def _half_inverse(n: int, whole: int) -> Matrix:
    """M [n 2, whole] of a half spectrum to a real signal: the other half is its conjugate."""
    angles = _angles(n, whole, whole)
    bins = np.arange(n)
    weight = np.where((bins == 0) | (2 * bins == whole), 1.0, 2.0) * (bins <= whole // 2)
    both = np.stack([np.cos(angles), -np.sin(angles)], 1) * weight[:, None, None]
    return both.reshape(2 * n, whole) / whole
