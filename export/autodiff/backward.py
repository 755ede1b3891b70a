"""Reverse-mode differentiation of an ONNX graph.

Mark the path from the input to the score, check that every operator on it has a rule, walk back
adding up gradients. Nothing off the path is touched: no weight gradients, ever, and the forward
nodes stay as they were, so the scores stay bit-identical.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import cast

import onnx_ir as ir

from ...runtime.errors import ModelError, UnsupportedOperatorError
from ..graph.values import FLOATS, QUANTISED, seen_as, shape_of
from .adjoints import joined
from .ops import Ops
from .registry import NO_GRADIENT, NOTHING, Entry, Grads, lookup


def path(graph: ir.Graph, wrt: ir.Value, target: ir.Value) -> list[ir.Node]:
    """The nodes between ``wrt`` and ``target`` through which a gradient can flow, in order.

    A value of integer or boolean type ends the flow (ArgMax, Shape, comparisons), unless it is the
    quantised form of a float.

    Raises:
        ModelError: ``target`` does not depend on ``wrt`` by differentiable values.
    """
    return _flow(graph, wrt, target)[0]


def _flow(graph: ir.Graph, wrt: ir.Value, target: ir.Value) -> tuple[list[ir.Node], set[ir.Value]]:
    """The path, and every value that a gradient with respect to ``wrt`` can reach."""
    reached, ends = {wrt}, []
    for node in graph:
        if any(x in reached for x in node.inputs):
            numbers = [y for y in node.outputs if _carries_gradient(y, node, reached)]
            if node.op_type in NO_GRADIENT or not numbers:
                ends.append(f"{node.op_type} {node.name!r}")
            else:
                reached.update(numbers)
    wanted, nodes = {target}, []
    for node in reversed(list(graph)):
        if any(y in wanted and y in reached for y in node.outputs) and wrt not in node.outputs:
            wanted.update(x for x in node.inputs if x is not None and x in reached)
            nodes.append(node)
    if target is not wrt and wrt not in wanted:
        where = f"; what depends on it ends at {', '.join(ends[:5])}" if ends else ""
        raise ModelError(
            f"{target.name!r} does not depend on {wrt.name!r} through differentiable operators"
            f"{where}.",
            "check that this input is the image and that the scores come from it; where a "
            "comparison or an index lies between them, name an earlier output (--output-name).",
        )
    return nodes[::-1], reached


def _carries_gradient(y: ir.Value, node: ir.Node, reached: set[ir.Value]) -> bool:
    if node.op_type == "DynamicQuantizeLinear":
        return y is node.outputs[0]  # scale and zero point count as constants
    if y.dtype in FLOATS or y.dtype is None:
        return True
    quantised = node.op_type.endswith("QuantizeLinear") or any(
        x in reached and x.dtype in QUANTISED for x in node.inputs
    )
    return quantised and y.dtype in QUANTISED


def unknown(nodes: Sequence[ir.Node]) -> list[ir.Node]:
    """The nodes whose operator has no rule."""
    return [node for node in nodes if lookup(node) is None]


def unsupported(nodes: Sequence[ir.Node]) -> UnsupportedOperatorError:
    """One error that names all operators without a rule, and their nodes."""
    by_type: dict[str, list[str]] = {}
    for node in nodes:
        kind = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"
        by_type.setdefault(kind, []).append(node.name or "(unnamed)")
    lines = [f"  {kind} ({len(names)}): {', '.join(names)}" for kind, names in by_type.items()]
    fix = (
        "replace them in the model, or add a rule (docs/adding-an-operator.md); "
        "`backlit ops` lists the operators that have one."
    )
    if all(node.domain.startswith("com.microsoft") for node in nodes):
        fix = (
            "they are ONNX Runtime's own: give the file from before its optimiser or its quantiser "
            "(QDQ format is taken), or an export without them."
        )
    if {node.op_type for node in nodes} & {"Loop", "Scan"}:
        fix = (
            "a loop is written out where its number of turns is constant: export the classifier "
            "with one that neither the image nor the batch decides (torch.jit.trace, pinned sizes)."
        )
    return UnsupportedOperatorError(
        "no backward rule for these operators between image and scores:\n" + "\n".join(lines), fix
    )


def waists(graph: ir.Graph, wrt: ir.Value, target: ir.Value) -> list[ir.Value]:
    """The tensors that everything between ``wrt`` and ``target`` goes through, in order.

    In a network with skip connections they are the outputs of its blocks; in a plain one, of each
    of its layers. Neither ``wrt`` nor ``target`` is among them.

    Raises:
        ModelError: ``target`` does not depend on ``wrt``.
    """
    nodes = path(graph, wrt, target)
    place = {node: index for index, node in enumerate(nodes)}

    def last_read(value: ir.Value) -> int:
        return max((place[use.node] for use in value.uses() if use.node in place), default=-1)

    found, needed = [], last_read(wrt)  # how far what was computed before is read
    for node, index in place.items():
        read = {y: last for y in node.outputs if (last := last_read(y)) >= 0}
        if needed <= index and len(read) == 1:
            found += [y for y in read if y.dtype in FLOATS]
        needed = max([needed, *read.values()])
    return found


def backward(op: Ops, wrt: Sequence[ir.Value], target: ir.Value, seed: ir.Value) -> list[ir.Value]:
    """Append the backward pass to ``op.graph``.

    Args:
        op: emitter for the graph that holds ``wrt`` and ``target``.
        wrt: forward tensors to differentiate with respect to; ``target`` depends on the first by
            way of all others.
        target: forward tensor that is differentiated, shape T.
        seed: upstream gradients, one per class explained, shape [K, *T].

    Returns:
        The gradients, of shape [K, *S] for a tensor of shape S.

    Raises:
        ModelError: ``target`` does not depend on ``wrt``.
        UnsupportedOperatorError: a gradient is needed that a rule does not give.
    """
    nodes, need = _flow(op.graph, wrt[0], target)
    grads: dict[ir.Value, list[ir.Value]] = {target: [op.begin(seed, target)]}
    with _arithmetic(op):
        for node in reversed(nodes):
            upstream = [_total(op, grads, y) for y in node.outputs]
            if all(g is None for g in upstream):
                continue
            entry = cast("Entry", lookup(node))
            op.dtype = y.dtype if (y := node.outputs[0]).dtype in FLOATS else ir.DataType.FLOAT
            op.prefix = f"backward/{node.name}"
            if upstream[0] is None and not entry.variadic:
                raise _no_gradient_of(node)
            answer = entry.rule(
                op, _in_floats(op, node), upstream if entry.variadic else upstream[0]
            )
            for x, g in zip(node.inputs, _per_input(node, answer), strict=True):
                if x is None or x not in need or g is NOTHING:
                    continue
                if g is None:
                    raise _no_gradient_for(node, x)
                if entry.broadcast:
                    g = op.sum_to(g, shape_of(node.outputs[0]), shape_of(x))
                grads.setdefault(x, []).append(g)
        totals = [_total(op, grads, x) for x in wrt]
    found = [total for total in totals if total is not None]
    if len(found) < len(wrt):  # every path ends in an operator that passes nothing back
        name = wrt[totals.index(None)].name
        raise ModelError(
            f"no gradient reaches {name!r}.", "check the model between image and scores."
        )
    return found


def _in_floats(op: Ops, node: ir.Node) -> ir.Node:
    """A node that moves or compares quantised tensors (MaxPool), as its rule expects to see it."""
    if "uantize" in node.op_type or "Integer" in node.op_type:
        return node  # their rules see to it themselves
    if not any(x is not None and x.dtype in QUANTISED for x in node.inputs):
        return node
    values = [v for v in (*node.inputs, *node.outputs) if v is not None]
    seen = {v: v if v.const_value else op.as_float(v) for v in values}
    inputs = [None if x is None else seen[x] for x in node.inputs]
    return seen_as(node, inputs, [seen[y] for y in node.outputs])


def _total(op: Ops, grads: dict[ir.Value, list[ir.Value]], value: ir.Value) -> ir.Value | None:
    parts = grads.get(value)
    if not parts:
        return None
    grads[value] = [op.total(joined(op, parts))]
    return grads[value][0]


def _per_input(node: ir.Node, answer: Grads) -> Sequence[ir.Value | None]:
    if answer is None or isinstance(answer, ir.Value):
        answer = (answer,)
    return [*answer, *[None] * (len(node.inputs) - len(answer))]


def _no_gradient_of(node: ir.Node) -> UnsupportedOperatorError:
    return UnsupportedOperatorError(
        f"{node.op_type} {node.name!r}: the gradient of any but its first output is not defined.",
        "compute that output with other operators, or extend the operator's rule.",
    )


def _no_gradient_for(node: ir.Node, x: ir.Value) -> UnsupportedOperatorError:
    index = list(node.inputs).index(x)
    return UnsupportedOperatorError(
        f"{node.op_type} {node.name!r}: its input {index} ({x.name!r}) depends on the image, and "
        "the gradient with respect to that input is not defined here.",
        "make that input a constant, or extend the operator's rule.",
    )


@contextlib.contextmanager
def _arithmetic(op: Ops) -> Iterator[None]:
    """While it lasts, ``a * b`` on values emits through ``op``."""
    before = ir.set_value_magic_handler(op)
    try:
        yield
    finally:
        ir.set_value_magic_handler(before)
