"""Sequences whose parts are known: what a loop gathered, joined or taken from again.

https://onnx.ai/onnx/operators/onnx__ConcatFromSequence.html, onnx__SequenceAt.html
"""

from __future__ import annotations

import onnx_ir as ir

from ..autodiff.ops import Ops
from ..graph.values import attribute, constant
from .forms import Inputs, form, optional


@form("ConcatFromSequence", domain="")
def concat_from_sequence(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value | None:
    """Concat of the parts, each with a new axis where ``new_axis`` is set."""
    parts, axis = _parts(inputs[0]), attribute(node, "axis")
    if not parts:
        return None
    if attribute(node, "new_axis", 0):
        parts = [op.Unsqueeze(part, [axis]) for part in parts]
    joined: ir.Value = op.Concat(*parts, axis=axis)
    return joined


@form("SequenceAt", domain="")
def sequence_at(op: Ops, node: ir.Node, inputs: Inputs) -> ir.Value | None:
    """One of the parts; negative positions count from the end."""
    parts, place = _parts(inputs[0]), constant(inputs[1])
    if not parts or place is None or not -len(parts) <= place.item() < len(parts):
        return None
    found: ir.Value = op.Identity(parts[place.item()])
    return found


def _parts(value: ir.Value | None) -> list[ir.Value] | None:
    """The tensors of a sequence, where every step that made it is known; else None."""
    steps: list[ir.Node] = []
    while True:
        node = None if value is None else value.producer()
        if node is None or node.op_type not in _MAKES:
            return None
        steps.append(node)
        if node.op_type in ("SequenceEmpty", "SequenceConstruct"):
            break
        value = node.inputs[0]
    parts: list[ir.Value] = []
    for node in reversed(steps):
        if node.op_type == "SequenceConstruct":
            parts = [x for x in node.inputs if x is not None]
        elif node.op_type in ("SequenceInsert", "SequenceErase"):
            inserts = node.op_type == "SequenceInsert"
            given = optional(list(node.inputs), 3)[2 if inserts else 1]
            place = constant(given)
            if given is not None and place is None:
                return None
            at = len(parts) if place is None else int(place.item())
            at = at if place is not None or inserts else len(parts) - 1
            if inserts and node.inputs[1] is not None:
                parts.insert(at, node.inputs[1])
            elif not inserts and -len(parts) <= at < len(parts):
                parts.pop(at)
    return parts


_MAKES = ("SequenceEmpty", "SequenceConstruct", "SequenceInsert", "SequenceErase", "Identity")
