"""Models whose weights stay out of every call that serialises: no copies, and no 2 GB limit.

A protobuf message ends at 2 GB, and onnx's C++ functions and ONNX Runtime both take one. So large
initializers are marked as external data on the way in, and put back (or handed over) by name.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from ...runtime.errors import ModelError
from .protos import reads

LARGE = 1_900_000_000  # bytes of weights; with the graph they must fit into 2^31
SMALL = 1000  # bytes; axes and shapes, which converters and shape inference read


@dataclasses.dataclass(frozen=True)
class Detached:
    """A model without its weights.

    Attributes:
        proto: the model; initializers over 1000 bytes (but int64) are marked as external data.
        weights: their values by name, as lazy as the model had them.
    """

    proto: onnx.ModelProto
    weights: Mapping[str, ir.TensorProtocol]

    def replace(self, proto: onnx.ModelProto) -> Detached:
        """The same weights with another proto."""
        return Detached(proto, self.weights)


def detach(model: ir.Model) -> Detached:
    """Serialise a model without its weights; the model stays as it is."""
    inside(model, SMALL)  # where a proto without a folder could not be followed to its files
    weights = {
        name: value.const_value
        for name, value in model.graph.initializers.items()
        if value.const_value is not None
        and value.const_value.nbytes > SMALL
        and value.dtype != ir.DataType.INT64  # sizes and indices, which shape inference reads
    }
    try:
        for name, tensor in weights.items():
            stub = ir.ExternalTensor(
                "detached", 0, tensor.nbytes, tensor.dtype, shape=_shape(tensor), name=name
            )
            model.graph.initializers[name].const_value = stub
        return Detached(ir.serde.serialize_model(model), weights)
    finally:
        for name, tensor in weights.items():
            model.graph.initializers[name].const_value = tensor


def inside(model: ir.Model, largest: float = math.inf) -> None:
    """Make external tensors of up to so many bytes part of the model.

    All of int64 too, and those of graphs inside nodes: `detach` leaves these where they are.
    """
    for graph in model.graphs():
        for value in graph.initializers.values():
            tensor, within = value.const_value, graph is not model.graph
            if isinstance(tensor, ir.ExternalTensor) and (
                within or tensor.nbytes <= largest or tensor.dtype == ir.DataType.INT64
            ):
                value.const_value = ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=tensor.name)


def attach(proto: onnx.ModelProto, weights: Mapping[str, ir.TensorProtocol]) -> ir.Model:
    """The model of a proto whose large initializers lie in ``weights``."""
    model = ir.serde.deserialize_model(proto)
    for name, value in model.graph.initializers.items():
        if name in weights:
            value.const_value = weights[name]
    return model


def through(model: ir.Model, function: Callable[[onnx.ModelProto], onnx.ModelProto]) -> ir.Model:
    """What a function of the onnx package makes of the model, its weights passed by."""
    detached = detach(model)
    return attach(function(detached.proto), detached.weights)


def session(
    model: Detached, optimise: bool = True, exact_integers: bool = False
) -> ort.InferenceSession:
    """A session on ONNX Runtime's CPU provider that reads the weights where they lie in memory.

    Args:
        model: the graph and its weights.
        optimise: as ONNX Runtime does by default, or not at all.
        exact_integers: let no sum of products saturate, as it may on processors without VNNI.
    """
    options = ort.SessionOptions()
    options.enable_mem_pattern = False  # it doubles the memory from the second run on
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if exact_integers:
        options.add_session_config_entry("session.x64quantprecision", "1")
    options.log_severity_level = 4
    # ONNX Runtime forgets what no node reads, and then misses it.
    read = set().union(*map(reads, model.proto.graph.node))
    weights = {name: tensor for name, tensor in model.weights.items() if name in read}
    values = [ort.OrtValue.ortvalue_from_numpy(array(t)) for t in weights.values()]
    options.add_external_initializers(list(weights), values)
    data = model.proto.SerializeToString()
    try:
        return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no common base
        said = str(error).strip().splitlines()[0].rpartition(" : ")[2]
        raise ModelError(
            f"ONNX Runtime cannot run the model: {said}",
            "run it in ONNX Runtime by itself; if it runs there, please report the model.",
        ) from error


def array(tensor: ir.TensorProtocol) -> np.ndarray[Any, Any]:
    """A tensor's values, contiguous."""
    return np.ascontiguousarray(tensor.numpy())


def size(model: ir.Model) -> int:
    """Bytes of all initializers."""
    values = model.graph.initializers.values()
    return sum(v.const_value.nbytes for v in values if v.const_value is not None)


def _shape(tensor: ir.TensorProtocol) -> ir.Shape:
    return ir.Shape(tuple(int(d) for d in tensor.shape))  # type: ignore[arg-type]
