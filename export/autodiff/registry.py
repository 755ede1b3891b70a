"""The table of backward rules: one flat registry, three states for an operator, never two.

An operator has a rule (``@vjp``), is declared without gradient (``no_gradient``, with the reason),
or is unknown. ``normalise.py`` brings every model to opset 20 or later first, so a rule sees only
the operator's newest form and the registry needs no versions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeAlias

import onnx_ir as ir

Grads: TypeAlias = ir.Value | Sequence[ir.Value | None] | None
Rule: TypeAlias = Callable[..., Grads]


@dataclasses.dataclass(frozen=True)
class Entry:
    """A registered rule.

    Attributes:
        rule: ``rule(op, node, g) -> gradient of the first input, or one per input``. ``g`` is the
            gradient of the node's first output, shape ``[K, *output shape]``; the result has
            ``[K, *input shape]``, None for an input that gets none (weights).
        broadcast: the inputs were broadcast; the rule answers in the output's shape and the engine
            sums back to each input's.
        variadic: ``g`` is a list with one gradient (or None) per output.
    """

    rule: Rule
    broadcast: bool = False
    variadic: bool = False


NOTHING = ir.Value(name="nothing")
"""What a rule answers for an input whose share is in the answer for another."""

RULES: dict[str, Entry] = {}
NO_GRADIENT: dict[str, str] = {}


def vjp(*op_types: str, broadcast: bool = False, variadic: bool = False) -> Callable[[Rule], Rule]:
    """Register a vector-Jacobian product for standard-domain operators.

    See ``Entry`` for what the rule is given and returns.
    """

    def register(rule: Rule) -> Rule:
        for op_type in op_types:
            if op_type in RULES or op_type in NO_GRADIENT:
                raise ValueError(f"{op_type} is registered already")
            RULES[op_type] = Entry(rule, broadcast, variadic)
        return rule

    return register


def no_gradient(op_type: str, why: str) -> None:
    """Declare that nothing flows back through an operator, and why."""
    if op_type in RULES or op_type in NO_GRADIENT:
        raise ValueError(f"{op_type} is registered already")
    NO_GRADIENT[op_type] = why


def lookup(node: ir.Node) -> Entry | None:
    """The rule of a node's operator; None where it has none (or is not a standard operator)."""
    return RULES.get(node.op_type) if node.domain in ("", "ai.onnx") else None


__all__ = [
    "NOTHING",
    "NO_GRADIENT",
    "RULES",
    "Entry",
    "Grads",
    "Rule",
    "lookup",
    "no_gradient",
    "vjp",
]
