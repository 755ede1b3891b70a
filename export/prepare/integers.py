"""An image of integers as one of floats: the same numbers, and something to differentiate by.

A classifier that takes pixels as uint8 or int32 turns them into floats by a Cast or a
DequantizeLinear. What lies before it (axes turned, parts cut out, sums) is done with floats.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...runtime.errors import ModelError
from ..autodiff.ops import Ops
from ..graph.values import FLOATS, args

INTEGERS = frozenset(
    {
        ir.DataType.UINT8, ir.DataType.INT8, ir.DataType.UINT16, ir.DataType.INT16,
        ir.DataType.UINT32, ir.DataType.INT32, ir.DataType.UINT64, ir.DataType.INT64,
    }
)  # fmt: skip
"""Types of pixels."""
_WRAP = frozenset({ir.DataType.UINT8, ir.DataType.INT8, ir.DataType.UINT32, ir.DataType.UINT64})
_MOVES = (
    "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Gather", "Split",
    "Identity", "Expand", "Tile", "Pad", "DepthToSpace", "SpaceToDepth", "Concat", "Resize",
    "Upsample", "Where",
)  # fmt: skip
_ARITHMETIC = ("Add", "Sub", "Mul", "Neg")
_CHOICES = ("Max", "Min", "Clip", "Abs", "Relu")
_COMPARED = {"Greater": 0.5, "GreaterOrEqual": -0.5, "Less": -0.5, "LessOrEqual": 0.5}
"""Comparisons with a bound on their right, and what moves it between two integers: there no pixel
stands on the edge where the comparison changes."""
_DATA: dict[str, tuple[int, ...]] = {
    "Pad": (0, 2),
    "Where": (1, 2),
}  # which inputs have the image's type, of some
_ALL = ("Concat", *_ARITHMETIC, *_CHOICES, *_COMPARED)


def as_floats(model: ir.Model, image: ir.Value) -> None:
    """Make an input of integers one of float32, and what is computed of it up to its Cast.

    Args:
        model: changed in place; its opset is its own.
        image: its input.

    Raises:
        ModelError: an operator that means something else for integers takes it.
    """
    graph, kinds = model.graph, {image: image.dtype}
    op = Ops(graph, 1, prefix=f"{image.name}/as_floats")
    image.dtype = ir.DataType.FLOAT
    for node in list(graph):
        taken = [x for x in node.inputs if x in kinds]
        if not taken or node.op_type == "Shape":
            continue
        kind = kinds[taken[0]] or ir.DataType.UINT8
        if node.op_type == "Cast":
            to = ir.DataType(node.attributes["to"].value)
            if to in INTEGERS:
                node.attributes["to"] = ir.AttrInt64("to", int(ir.DataType.FLOAT))
                _carry(node, to, kinds)
            elif to not in FLOATS:
                raise _refused(image, node, kind)
        elif node.op_type == "DequantizeLinear":
            _dequantised(op, node)
        elif _same_for_floats(node, kind):
            places = (
                range(len(node.inputs)) if node.op_type in _ALL else _DATA.get(node.op_type, ())
            )
            for i in places:
                x = node.inputs[i]
                if x is not None and x not in kinds:
                    other = op.Cast(x, to=int(ir.DataType.FLOAT))
                    if node.op_type in _COMPARED:
                        between = _COMPARED[node.op_type]
                        other = op.Add(other, between if i else -between)
                    node.replace_input_with(i, other)
            if node.op_type not in _COMPARED:  # whose results are of another type
                _carry(node, kind, kinds)
        else:
            raise _refused(image, node, kind)
    graph.sort()


def _carry(node: ir.Node, kind: ir.DataType, kinds: dict[ir.Value, ir.DataType | None]) -> None:
    for y in node.outputs:
        kinds[y] = kind
        y.dtype = ir.DataType.FLOAT


def _same_for_floats(node: ir.Node, kind: ir.DataType) -> bool:
    """Whether a node gives for floats what it gives for integers; small ones wrap around."""
    if node.op_type in _ARITHMETIC:
        return kind not in _WRAP
    return node.op_type in (*_MOVES, *_CHOICES, *_COMPARED)


def _dequantised(op: Ops, node: ir.Node) -> None:
    """(x - zero) * scale, of one scale for all."""
    x, scale, *zero = args(node)
    scales = scale.const_value
    if scales is not None and int(np.prod([int(d) for d in scales.shape])) > 1:  # type: ignore[arg-type]
        raise ModelError(
            f"the scales of DequantizeLinear {node.name!r} differ between channels of the image.",
            "export the classifier with a float input.",
        )
    if zero:
        x = op.Sub(x, op.Cast(zero[0], to=int(ir.DataType.FLOAT)))
    y, old = op.Mul(x, scale), node.outputs[0]
    name, old.name = old.name, f"{old.name}/of_integers"
    y.name, y.dtype, y.shape = name, ir.DataType.FLOAT, old.shape
    old.replace_all_uses_with(y, replace_graph_outputs=True)
    op.graph.remove(node, safe=True)


def _refused(image: ir.Value, node: ir.Node, kind: ir.DataType) -> ModelError:
    return ModelError(
        f"the input {image.name!r} is {kind.name.lower()}, and {node.op_type} {node.name!r} "
        "computes with it as integers, which has no gradient.",
        "export the classifier with a float input, or with a Cast to float before that operator.",
    )


__all__ = ["INTEGERS", "as_floats"]
