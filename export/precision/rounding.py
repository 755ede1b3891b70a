"""A half-precision graph as a GPU runs it: every tensor rounded, sums added up in float32.

ONNX Runtime's CPU provider has few float16 kernels and no bfloat16 ones: it computes in float32
and rounds between some nodes only. Here each half-precision tensor is rounded in a float32 graph,
to be run without optimisation (which would take the pairs of casts out again).
"""

from __future__ import annotations

import onnx_ir as ir

from ..graph.values import attribute
from .types import FLOAT, converted, infer_types

HALF = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def rounded(model: ir.Model) -> ir.Model:
    """The same computation in float32, each half-precision tensor that a node makes rounded.

    Args:
        model: with inputs and outputs in float32; types that it left out are filled in.
    """
    infer_types(model)
    result = model.clone()
    graph = result.graph
    for value in graph.initializers.values():
        if value.const_value is not None and value.const_value.dtype in HALF:
            value.const_value = converted(value.const_value, FLOAT, str(value.name))
            value.type = ir.TensorType(FLOAT)
    for node in list(graph):
        if node.op_type == "Cast" and attribute(node, "to") in HALF:
            node.attributes["to"] = ir.AttrInt64("to", int(FLOAT))
        for y in node.outputs:
            if y.dtype not in HALF:
                continue
            half, name = y.dtype, y.name
            y.type = ir.TensorType(FLOAT)  # clones share their values' types
            down = ir.node("Cast", [y], attributes={"to": int(half)}, name=f"{name}/down")
            up = ir.node("Cast", down.outputs, attributes={"to": int(FLOAT)}, name=f"{name}/up")
            back = up.outputs[0]
            y.replace_all_uses_with(back, replace_graph_outputs=True)
            down.replace_input_with(0, y)
            down.outputs[0].name, down.outputs[0].dtype = f"{name}/half", half
            y.name, back.name = f"{name}/exact", name
            back.type, back.shape = y.type, y.shape
            graph.insert_after(node, [down, up])
    return result
