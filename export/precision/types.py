"""The types of a graph's tensors: found out, and changed with the casts that this takes."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from ..graph.values import attribute
from ..graph.weights import array

FLOAT = ir.DataType.FLOAT
SHAPES = ("Shape", "Size")  # ask for no numbers, so any type will do


def is_float(value: ir.Value | None) -> bool:
    """Whether a tensor is float32."""
    return value is not None and value.dtype == FLOAT


def infer_types(model: ir.Model) -> None:
    """Set the type of every tensor; rules emit most of theirs without."""
    for value in model.graph.initializers.values():
        if value.const_value is not None:
            value.dtype = value.const_value.dtype
    known = {f"tensor({t.name.lower()})": t for t in ir.DataType} | {
        "tensor(float)": ir.DataType.FLOAT
    }
    for node in model.graph:
        if not onnx.defs.has(node.op_type, node.domain):
            continue
        version = model.opset_imports.get(node.domain, 1)
        schema = onnx.defs.get_schema(node.op_type, version, node.domain)
        formal = [schema.inputs[min(i, len(schema.inputs) - 1)] for i in range(len(node.inputs))]
        given = {
            f.type_str: x.dtype for f, x in zip(formal, node.inputs, strict=True) if x is not None
        }
        for i, y in enumerate(node.outputs):
            made = schema.outputs[min(i, len(schema.outputs) - 1)]
            if node.op_type == "Cast":
                y.dtype = ir.DataType(attribute(node, "to"))
            elif node.op_type == "ConstantOfShape":
                y.dtype = (
                    FLOAT if "value" not in node.attributes else attribute(node, "value").dtype
                )
            elif len(made.types) == 1:
                y.dtype = known[next(iter(made.types))]
            else:
                y.dtype = given.get(made.type_str) or y.dtype or FLOAT


def retype(graph: ir.Graph, half: set[ir.Node], to: ir.DataType) -> None:
    """Compute these nodes in half precision, with a Cast where a tensor goes from one to the other.

    Args:
        graph: typed; changed in place. Inputs and outputs keep their names and types.
        half: nodes whose float tensors are all of one type parameter.
        to: FLOAT16 or BFLOAT16.
    """
    made = {y for node in half for y in node.outputs if is_float(y)}
    other: dict[ir.Value, ir.Value] = {}  # a tensor in the precision that it is not made in
    for node in list(graph):
        if node.op_type in SHAPES:
            continue
        for index, x in enumerate(node.inputs):
            if x is None or not is_float(x) or (x in made) == (node in half):
                continue
            if x not in other:
                if x.const_value is None:
                    other[x] = _cast(graph, x, FLOAT if x in made else to)
                else:
                    other[x] = _constant(graph, x, x.const_value, to)
            node.replace_input_with(index, other[x])
        if node in half and node.op_type == "Cast":
            node.attributes["to"] = ir.AttrInt64("to", int(to))
    for index, value in enumerate(graph.outputs):
        if value in made:  # the name is that of what leaves the graph
            leaving = other.get(value) or _cast(graph, value, FLOAT)
            name, value.name = value.name, f"{value.name}/{to.name.lower()}"
            leaving.name, graph.outputs[index] = name, leaving
    for value in made:
        value.type = ir.TensorType(to)  # clones share their values' types
    graph.sort()


def _cast(graph: ir.Graph, value: ir.Value, to: ir.DataType) -> ir.Value:
    name = f"{value.name}/{to.name.lower()}"
    node = ir.node("Cast", [value], attributes={"to": int(to)}, name=name)
    graph.append(node)
    node.outputs[0].name, node.outputs[0].dtype, node.outputs[0].shape = name, to, value.shape
    return node.outputs[0]


def _constant(
    graph: ir.Graph, value: ir.Value, tensor: ir.TensorProtocol, to: ir.DataType
) -> ir.Value:
    name = f"{value.name}/{to.name.lower()}"
    made = ir.val(name, const_value=converted(tensor, to, name))
    graph.register_initializer(made)
    return made


def converted(tensor: ir.TensorProtocol, to: ir.DataType, name: str) -> ir.LazyTensor:
    """A tensor in another float type, computed when it is read: weights may be large."""

    def convert() -> ir.TensorProtocol:
        return ir.Tensor(array(tensor).astype(to.numpy()), dtype=to, name=name)

    return ir.LazyTensor(convert, to, ir.Shape(tensor.shape.numpy()), name=name)
