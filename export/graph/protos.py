"""Changes of onnx's own models, before or without onnx-ir."""

from __future__ import annotations

import onnx


def with_output(proto: onnx.ModelProto, name: str, keep: bool = False) -> onnx.ModelProto:
    """A copy of the model that returns one named tensor, instead of or beside its outputs."""
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    declared = [v for v in result.graph.output if v.name == name]
    if not keep:
        del result.graph.output[:]
    result.graph.output.extend(declared or [onnx.helper.make_empty_tensor_value_info(name)])
    return result
