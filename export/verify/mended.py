"""Operators in which onnx's evaluator strays from the specification, rounds to float32 or is lost.

tests/test_reference.py runs every case of the rules in the evaluator and in ONNX Runtime.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_resize import Resize as OnnxResize
from onnx.reference.ops.op_rnn import RNN_14

from ...runtime.arrays import Array


class LRN(OpRun):
    """Local response normalisation; onnx's own leaves the window's last channel out."""

    def _run(self, x: Any, alpha: float, beta: float, bias: float, size: int) -> tuple[Any]:
        squares = np.pad(x * x, [(0, 0), ((size - 1) // 2, size // 2)] + [(0, 0)] * (x.ndim - 2))
        channels = x.shape[1]
        sums = np.add.reduce([squares[:, i : i + channels] for i in range(size)])
        return ((x / (bias + alpha / size * sums) ** beta).astype(x.dtype),)


class LpNormalization(OpRun):
    """x over its p-norm along an axis, 0 where that is 0; onnx's own forgets magnitudes for p 1."""

    def _run(self, x: Any, axis: int | None = -1, p: int | None = 2) -> tuple[Any]:
        along, order = -1 if axis is None else axis, p or 2
        norm = (np.abs(x) ** order).sum(along, keepdims=True) ** (1 / order)
        return (np.divide(x, norm, out=np.zeros_like(x), where=norm != 0),)


class MeanVarianceNormalization(OpRun):
    """(x - mean) / (standard deviation + 1e-9) over axes; onnx's own has a float32 inside."""

    def _run(self, x: Any, axes: Any = None) -> tuple[Any]:
        over = tuple([0, 2, 3] if axes is None else axes)
        spread = x.std(over, keepdims=True) + 1e-9
        return ((x - x.mean(over, keepdims=True)) / spread,)


_erf = np.vectorize(math.erf, otypes=[np.float64])


class Erf(OpRun):
    """The error function in float64; onnx's own rounds to float32."""

    def _run(self, x: Any) -> tuple[Any]:
        return (_erf(x),)


class Gelu(OpRun):
    """x Phi(x), or its tanh approximation, in float64; onnx's own rounds to float32."""

    def _run(self, x: Any, approximate: str | None = None) -> tuple[Any]:
        if approximate == "tanh":
            inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
            return (0.5 * x * (1 + np.tanh(inner)),)
        return (0.5 * x * (1 + _erf(x / math.sqrt(2))),)


class Pad(OpRun):
    """Padding; onnx's own refuses to cut off (negative pads)."""

    def _run(
        self, x: Any, pads: Any, value: Any = None, axes: Any = None, mode: str | None = None
    ) -> tuple[Any]:
        width, cut = [(0, 0)] * x.ndim, [slice(None)] * x.ndim
        given = range(x.ndim) if axes is None else axes
        for axis, (before, after) in zip(given, pads.reshape(2, -1).T, strict=True):
            width[axis] = max(before, 0), max(after, 0)
            cut[axis] = slice(max(-before, 0), x.shape[axis] - max(-after, 0))
        fill = {"constant_values": 0 if value is None else np.asarray(value).item()}
        how: Any = mode or "constant"
        return (np.pad(x[tuple(cut)], width, how, **(fill if how == "constant" else {})),)


class GatherElements(OpRun):
    """Elements by index along an axis; onnx's own wants the other axes as long as the tensor's."""

    def _run(self, x: Any, index: Any, axis: int | None = 0) -> tuple[Any]:
        where: list[Array] = list(np.indices(index.shape))
        where[axis or 0] = index.astype(np.int64)  # the reference widens some integers
        return (x[tuple(where)],)


class Resize(OnnxResize):
    """Resizing; onnx's own loses axes that are counted from the end."""

    def _run(  # type: ignore[override]
        self, x: Any, roi: Any = None, scales: Any = None, sizes: Any = None, axes: Any = None,
        **how: Any,
    ) -> tuple[Any]:  # fmt: skip
        along = None if axes is None else [int(axis) % x.ndim for axis in axes]
        made: tuple[Any] = super()._run(x, roi, scales, sizes, axes=along, **how)
        return made


class AffineGrid(OpRun):
    """Where an affine map leads the centres of pixels; onnx's own rounds to float32."""

    def _run(self, theta: Any, size: Any, align_corners: int | None = 0) -> tuple[Any]:
        lengths = [int(n) for n in size[2:]]
        steps = (np.arange(n) for n in lengths)
        axes = [2 * i / (n - 1) - 1 if align_corners else (2 * i + 1) / n - 1
                for i, n in zip(steps, lengths, strict=True)]  # fmt: skip
        along = np.meshgrid(*axes, indexing="ij")[::-1]  # x comes first
        points = np.stack([*along, np.ones(lengths)], -1)
        grid = np.matmul(points.reshape(-1, points.shape[-1]), theta.swapaxes(1, 2))
        return (grid.reshape(len(theta), *lengths, -1).astype(theta.dtype),)


_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}


class RNN(RNN_14):
    """A recurrent layer; onnx's own knows two activations."""

    def choose_act(self, name: str, alpha: Any, beta: Any) -> Any:
        """The activation of that name."""
        known = _ACTIVATIONS.get(name.lower())
        return known or super().choose_act(name, alpha, beta)  # type: ignore[no-untyped-call]


MENDED: list[Any] = [
    LRN, LpNormalization, MeanVarianceNormalization, Erf, Gelu, Pad, GatherElements, Resize,
    AffineGrid, RNN,
]  # fmt: skip
"""What takes the place of onnx's own."""
