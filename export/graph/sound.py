"""What an ONNX file says of its tensors, checked before anything stands on it.

onnx's own checker looks at no sizes: a weight of eight bytes may say that it has 2**60 numbers.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
from onnx import numpy_helper

from ...runtime.errors import BacklitError, ModelError
from ...runtime.text import one_line
from .protos import graphs

MOST_DIMENSIONS = 32


def checked(model: Path | onnx.ModelProto) -> Exception | None:
    """What onnx's checker has against a file or a model as it is."""
    try:
        onnx.checker.check_model(model)
    except Exception as error:
        return error
    return None


def unreadable(where: Any, why: object) -> ModelError:
    """The error for a file or model that is damaged."""
    words = one_line(" ".join(str(getattr(why, "__cause__", None) or why).split()))
    return ModelError(
        f"{where} is not a readable ONNX model: {words[:200] or type(why).__name__}",
        "check that the file is complete and really ONNX (not a .pt, a link page, a part).",
    )


@contextlib.contextmanager
def readable(where: Any, problem: Exception | None = None) -> Iterator[None]:
    """What goes wrong in the block is a fault of the model's.

    Args:
        where: the file, for the error.
        problem: what onnx's checker has against it, which says it best.

    Raises:
        ModelError: instead of any other exception.
    """
    try:
        yield
    except (BacklitError, MemoryError):
        raise
    except Exception as error:  # of onnx, onnx-ir, protobuf and NumPy: of many types
        raise unreadable(where, problem or error) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """onnx-ir and onnxscript say nothing below an error for a while: nobody can change it."""
    loggers = [logging.getLogger(name) for name in ("onnx_ir", "onnxscript")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def unsound(proto: onnx.ModelProto) -> str | None:
    """The first tensor or attribute of a model that cannot be right, in words; None: all may be.

    Args:
        proto: as it was read; its external data may be elsewhere, and is not looked at.
    """
    for node in _nodes(proto):
        for attribute in node.attribute:
            if not attribute.name or attribute.type == onnx.AttributeProto.UNDEFINED:
                return f"an attribute of {node.op_type} {node.name!r} has no name or no type"
    for tensor in _tensors(proto):
        if (wrong := _wrong(tensor)) is not None:
            return f"the tensor {tensor.name!r} {wrong}"
    return None


def _wrong(tensor: onnx.TensorProto) -> str | None:
    try:
        kind = ir.DataType(tensor.data_type)
    except ValueError:
        kind = ir.DataType.UNDEFINED
    if kind == ir.DataType.UNDEFINED:
        return f"has no type that there is ({tensor.data_type})"
    dims = list(tensor.dims)
    if len(dims) > MOST_DIMENSIONS or any(dim < 0 for dim in dims):
        return f"cannot be of the shape {dims[:MOST_DIMENSIONS]}"
    count = math.prod(dims)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return None
    if tensor.HasField("raw_data"):
        wanted = -(-count * kind.bitwidth // 8) if kind != ir.DataType.STRING else -1
        if len(tensor.raw_data) != wanted:
            return f"has {len(tensor.raw_data)} bytes, which is not what {dims} needs"
        return None
    if count > _given(tensor) * 2:  # numbers of four bits lie two in a field
        return f"has {_given(tensor)} values, which are too few for {dims}"
    try:
        numpy_helper.to_array(tensor)
    except Exception as error:  # of many types
        return f"cannot be read ({error})"
    return None


def _given(tensor: onnx.TensorProto) -> int:
    fields = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")
    return max(len(getattr(tensor, field)) for field in fields)


def nbytes(tensor: onnx.TensorProto) -> int:
    """How many bytes the values of a sound tensor take outside of the file."""
    return -(-math.prod(tensor.dims) * ir.DataType(tensor.data_type).bitwidth // 8)


def _nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    for part in graphs(proto.graph):
        yield from part.node
    for function in proto.functions:
        for node in function.node:
            yield from _within(node)


def _within(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    yield node
    for attribute in node.attribute:
        for part in (attribute.g, *attribute.graphs):
            for inner in part.node:
                yield from _within(inner)


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for part in graphs(proto.graph):
        yield from part.initializer
        yield from _sparse(part.sparse_initializer)
    for node in _nodes(proto):
        for attribute in node.attribute:
            yield from (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors)
            sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
            yield from _sparse((*sparse, *attribute.sparse_tensors))


def _sparse(given: Iterable[onnx.SparseTensorProto]) -> Iterator[onnx.TensorProto]:
    for one in given:
        yield one.values
        yield one.indices
