"""The source classifier in float64: what gradients are measured against.

onnx's reference evaluator, with the operator put right in which it strays from the specification.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_conv import Conv

from ...runtime.arrays import Array
from ..graph.weights import Detached, array, attach, detach
from ..prepare import expansions
from ..prepare.normalise import upgraded


class LRN(OpRun):
    """Local response normalisation; onnx's own leaves the window's last channel out."""

    def _run(self, x: Any, alpha: float, beta: float, bias: float, size: int) -> tuple[Any]:
        squares = np.pad(x * x, [(0, 0), ((size - 1) // 2, size // 2)] + [(0, 0)] * (x.ndim - 2))
        channels = x.shape[1]
        sums = np.add.reduce([squares[:, i : i + channels] for i in range(size)])
        return ((x / (bias + alpha / size * sums) ** beta).astype(x.dtype),)


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


class MaxPool(OpRun):
    """Maximum pooling; onnx's own strays in SAME_LOWER and ceil_mode, and loops in Python."""

    def _run(
        self, x: Any, auto_pad: Any, ceil_mode: Any, dilations: Any, kernel_shape: Any, pads: Any,
        storage_order: Any, strides: Any,
    ) -> tuple[Any]:  # fmt: skip
        rank, size = len(kernel_shape), np.array(x.shape[2:])
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


class Kept:
    """What the first run rounded off, saturated and masked; later runs keep to it.

    So they are smooth around the first run's input, and equal there: differences see quantisation
    straight through, and cross no kinks.
    """

    def __init__(self) -> None:
        self.parts: dict[str, Any] = {}

    def ops(self) -> list[type[OpRun]]:
        """The operators of quantised models, keeping their roundings here."""
        parts = self.parts

        class QuantizeLinear(OpRun):
            def _run(self, x: Any, scale: Any, zero: Any = None, axis: int = 1, **_: Any) -> Any:
                exact = x / _along(scale, x, axis)
                kind = np.dtype(np.uint8) if zero is None else zero.dtype
                if zero is not None:
                    exact = exact + _along(zero, x, axis)
                name, limits = self.onnx_node.output[0], np.iinfo(kind)
                if name not in parts:
                    rounded = np.clip(np.rint(exact), limits.min, limits.max)
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
                return super()._run(*centred, None, **window)  # type: ignore[no-untyped-call]

        class FirstMaxPool(MaxPool):
            def choose(self, windows: Array) -> Array:  # equal integers are common
                return parts.setdefault(self.onnx_node.output[0], super().choose(windows))

        class Relu(OpRun):
            def _run(self, x: Any) -> Any:
                return (x * parts.setdefault(self.onnx_node.output[0], x > 0),)

        class LeakyRelu(OpRun):
            def _run(self, x: Any, alpha: float = 0.01) -> Any:  # 0 is a common integer
                slope = np.where(x > 0, 1.0, alpha)
                return (x * parts.setdefault(self.onnx_node.output[0], slope),)

        class PRelu(OpRun):
            def _run(self, x: Any, slope: Any) -> Any:
                slope = np.where(x > 0, 1.0, slope)
                return (x * parts.setdefault(self.onnx_node.output[0], slope),)

        FirstMaxPool.__name__ = "MaxPool"
        return [
            Relu, LeakyRelu, PRelu,
            QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear, MatMulInteger, ConvInteger,
            FirstMaxPool,
        ]  # fmt: skip


def _along(parameter: Any, x: Any, axis: int) -> Any:
    """One number, or one per index of an axis, as it broadcasts over x, in float64."""
    values = np.asarray(parameter, np.float64)
    return values.reshape(-1, *[1] * (x.ndim - axis % x.ndim - 1)) if values.ndim else values


class Evaluator:
    """A model computing in float64; ``smooth`` (always, where it is quantised) around an anchor.

    ``kept``: what there is held to the anchor, if not roundings, maxima and ReLUs as they are.
    """

    def __init__(self, source: Detached, smooth: bool = False, kept: Kept | None = None) -> None:
        expanded = attach(upgraded(source.proto), source.weights)
        expansions.expand(expanded)
        model, self._kept = detach(expanded), kept or Kept()
        proto = to_double(model.proto)
        small = [t for t in proto.graph.initializer if t.name not in model.weights]
        del proto.graph.initializer[:]
        proto.graph.initializer.extend(small)
        quantises = any("Quantize" in node.op_type for node in proto.graph.node)
        self.smooth = smooth or kept is not None or quantises
        ops = self._kept.ops() if self.smooth else [MaxPool]
        self._weights = {name: _double(array(t)) for name, t in model.weights.items()}
        self._evaluator = ReferenceEvaluator(proto, new_ops=[LRN, Erf, Gelu, Pad, *ops])

    def run(self, names: list[str] | None, feed: dict[str, Array]) -> list[Array]:
        """The named outputs (None: all) for a feed, as ONNX Runtime's ``run``."""
        outputs: Any = self._evaluator.run(names, self._weights | feed)
        return list(outputs)

    def anchor(self, feed: dict[str, Array]) -> None:
        """Take this input as the one around which the runs that follow are smooth."""
        if self.smooth:
            self._kept.parts.clear()
            self.run(None, feed)


def to_double(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same model computing in float64, for the reference evaluator."""
    floats = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16}
    result = onnx.ModelProto()
    result.CopyFrom(proto)

    def widen(tensor: onnx.TensorProto) -> None:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            return  # the weights are fed instead
        if tensor.data_type in floats:
            array = numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))

    def widen_graph(graph: onnx.GraphProto) -> None:
        for tensor in graph.initializer:
            widen(tensor)
        for node in graph.node:
            widen_node(node)
        del graph.value_info[:]
        for value in (*graph.input, *graph.output):
            if value.type.tensor_type.elem_type in floats:
                value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE

    def widen_node(node: onnx.NodeProto) -> None:
        if node.op_type == "ConstantOfShape" and not node.attribute:
            zero = numpy_helper.from_array(np.zeros(1))
            node.attribute.append(helper.make_attribute("value", zero))
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                widen_graph(attribute.g)
            elif attribute.type == onnx.AttributeProto.TENSOR:
                widen(attribute.t)
            elif node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
                values = np.array(
                    attribute.f if attribute.name == "value_float" else attribute.floats
                )
                attribute.CopyFrom(helper.make_attribute("value", numpy_helper.from_array(values)))
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i in floats:
                attribute.i = onnx.TensorProto.DOUBLE

    widen_graph(result.graph)
    return result


def _double(weights: Array) -> Array:
    return weights.astype(np.float64) if weights.dtype.kind == "f" else weights
