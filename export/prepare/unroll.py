"""Loop and Scan of a constant number of turns: their bodies, one behind the other.

No rule goes through a loop, and no engine takes its gradient.
https://onnx.ai/onnx/operators/onnx__Loop.html, onnx__Scan.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator
from onnx_ir.passes import common as passes

from ...runtime.errors import ModelError
from ..autodiff.ops import Ops
from ..graph.values import attribute, constant
from ..graph.weights import SMALL

LARGEST = 20_000
"""Operators that a loop may become: more are slower to export than anyone waits."""

_ENDLESS = 2**31 - 1  # what torch writes for a loop that only its condition ends

Known = dict[ir.Value, Any]


def unroll(model: ir.Model) -> bool:
    """Replace every Loop and Scan whose number of turns is known by now, in place.

    Returns:
        Whether there was any.

    Raises:
        ModelError: it would become too large, or what it runs until is not known.
    """
    changed = False
    while found := next((n for n in model.graph if _turns_known(n)), None):
        op = Ops(model.graph, 1, prefix=f"{found.name or found.op_type}/unrolled")
        made = _loop(op, found) if found.op_type == "Loop" else _scan(op, found)
        for old, new in zip(found.outputs, made, strict=True):
            if new is None:
                if old.uses() or old.is_graph_output():
                    raise ModelError(
                        f"{found.op_type} {found.name!r} makes no turn, and collects nothing.",
                        "check the model: its exporter left an empty loop.",
                    )
                continue
            new = op.Identity(new)
            name, old.name = old.name, f"{old.name}/whole"
            old.replace_all_uses_with(new, replace_graph_outputs=True)
            new.name, new.type, new.shape = name, old.type, old.shape
        model.graph.remove(found, safe=True)
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        model.graph.sort()
        changed = True
    return changed


def _turns_known(node: ir.Node) -> bool:
    if node.domain not in ("", "ai.onnx"):
        return False
    if node.op_type == "Loop":
        return all(x is None or constant(x) is not None for x in node.inputs[:2])
    return node.op_type == "Scan" and _length(node) is not None


def _length(node: ir.Node) -> int | None:
    """The turns of a Scan: the length of what it goes along; None where unknown (the batch)."""
    count = attribute(node, "num_scan_inputs")
    axes = attribute(node, "scan_input_axes", [0] * count)
    for x, axis in zip(node.inputs[-count:], axes, strict=True):
        if x is not None and x.shape is not None and isinstance(x.shape[axis], int):
            return int(x.shape[axis])
    return None


def _loop(op: Ops, node: ir.Node) -> list[ir.Value | None]:
    """Turns until the count is reached or the condition false; what they collect on axis 0."""
    limit, go = (_scalar(x) for x in node.inputs[:2])
    body, carried = attribute(node, "body"), list(node.inputs[2:])
    turns = None if limit is None or limit >= _ENDLESS else int(limit)
    collected: list[list[ir.Value]] = [[] for _ in body.outputs[1 + len(carried) :]]
    known: Known = {}
    turn = 0
    while (turns is None or turn < turns) and (go is None or go):
        _bounded(node, body, turn if turns is None else turns)
        given = [op.const(np.array(turn)), op.const(np.array(True)), *carried]
        condition, *made = _turn(op, node, body, given, turn)
        go = _value(condition, known)
        if go is None:
            raise ModelError(
                f"Loop {node.name!r} runs until a condition that the image decides.",
                "export the classifier with a constant number of turns (torch.jit.trace, or "
                "torch.onnx.export of the module instead of its script).",
            )
        carried = list(made[: len(carried)])
        for parts, new in zip(collected, made[len(carried) :], strict=True):
            parts.append(new)
        turn += 1
    return [*carried, *(_joined(op, parts, 0) for parts in collected)]


def _scan(op: Ops, node: ir.Node) -> list[ir.Value | None]:
    """A turn for each slice of the last inputs; what they collect on an axis of each own."""
    count, body, turns = attribute(node, "num_scan_inputs"), attribute(node, "body"), _length(node)
    state, along = list(node.inputs[:-count]), list(node.inputs[-count:])
    outputs = len(body.outputs) - len(state)
    axes = attribute(node, "scan_input_axes", [0] * count)
    back = attribute(node, "scan_input_directions", [0] * count)
    collected: list[list[ir.Value]] = [[] for _ in range(outputs)]
    for turn in range(turns or 0):
        _bounded(node, body, turns or 0)
        places = [(turns or 0) - 1 - turn if b else turn for b in back]
        slices = [
            op.Gather(x, np.array(place), axis=axis)
            for x, place, axis in zip(along, places, axes, strict=True)
        ]
        made = _turn(op, node, body, [*state, *slices], turn)
        state = list(made[: len(state)])
        for parts, new in zip(collected, made[len(state) :], strict=True):
            parts.append(new)
    out_axes = attribute(node, "scan_output_axes", [0] * outputs)
    out_back = attribute(node, "scan_output_directions", [0] * outputs)
    joined = [
        _joined(op, parts[::-1] if b else parts, axis)
        for parts, axis, b in zip(collected, out_axes, out_back, strict=True)
    ]
    return [*state, *joined]


def _turn(
    op: Ops, node: ir.Node, body: ir.Graph, given: Sequence[ir.Value | None], turn: int
) -> list[Any]:
    """Copy the body to the end of the graph, on these inputs; returns its outputs."""
    copy = body.clone(allow_outer_scope_values=True)
    prefix = f"{node.name or node.op_type}/{turn}"
    passed: dict[ir.Value, ir.Value | None] = dict(zip(copy.inputs, given, strict=True))
    outputs, nodes = [passed.get(y, y) for y in copy.outputs], list(copy)
    copy.outputs.clear()
    for inner, outer in passed.items():
        if outer is not None:
            inner.replace_all_uses_with(outer)
    for name, value in list(copy.initializers.items()):
        del copy.initializers[name]
        value.name = f"{prefix}/{name}"
        op.graph.register_initializer(value)
    copy.remove(nodes)
    for made in nodes:
        made.name = f"{prefix}/{made.name or made.op_type}"
        for y in made.outputs:
            y.name = f"{prefix}/{y.name}" if y.name else y.name
    op.graph.extend(nodes)
    return outputs


def _joined(op: Ops, parts: list[ir.Value], axis: int) -> ir.Value | None:
    """What the turns made, on an axis of its own; None where there was no turn."""
    if not parts:
        return None
    whole: ir.Value = op.Concat(*(op.Unsqueeze(p, [axis]) for p in parts), axis=axis)
    return whole


def _bounded(node: ir.Node, body: ir.Graph, turns: int) -> None:
    if (turns + 1) * len(body) > LARGEST:
        raise ModelError(
            f"{node.op_type} {node.name!r} makes {turns} turns or more, of {len(body)} operators: "
            f"written out, they are over {LARGEST}.",
            "export the classifier without the loop (on whole tensors), or of a smaller image.",
        )


def _scalar(value: ir.Value | None) -> Any:
    found = constant(value)
    return None if found is None else found.reshape(-1)[0].item()


def _value(value: ir.Value | None, known: Known) -> Any:
    """A small tensor's value where it depends on constants alone, as a counter does; else None."""
    if value is None:
        return None
    if value not in known:
        known[value] = _computed(value, known)
    return known[value]


def _computed(value: ir.Value, known: Known) -> Any:
    node = value.producer()
    if value.const_value is not None:
        return value.const_value.numpy() if value.const_value.nbytes <= SMALL else None
    if node is None or any(a.type == ir.AttributeType.GRAPH for a in node.attributes.values()):
        return None
    feed = {str(x.name): _value(x, known) for x in node.inputs if x is not None}
    if any(v is None for v in feed.values()):
        return None
    made: Any = ReferenceEvaluator(ir.serde.serialize_node(node)).run(None, feed)
    return made[list(node.outputs).index(value)]


__all__ = ["LARGEST", "unroll"]
