"""Would an engine take the graph whole? The static part: what its parser is known to refuse."""

from __future__ import annotations

import onnx_ir as ir

from .context import attribute, constant

_REFUSED = {
    "MaxUnpool", "NonZero", "Col2Im", "If", "Loop", "Scan", "Unique", "Compress",
    "NonMaxSuppression", "RoiAlign",
}  # fmt: skip


def audit(graph: ir.Graph) -> list[str]:
    """Every node that TensorRT refuses, with the reason; empty when there is none."""
    return [f"{n.op_type} {n.name!r}: {why}" for n in graph if (why := _problem(n))]


def _problem(node: ir.Node) -> str | None:
    kind = node.op_type
    if node.domain not in ("", "ai.onnx"):
        return f"not a standard operator (domain {node.domain!r})"
    if kind in _REFUSED:
        return "TensorRT has no such operator"
    if kind == "MaxPool" and len(node.outputs) > 1 and node.outputs[1].uses():
        return "MaxPool's Indices output is refused"
    if kind == "MaxPool" and max(attribute(node, "dilations", [1])) > 1:
        return "MaxPool with dilations is refused"
    if kind == "BatchNormalization" and attribute(node, "training_mode", 0):
        return "training mode is refused"
    if kind == "ConvTranspose":
        strided = max(attribute(node, "strides", [1])) > 1
        if strided and max(attribute(node, "dilations", [1])) > 1:
            return "stride and dilation together are refused"
    if kind in ("ScatterND", "ScatterElements") and attribute(node, "reduction", "none") != "none":
        return "scatter with a reduction is refused"
    if kind == "TopK" and (k := constant(node.inputs[1])) is not None and int(k[0]) > 3840:
        return "TopK of more than 3840 is refused"
    must_be_constant = {"Pad": 1, "OneHot": 1} | ({kind: 1} if kind.startswith("Reduce") else {})
    index = must_be_constant.get(kind, len(node.inputs))
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is not None and constant(value) is None:
        return f"input {index} must be constant"
    return None
