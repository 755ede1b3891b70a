"""Opsets and IR versions newer than what runs here, lowered where the operators allow it."""

from __future__ import annotations

import functools
from typing import Any

import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from ...runtime.errors import ModelError

IR = 10
"""Versions of the IR from here on add types of tensors that classifiers do without."""
_NEW_TYPES = {"FLOAT4E2M1", "FLOAT8E8M0", "UINT2", "INT2"}
_LEAST = 20
# Same attributes and inputs, another meaning: (operator, first opset of the new meaning).
_OTHER_MEANING = {"GroupNormalization": 21}


def lower_versions(proto: onnx.ModelProto, where: str) -> None:
    """Mark a model with versions that ONNX Runtime reads here.

    Raises:
        ModelError: an operator is not what it was in the newest opset that is read.
    """
    types = {TensorProto.DataType.Name(t.data_type) for t in proto.graph.initializer}
    if proto.ir_version > IR and not types & _NEW_TYPES:
        proto.ir_version = IR
    opset = next((o for o in proto.opset_import if o.domain == ""), None)
    if opset is None or opset.version <= _LEAST or opset.version <= newest_opset():
        return
    known, most = onnx.defs.onnx_opset_version(), newest_opset()
    changed = sorted({n.op_type for n in proto.graph.node if not _same(n, opset.version, most)})
    if opset.version > known or changed:
        why = f"{', '.join(changed)} changed since" if changed else "what is new in it is not known"
        raise ModelError(
            f"{where} is of opset {opset.version}; what is installed reads up to {most}, "
            f"and {why}.",
            f"export the classifier with opset {_LEAST} to {most}, or update: "
            "pip install -U onnx onnxruntime.",
        )
    opset.version = most


@functools.cache
def newest_opset() -> int:
    """The newest opset that ONNX Runtime takes here, as it says itself."""
    versions = range(onnx.defs.onnx_opset_version(), _LEAST, -1)
    return next((version for version in versions if _taken(version)), _LEAST)


def _taken(version: int) -> bool:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])], "g",
        [value("x", TensorProto.FLOAT, [1])], [value("y", TensorProto.FLOAT, [1])],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", version)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR).SerializeToString()
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception:  # ONNX Runtime's errors have no common base
        return False
    return True


def _same(node: onnx.NodeProto, new: int, old: int) -> bool:
    """Whether a node means in the older opset what it means in the newer one."""
    if node.domain:
        return True
    new = min(new, onnx.defs.onnx_opset_version())
    if not onnx.defs.has(node.op_type, "") or old < _OTHER_MEANING.get(node.op_type, 0) <= new:
        return False
    try:
        after: Any = onnx.defs.get_schema(node.op_type, new, "")
        before: Any = onnx.defs.get_schema(node.op_type, old, "")
    except onnx.defs.SchemaError:  # an operator younger than that
        return False
    if after.since_version == before.since_version:
        return True
    given = {a.name for a in node.attribute}
    if not given <= set(before.attributes) or len(node.input) > len(before.inputs):
        variadic = before.inputs and before.inputs[-1].option.name == "Variadic"
        return bool(variadic and given <= set(before.attributes))
    return all(
        str(a.default_value) == str(before.attributes[name].default_value)
        for name, a in after.attributes.items()
        if name in before.attributes and name not in given
    )


__all__ = ["IR", "lower_versions", "newest_opset"]
