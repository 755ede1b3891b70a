"""The table of operators that are written in standard ones before anything else is done.

They are outside of ONNX, or were once in it: what ONNX Runtime's optimiser, its quantiser and old
converters write. A row says what an operator computes; what the rules, the verification's
reference and every engine see are standard operators only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn, TypeAlias

import onnx_ir as ir

from ...runtime.errors import ModelError
from ..autodiff.ops import Ops
from ..graph.values import attribute

MICROSOFT = "com.microsoft"
FORMER = "backlit.former"
"""Where operators wait that their file declares in ONNX's own domain, and ONNX has not: what
converts a model to a newer opset would trip over them."""

Inputs: TypeAlias = list[ir.Value | None]
Made: TypeAlias = ir.Value | Sequence[ir.Value | None] | None
Form: TypeAlias = Callable[[Ops, ir.Node, Inputs], Made]

FORMS: dict[tuple[str, str], Form] = {}
"""By domain and operator: given an emitter, the node and its inputs, the output (or one for each,
None for one that nobody may use); None alone: the node stays."""

BEFORE = (
    "give the file from before ONNX Runtime's optimiser (the one that was loaded when "
    "SessionOptions.optimized_model_filepath was set, or the input of onnxruntime.transformers' "
    "optimizer), or write it again with graph_optimization_level = ORT_ENABLE_EXTENDED or lower."
)


class ShapeUnknownError(Exception):
    """A form must know a rank that only the operators before it tell."""


def form(*op_types: str, domain: str = MICROSOFT) -> Callable[[Form], Form]:
    """Register what operators are in standard ones."""

    def register(made: Form) -> Form:
        FORMS.update({(domain, op_type): made for op_type in op_types})
        return made

    return register


def optional(inputs: Inputs, count: int) -> Inputs:
    """So many inputs, None for those left out at the end."""
    return [*inputs, *[None] * (count - len(inputs))]


def rank(value: ir.Value | None) -> int:
    """How many axes a tensor has.

    Raises:
        ShapeUnknownError: not known yet.
    """
    if value is None or value.shape is None:
        raise ShapeUnknownError
    return len(value.shape)


def depends_on_inputs(value: ir.Value | None) -> bool:
    """Whether a tensor is computed from any input of the model."""
    left, seen = [value], {value}
    while left:
        value = left.pop()
        if value is not None and value.is_graph_input():
            return True
        node = None if value is None else value.producer()
        before = [] if node is None else [x for x in node.inputs if x not in seen]
        seen.update(before)
        left += before
    return False


def attributes(node: ir.Node, *left_out: str) -> dict[str, object]:
    """All attributes of a node but some."""
    return {a.name: a.value for a in node.attributes.values() if a.name not in left_out}


def refuse(node: ir.Node, what: str) -> NoReturn:
    """The error for a form of an operator that is not written in standard ones here.

    Raises:
        ModelError: always.
    """
    raise ModelError(f"{node.domain}::{node.op_type} {node.name!r} {what}.", BEFORE)


def channels_first(op: Ops, x: ir.Value, last: bool, axes: int) -> ir.Value:
    """[N, ..., C] -> [N, C, ...] where the channels come last."""
    return op.Transpose(x, perm=[0, axes - 1, *range(1, axes - 1)]) if last else x


def channels_back(op: Ops, x: ir.Value, last: bool, axes: int) -> ir.Value:
    """[N, C, ...] -> [N, ..., C] where the channels come last."""
    return op.Transpose(x, perm=[0, *range(2, axes), 1]) if last else x


def activated(op: Ops, node: ir.Node, x: ir.Value, parameters: Sequence[float]) -> ir.Value:
    """The activation that was fused into a node (attribute ``activation``), on what it computes.

    ``parameters``: alpha and beta, or the bounds of Clip; as many as were written down.
    """
    kind = attribute(node, "activation", "")
    named = _PARAMETERS.get(kind)
    if named is None:
        refuse(node, f"has an activation {kind!r} of its own")
    if kind == "Clip":
        return op.Clip(x, *(float(p) for p in parameters))
    if kind in ("Silu", "Swish"):
        return op.Mul(x, op.Sigmoid(x))
    if not kind:
        return x
    return getattr(op, kind)(x, **dict(zip(named, parameters, strict=False)))


_PARAMETERS: dict[str, Sequence[str]] = {
    "": (), "Relu": (), "Sigmoid": (), "Tanh": (), "LeakyRelu": ("alpha",), "Elu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"), "Selu": ("alpha", "gamma"), "Celu": ("alpha",),
    "ThresholdedRelu": ("alpha",), "Softplus": (), "Softsign": (), "HardSwish": (), "Clip": (),
    "Silu": (), "Swish": (), "Gelu": (), "Mish": (), "Softmax": (), "LogSoftmax": (),
}  # fmt: skip


def waiting(model: ir.Model) -> Iterator[tuple[ir.Node, Form]]:
    """The nodes of a model that have a form, in order."""
    for node in model.graph:
        domain = "" if node.domain == "ai.onnx" else node.domain
        if made := FORMS.get((domain, node.op_type)):
            yield node, made


__all__ = [
    "BEFORE", "FORMER", "FORMS", "MICROSOFT", "Form", "Inputs", "Made", "ShapeUnknownError",
    "activated", "attributes", "channels_back", "channels_first", "depends_on_inputs", "form",
    "optional", "rank", "refuse", "waiting",
]  # fmt: skip
