"""Which axis of an image holds its channels, and how many there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import onnx_ir as ir

from ...runtime.errors import OptionError
from ..graph.values import args, attribute

Dims: TypeAlias = Sequence[Any]
_USUAL = (1, 3)
_AS_IT_IS = (
    "Cast", "Mul", "Div", "Add", "Sub", "Identity", "Clip", "Pad", "Relu", "Dropout",
    "QuantizeLinear", "DequantizeLinear", "Neg", "Slice", "Resize", "Min", "Max",
)  # fmt: skip
_WEIGHT = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3, "FusedConv": 1}


def is_nhwc(dims: Dims) -> bool:
    """Whether an image [C, H, W] or [H, W, C] has its channels last, as TensorFlow's do."""
    return dims[0] not in _USUAL and dims[2] in _USUAL


def layout(image: ir.Value, channels: int | None) -> tuple[bool, int]:
    """How an image [N, C, H, W] or [N, H, W, C] lies in memory.

    Decided by what was asked for, by lengths of 1 and 3, by the first convolution, and else by the
    shortest axis; where nothing says more, it has 3 channels, and they are first.

    Args:
        image: the model's input, of rank 4.
        channels: as asked for.

    Returns:
        Whether its channels are the last axis, and how many.

    Raises:
        OptionError: it has another number of channels than was asked for.
    """
    dims = list(image.shape or [None] * 4)[1:]
    evidence = _convolved(image)
    last = _channels_last(dims, channels, evidence)
    own = dims[2] if last else dims[0]
    if not isinstance(own, int):
        own = evidence[1] if evidence is not None and evidence[0] == last else None
    if channels is not None and own not in (None, channels):
        raise OptionError(
            f"the model takes images of {own} channels, not {channels}.",
            f"leave --channels out, or give --channels {own}.",
        )
    return last, channels or own or 3


def _channels_last(dims: Dims, channels: int | None, evidence: tuple[bool, int] | None) -> bool:
    if channels is not None and channels in (dims[0], dims[2]):
        return bool(dims[0] != channels)
    if dims[0] in _USUAL or dims[2] in _USUAL:
        return is_nhwc(dims)
    if evidence is not None:
        return evidence[0]
    fixed = [isinstance(d, int) for d in dims]
    return bool(fixed[0] and fixed[2] and dims[2] < dims[0])


def _convolved(image: ir.Value) -> tuple[bool, int] | None:
    """Whether the first convolution takes the image's last axis as channels, and how many."""
    waiting: list[tuple[ir.Value, tuple[int, ...]]] = [(image, (0, 1, 2, 3))]
    seen = {image}
    while waiting and len(seen) < 64:
        value, axes = waiting.pop(0)
        for node in value.consumers():
            found = _channels_of(node)
            if found is not None and args(node)[0] is value and axes[1] in (1, 3):
                return axes[1] == 3, found
            turned = axes
            if node.op_type == "Transpose":
                order = attribute(node, "perm", [3, 2, 1, 0])
                turned = tuple(axes[i] for i in order)
            elif node.op_type not in _AS_IT_IS:
                continue
            for y in node.outputs[:1]:
                if y not in seen:
                    seen.add(y)
                    waiting.append((y, turned))
    return None


def _channels_of(node: ir.Node) -> int | None:
    """How many channels a convolution or a normalisation takes; None for others."""
    if node.op_type == "BatchNormalization":
        shape = _shape(args(node)[1])
        return shape[0] if shape else None
    if node.op_type not in _WEIGHT:
        return None
    shape = _shape(args(node)[_WEIGHT[node.op_type]])
    return shape[1] * attribute(node, "group", 1) if shape and len(shape) == 4 else None


def _shape(weight: ir.Value) -> tuple[int, ...] | None:
    """A weight's shape, through what makes it of an initializer."""
    for _ in range(4):
        if weight.const_value is not None:
            return tuple(int(d) for d in weight.const_value.shape)  # type: ignore[arg-type]
        node = weight.producer()
        if node is None:
            return None
        if node.op_type == "Constant":
            tensor = attribute(node, "value")
            return None if tensor is None else tuple(int(d) for d in tensor.shape)
        if node.op_type not in ("DequantizeLinear", "QuantizeLinear", "Identity", "Cast"):
            return None
        weight = args(node)[0]
    return None


__all__ = ["is_nhwc", "layout"]
