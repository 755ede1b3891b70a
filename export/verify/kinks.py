"""What the reference holds while it takes differences: masks, maxima and roundings around an image.

A step over a kink measures no derivative, and float32 stands on the other side of some kinks than
float64. So the reference keeps to the side on which the file under test was: what is left between
the two is rounding, and a wrong gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx.reference.op_run import OpRun

from ...runtime.arrays import Array
from .convolutions import Conv
from .pools import MaxPool

HELD = frozenset({
    "Relu", "LeakyRelu", "PRelu", "ThresholdedRelu", "Clip", "HardSigmoid", "HardSwish", "Abs",
    "MaxPool", "QuantizeLinear", "ReduceMax", "ReduceMin",
})  # fmt: skip
"""Operators that are held to the side of their kinks that the file was on."""

NEAR = 0.01  # of a quantisation step: as far as float32 is off where it rounds to another one


def inputs_of_kinks(made: onnx.ModelProto, source: onnx.ModelProto) -> dict[str, str]:
    """By the output of each node to hold: the tensor that it reads, in the file under test."""
    own = {node.output[0]: node.op_type for node in source.graph.node if node.op_type in HELD}
    return {
        node.output[0]: node.input[0]
        for node in made.graph.node
        if node.output and own.get(node.output[0]) == node.op_type
    }


class Kept:
    """What the first run rounded off, saturated and masked; later runs keep to it.

    So they are smooth around the first run's input, and equal there: differences see quantisation
    straight through, and cross no kinks.

    Attributes:
        parts: what is kept, by the output of its node.
        seen: what the file under test had as the input of nodes, by their output; where it has
            something, that decides, and not the reference's own input.
    """

    def __init__(self) -> None:
        self.parts: dict[str, Any] = {}
        self.seen: Mapping[str, Array] = {}

    def deciding(self, name: str, x: Array) -> Array:
        """What decides on which side of its kinks a node is: the file's input, or its own."""
        seen = self.seen.get(name)
        if seen is None or not seen.size or x.size % seen.size:
            return x
        times = x.size // seen.size
        if times > 1 and seen.ndim == x.ndim:  # of a batch of one image, and several times that
            seen = np.concatenate([seen] * times)
        return seen.astype(x.dtype) if seen.shape == x.shape else x

    def ops(self) -> list[type[OpRun]]:
        """The operators of `HELD`, and those of quantised models."""
        sloped = [self._sloped(name, side) for name, side in _SLOPES.items()]
        extrema = [self._extremum("ReduceMax", np.max), self._extremum("ReduceMin", np.min)]
        return [*sloped, *extrema, *self._others()]

    def _sloped(self, op_type: str, side: Any) -> type[OpRun]:
        """An operator that is a line on each side of its kinks: slope * x + offset."""

        def run(op: Any, x: Any, *others: Any, **attributes: Any) -> tuple[Any]:
            name = op.onnx_node.output[0]
            if name not in self.parts:
                self.parts[name] = side(self.deciding(name, x), *others, **attributes)
            slope, offset = self.parts[name]
            return (slope * x + offset,)

        return type(op_type, (OpRun,), {"_run": run})

    def _extremum(self, op_type: str, best: Any) -> type[OpRun]:
        """The mean of the elements that are the largest, or the smallest: equal ones share."""

        def run(
            op: Any, x: Any, axes: Any = None, keepdims: int = 1, noop_with_empty_axes: int = 0
        ) -> tuple[Any]:
            none = axes is None or not np.size(axes)
            if none and noop_with_empty_axes:
                return (x,)
            name, along = op.onnx_node.output[0], None if none else tuple(np.ravel(axes))
            if name not in self.parts:
                decides = self.deciding(name, x)
                hits = (decides == best(decides, axis=along, keepdims=True)).astype(x.dtype)
                self.parts[name] = hits / hits.sum(axis=along, keepdims=True)
            return ((self.parts[name] * x).sum(axis=along, keepdims=bool(keepdims)),)

        return type(op_type, (OpRun,), {"_run": run})

    def _others(self) -> list[type[OpRun]]:
        parts, deciding = self.parts, self.deciding

        class HardSwish(OpRun):
            def _run(self, x: Any) -> Any:
                name = self.onnx_node.output[0]
                if name not in parts:
                    parts[name] = _clip(deciding(name, x) + 3, 0, 6)
                slope, offset = parts[name]
                return (x * (slope * (x + 3) + offset) / 6,)

        class QuantizeLinear(OpRun):
            def _run(self, x: Any, scale: Any, zero: Any = None, axis: int = 1, **_: Any) -> Any:
                kind = np.dtype(np.uint8) if zero is None else zero.dtype
                name, limits = self.onnx_node.output[0], np.iinfo(kind)
                by, offset = _along(scale, x, axis), 0.0
                if zero is not None:
                    offset = _along(zero, x, axis)
                exact = x / by + offset
                if name not in parts:
                    # To the nearest in float32, as the file under test has it; but for what it
                    # computes wrongly.
                    decides = deciding(name, x)
                    decides = np.where(np.abs(decides - x) < NEAR * np.abs(by), decides, x)
                    steps = np.rint(np.float32(decides) / np.float32(by)).astype(np.float64)
                    rounded = np.clip(steps + offset, limits.min, limits.max)
                    saturated = (rounded == limits.min) | (rounded == limits.max)
                    parts[name] = np.where(saturated, rounded, rounded - exact), saturated
                rest, saturated = parts[name]
                return (np.where(saturated, rest, exact + rest),)

        class DequantizeLinear(OpRun):
            def _run(self, x: Any, scale: Any, zero: Any = None, axis: int = 1, **_: Any) -> Any:
                offset = 0.0 if zero is None else _along(zero, x, axis)
                return ((x - offset) * _along(scale, x, axis),)

        class DynamicQuantizeLinear(OpRun):
            def _run(self, x: Any) -> Any:
                name = self.onnx_node.output[0]
                if name not in parts:
                    low, high = min(x.min(), 0.0), max(x.max(), 0.0)
                    scale = (high - low) / 255 or 1.0
                    zero = np.clip(np.rint(-low / scale), 0, 255)
                    parts[name] = np.rint(x / scale) - x / scale, np.array([scale, zero])
                rest, (scale, zero) = parts[name]
                return x / scale + rest + zero, np.float64(scale), np.float64(zero)

        class MatMulInteger(OpRun):
            def _run(self, a: Any, b: Any, a_zero: Any = 0, b_zero: Any = 0) -> Any:
                a_zero = np.asarray(a_zero, np.float64)
                a_zero = a_zero[:, None] if a_zero.ndim == 1 else a_zero
                return (np.matmul(a - a_zero, b - np.asarray(b_zero, np.float64)),)

        class ConvInteger(Conv):
            def _run(  # type: ignore[override]
                self, x: Any, w: Any, x_zero: Any = 0, w_zero: Any = 0, **window: Any
            ) -> Any:
                centred = x - np.asarray(x_zero, np.float64), w - _along(w_zero, w, 0)
                return super()._run(*centred, None, **window)

        class FirstMaxPool(MaxPool):
            def _run(self, x: Any, **window: Any) -> Any:  # type: ignore[override]
                name = self.onnx_node.output[0]
                if name not in parts:
                    super()._run(deciding(name, x), **window)
                return super()._run(x, **window)

            def choose(self, windows: Array) -> Array:  # equal integers are common
                return parts.setdefault(self.onnx_node.output[0], super().choose(windows))

        FirstMaxPool.__name__ = "MaxPool"
        return [
            HardSwish, QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear, MatMulInteger,
            ConvInteger, FirstMaxPool,
        ]  # fmt: skip


def _leaky(x: Array, slope: Any = 0.01) -> tuple[Array, float]:
    return np.where(x > 0, 1.0, slope), 0.0  # 0 is a common integer


def _thresholded(x: Array, alpha: float = 1.0) -> tuple[Array, float]:
    return np.where(x > alpha, 1.0, 0.0), 0.0


def _clip(x: Array, low: Any = None, high: Any = None) -> tuple[Array, Array]:
    """A value on a bound passes its derivative, as in torch.clamp; not from 0 on, as in ReLU6."""
    low, high = (-np.inf if low is None else low), (np.inf if high is None else high)
    if np.size(low) == 1 and np.all(low == 0):  # a scalar, or [1] as some converters write it
        below, above = x <= low, x >= high
    else:
        below, above = x < low, x > high
    offset = np.where(below, low, np.where(above, high, 0.0))
    return np.where(below | above, 0.0, 1.0), offset


def _hard_sigmoid(x: Array, alpha: float = 0.2, beta: float = 0.5) -> tuple[Array, Array]:
    inside, offset = _clip(alpha * x + beta, 0, 1)
    return alpha * inside, offset + beta * inside


_SLOPES: dict[str, Any] = {
    "Relu": lambda x: ((x > 0).astype(np.float64), 0.0),
    "LeakyRelu": lambda x, alpha=0.01: _leaky(x, alpha),
    "PRelu": _leaky,
    "ThresholdedRelu": _thresholded,
    "Clip": _clip,
    "HardSigmoid": _hard_sigmoid,
    "Abs": lambda x: (np.sign(x), 0.0),
}


def _along(parameter: Any, x: Any, axis: int) -> Any:
    """One number, or one per index of an axis, as it broadcasts over x, in float64."""
    values = np.asarray(parameter, np.float64)
    return values.reshape(-1, *[1] * (x.ndim - axis % x.ndim - 1)) if values.ndim else values
