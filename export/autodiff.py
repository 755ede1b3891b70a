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

from ..runtime.errors import ModelError, UnsupportedOperatorError
from .context import FLOATS, Ops, shape_of
from .registry import NO_GRADIENT, Entry, Grads, lookup


def path(graph: ir.Graph, wrt: ir.Value, target: ir.Value) -> list[ir.Node]:
    """The nodes between ``wrt`` and ``target`` through which a gradient can flow, in order.

    A value of integer or boolean type ends the flow (ArgMax, Shape, comparisons).

    Raises:
        ModelError: ``target`` does not depend on ``wrt`` by differentiable values.
    """
    reached, ends = {wrt}, []
    for node in graph:
        if any(x in reached for x in node.inputs):
            floats = [y for y in node.outputs if y.dtype in FLOATS or y.dtype is None]
            if node.op_type in NO_GRADIENT or not floats:
                ends.append(f"{node.op_type} {node.name!r}")
            else:
                reached.update(floats)
    wanted, nodes = {target}, []
    for node in reversed(list(graph)):
        if any(y in wanted and y in reached for y in node.outputs) and wrt not in node.outputs:
            wanted.update(x for x in node.inputs if x is not None and x in reached)
            nodes.append(node)
    if target is not wrt and wrt not in wanted:
        raise ModelError(
            f"{target.name!r} does not depend on {wrt.name!r} through differentiable operators"
            f"{'; what depends on it ends at ' * bool(ends)}{', '.join(ends[:5])}.",
            "give the float model (before quantisation), and check that its input is the image and "
            "that the scores come from it.",
        )
    return nodes[::-1]


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
    return UnsupportedOperatorError(
        "no backward rule for these operators between image and scores:\n" + "\n".join(lines),
        "replace them in the model, or add a rule (README, 'Adding an operator'); "
        "`backlit ops` lists the operators that have one.",
    )


def backward(op: Ops, wrt: ir.Value, target: ir.Value, seed: ir.Value) -> ir.Value:
    """Append the backward pass to ``op.graph``.

    Args:
        op: emitter for the graph that holds ``wrt`` and ``target``.
        wrt: forward tensor to differentiate with respect to, shape S.
        target: forward tensor that is differentiated, shape T.
        seed: upstream gradients, one per class explained, shape [K, *T].

    Returns:
        The gradient, shape [K, *S].

    Raises:
        ModelError: ``target`` does not depend on ``wrt``.
        UnsupportedOperatorError: lists all operators on the path without a rule.
    """
    nodes = path(op.graph, wrt, target)
    if missing := unknown(nodes):
        raise unsupported(missing)
    need = {wrt} | {y for node in nodes for y in node.outputs}
    grads: dict[ir.Value, list[ir.Value]] = {target: [seed]}
    with _arithmetic(op):
        for node in reversed(nodes):
            upstream = [_total(op, grads, y) for y in node.outputs]
            if all(g is None for g in upstream):
                continue
            entry = cast("Entry", lookup(node))
            op.dtype = node.outputs[0].dtype or ir.DataType.FLOAT
            op.prefix = f"backward/{node.name}"
            answer = entry.rule(op, node, upstream if entry.variadic else upstream[0])
            for x, g in zip(node.inputs, _per_input(node, answer), strict=True):
                if x is None or x not in need:
                    continue
                if g is None:
                    raise _no_gradient_for(node, x)
                if entry.broadcast:
                    g = op.sum_to(g, shape_of(node.outputs[0]), shape_of(x))
                grads.setdefault(x, []).append(g)
        total = _total(op, grads, wrt)
    if total is None:  # every path ends in an operator that passes nothing back
        raise ModelError(
            f"no gradient reaches {wrt.name!r}.", "check the model between image and scores."
        )
    return total


def _total(op: Ops, grads: dict[ir.Value, list[ir.Value]], value: ir.Value) -> ir.Value | None:
    parts = grads.get(value)
    if not parts:
        return None
    if len(parts) > 1:
        grads[value] = [parts[0] + parts[1] if len(parts) == 2 else op.Sum(*parts)]
    return grads[value][0]


def _per_input(node: ir.Node, answer: Grads) -> Sequence[ir.Value | None]:
    if answer is None or isinstance(answer, ir.Value):
        answer = (answer,)
    return [*answer, *[None] * (len(node.inputs) - len(answer))]


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
