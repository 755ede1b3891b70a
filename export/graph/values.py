"""Facts about the forward graph: attributes, constants, shapes, types."""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any, TypeAlias, cast

import numpy as np
import onnx_ir as ir

from ...runtime.errors import ModelError

Operand: TypeAlias = ir.Value | float | Sequence[int] | np.ndarray[Any, Any] | None


Shape: TypeAlias = tuple[int | None, ...]


BATCH = "N"
"""Name of the dimension of the batch."""
FLOATS = frozenset(
    {ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.BFLOAT16}
)


HALF, EXACT = frozenset({ir.DataType.FLOAT16, ir.DataType.BFLOAT16}), ir.DataType.FLOAT
"""Types that engines compute in float32 and round to between some nodes only, and what comparisons
for equality are made in: both sides from one copy of the tensor, whatever the engine rounds."""


QUANTISED = frozenset(
    {ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT16, ir.DataType.UINT16, ir.DataType.INT32}
)


def args(node: ir.Node) -> list[ir.Value]:
    """The inputs of a node whose operator requires them (an absent optional one is None)."""
    return cast("list[ir.Value]", list(node.inputs))


def attribute(node: ir.Node, name: str, default: Any = None) -> Any:
    """The value of a node's attribute, or ``default`` where it is not given."""
    found = node.attributes.get(name)
    return default if found is None else found.value


def seen_as(
    node: ir.Node, inputs: Sequence[ir.Value | None], outputs: Sequence[ir.Value]
) -> ir.Node:
    """A node as a rule sees it, on other tensors; it is in no graph and uses nothing."""
    made = types.SimpleNamespace(op_type=node.op_type, domain=node.domain, name=node.name)
    made.attributes, made.inputs, made.outputs = node.attributes, list(inputs), list(outputs)
    return cast("ir.Node", made)


def constant(value: ir.Value | None) -> np.ndarray[Any, Any] | None:
    """The value of an initializer as an array; None where it is not constant (or absent)."""
    if value is None or value.const_value is None:
        return None
    return cast("np.ndarray[Any, Any]", value.const_value.numpy())


def shape_of(value: ir.Value) -> Shape:
    """A forward tensor's shape; None for a dimension that depends on the batch.

    Raises:
        ModelError: the rank is unknown.
    """
    if value.shape is None:
        raise ModelError(
            f"the shape of {value.name!r} cannot be inferred.",
            "give the model static height and width (--size), or simplify it with onnxsim first.",
        )
    return tuple(d if isinstance(d, int) else None for d in value.shape)


def static(value: ir.Value, start: int = 0) -> tuple[int, ...]:
    """The shape from axis ``start`` on, all of it known.

    Raises:
        ModelError: a dimension there depends on the batch or is unknown.
    """
    dims = shape_of(value)[start:]
    if any(d is None for d in dims):
        raise ModelError(
            f"{value.name!r} has shape {list(shape_of(value))}: only the batch may be dynamic.",
            "pin the image with --size HEIGHTxWIDTH.",
        )
    return cast("tuple[int, ...]", dims)


def length(value: ir.Value, axis: int) -> int:
    """The length of one axis.

    Raises:
        ModelError: it depends on the batch or is unknown.
    """
    found = shape_of(value)[axis]
    if found is None:
        raise ModelError(
            f"axis {axis} of {value.name!r}, {list(shape_of(value))}, has no fixed length.",
            "pin the image with --size HEIGHTxWIDTH, or export the classifier with a batch of one "
            "image: cutting up the batch is not supported.",
        )
    return found


def not_constant(node: ir.Node, what: str) -> ModelError:
    """The error for an input that a rule must know at export."""
    return ModelError(
        f"{node.op_type} {node.name!r}: {what} must be constant to be differentiated.",
        "pin the image with --size HEIGHTxWIDTH, so that shapes become constants.",
    )
