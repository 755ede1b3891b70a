"""The backward pass with the classes inside the batch axis, for engines that like rank 4.

Rules see gradients [K, N, ...] and forward tensors [N, ...]. Behind them, what is emitted on such a
gradient is emitted on [K*N, ...] wherever the operator allows, the forward tensor repeated K times
(with K = 1 that is nothing, and engines drop it). A Reshape to [K, N, ...] comes along and is dead
unless somebody needs it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import shape_inference

from ...runtime.contract import Relu
from ..graph.values import BATCH, constant
from .ops import Ops
from .rectifiers import Rectifiers

_ELEMENTWISE = frozenset({
    "Abs", "Add", "And", "Cast", "Clip", "Div", "Equal", "Exp", "Greater", "HardSigmoid",
    "Identity", "LeakyRelu", "Less", "Max", "Min", "Mul", "Neg", "Not", "Or", "Pow", "Relu",
    "Sigmoid", "Sign", "Sqrt", "Sub", "Sum", "Tanh", "Where",
})  # fmt: skip
_BY_AXES = {
    "Slice": 3,
    "ReduceMax": 1,
    "ReduceMean": 1,
    "ReduceSum": 1,
    "Squeeze": 1,
    "Unsqueeze": 1,
}
"""Operator -> which input holds its axes."""

Values = list[ir.Value | None]


@dataclasses.dataclass(frozen=True)
class Facts:
    """Type and shape of a tensor; None for the batch, which can only come first."""

    dtype: ir.DataType
    shape: tuple[int | None, ...]

    def proto(self) -> onnx.TypeProto:
        """As onnx's shape inference takes it."""
        dims = [BATCH if d is None else d for d in self.shape]
        return onnx.helper.make_tensor_type_proto(int(self.dtype), dims)


def emitter(
    graph: ir.Graph,
    lead: ir.Value | int,
    on: Collection[str],
    prefix: str = "backward",
    relu: Relu = "gradient",
) -> Ops:
    """What rules emit with, as the rewrites say."""
    kind = MergedOps if "merged-classes" in on else Ops
    return kind(graph, lead, prefix, on, Rectifiers(relu))


class MergedOps(Ops):
    """As ``Ops``; ``_folded`` holds the merged form [K*N, ...] of every gradient that has one."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._known: dict[ir.Value, Facts | None] = {}

    def begin(self, seed: ir.Value, target: ir.Value) -> ir.Value:
        """The seed, merged if its target has a batch axis."""
        if _batched(self._facts(target)):
            self.fold(seed, target)
        return seed

    def unfold(self, v: ir.Value, like: ir.Value) -> ir.Value:
        """[K*N, ...] -> [K, N, ...], remembering the merged form."""
        if _batched(self._facts(like)):
            self._known[v] = self._facts(like)
        return super().unfold(v, like)

    def fold(self, g: ir.Value, like: ir.Value) -> ir.Value:
        """[K, N, ...] -> [K*N, ...]: what is there already, or a Reshape."""
        v = super().fold(g, like)
        if self._facts(v) is None:
            self._known[v] = self._facts(like)
        return v

    def emit(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        outputs: int,
        attributes: dict[str, Any],
    ) -> Sequence[ir.Value]:
        """Append a node, in the merged form where that exists."""
        if not any(x in self._folded for x in inputs if x is not None):
            made = super().emit(op_type, inputs, outputs, attributes)
            self._infer(made)
            return made
        merged = self._merged(op_type, list(inputs), attributes)
        if merged is None:
            return super().emit(op_type, inputs, outputs, attributes)
        values, attributes, is_gradient = merged
        made = super().emit(op_type, values, outputs, attributes)
        self._infer(made)
        return [self._apart(v) for v in made] if is_gradient else made

    def _apart(self, v: ir.Value) -> ir.Value:
        """The merged form as [K, N, ...]."""
        (rest,) = super().emit("Shape", [v], 1, {"start": 1})
        (dims,) = super().emit("Concat", [self.lead, self.const([-1]), rest], 1, {"axis": 0})
        (g,) = super().emit("Reshape", [v, dims], 1, {})
        self._folded[g] = v
        return g

    def _merged(
        self, op_type: str, inputs: Values, attributes: dict[str, Any]
    ) -> tuple[Values, dict[str, Any], bool] | None:
        """Inputs and attributes of the merged form, and whether a gradient comes out."""
        whole = [x if x is None else self._folded.get(x, x) for x in inputs]
        first = whole[0]
        if op_type == "Reshape":
            return self._reshape(whole)
        if op_type in _ELEMENTWISE:
            return self._elementwise(inputs, attributes)
        if first is None or inputs[0] not in self._folded:
            return None
        if op_type == "Pad" and len(inputs) < 4 and (pads := constant(inputs[1])) is not None:
            before, after = np.split(pads, 2)
            if before[0] or after[0]:
                return None
            whole[1] = self.const([*map(int, before[1:]), *map(int, after[1:])])
            return whole, attributes, True
        if op_type in _BY_AXES:
            at = _BY_AXES[op_type]
            axes = constant(inputs[at]) if len(inputs) > at else None
            if axes is None or any(a in (0, 1) or self._is_batch(first, int(a)) for a in axes):
                return None
            whole[at] = self.const([int(a) - 1 if a > 0 else int(a) for a in axes])
            return whole, attributes, True
        if op_type in ("Concat", "Split", "Gather"):
            gradients = inputs if op_type == "Concat" else inputs[:1]
            inside = attributes["axis"] < 0 and not self._is_batch(first, attributes["axis"])
            fits = inside and all(x in self._folded for x in gradients)
            return (whole, attributes, True) if fits else None
        if op_type == "Transpose" and list(attributes["perm"][:2]) == [0, 1]:
            return whole, {"perm": [a - 1 for a in attributes["perm"][1:]]}, True
        if op_type == "MatMul" and constant(inputs[1]) is not None:
            return whole, attributes, True
        if op_type == "Expand" and (dims := constant(inputs[1])) is not None:
            facts = self._facts(first)
            fits = facts is not None and len(dims) == len(facts.shape) and dims[0] == 1
            return (whole, attributes, True) if fits else None
        return None

    def _is_batch(self, merged: ir.Value, axis: int) -> bool:
        """Whether a negative axis of a merged form is, or may be, that of images and classes."""
        facts = self._facts(merged)
        return axis < 0 and (facts is None or axis <= -len(facts.shape))

    def _reshape(self, whole: Values) -> tuple[Values, dict[str, Any], bool] | None:
        target = constant(whole[1])
        if target is None:
            return None
        dims = [int(d) for d in target]
        if dims[0] == -1 and all(d > 0 for d in dims[1:]):
            return whole, {}, False  # into something else
        if dims[0] != 0 or len(dims) < 2 or dims[1] not in (0, -1):
            return None
        if dims[1] == -1 and not all(d > 0 for d in dims[2:]):
            return None
        whole[1] = self.const(dims[1:])
        return whole, {}, True

    def _elementwise(
        self, inputs: Values, attributes: dict[str, Any]
    ) -> tuple[Values, dict[str, Any], bool] | None:
        known = [self._facts(self._folded[x]) for x in inputs if x in self._folded]
        ranks = {0 if facts is None else len(facts.shape) for facts in known}
        rank = ranks.pop()
        if ranks or not rank:
            return None
        values: Values = []
        for x in inputs:
            if x is None or x in self._folded:
                values.append(x if x is None else self._folded[x])
                continue
            facts = self._facts(x)
            if facts is None or len(facts.shape) > rank:
                return None
            if len(facts.shape) == rank and _batched(facts):
                x = self._repeated(x, rank)
            elif _batched(facts) or (len(facts.shape) == rank and facts.shape[0] != 1):
                return None
            values.append(x)
        return values, attributes, True

    def _repeated(self, x: ir.Value, rank: int) -> ir.Value:
        """A forward tensor [N, ...], once for every class: [K*N, ...]."""
        key = ("repeated", x)
        if key not in self._constants:
            ones = self.const([1] * (rank - 1))
            (times,) = super().emit("Concat", [self.lead, ones], 1, {"axis": 0})
            (made,) = super().emit("Tile", [x, times], 1, {})
            self._constants[key], self._known[made] = made, self._facts(x)
        return self._constants[key]

    def _facts(self, value: ir.Value) -> Facts | None:
        """What is known of a tensor, whose first axis may be the batch and the others are fixed.

        Not written on what is emitted: in the merged form the batch is another number.
        """
        if value in self._known:
            return self._known[value]
        shape, dtype = value.shape, value.dtype
        if value.const_value is not None:
            const = value.const_value
            return Facts(const.dtype, tuple(int(d) for d in const.shape))  # type: ignore[arg-type]
        if shape is None or dtype is None or not all(isinstance(d, int) for d in shape[1:]):
            return None
        return Facts(dtype, tuple(d if isinstance(d, int) else None for d in shape))

    def _infer(self, made: Sequence[ir.Value]) -> None:
        """Find out the shapes of what a node makes."""
        node = made[0].producer()
        inputs = [] if node is None else [x for x in node.inputs if x is not None]
        facts = {str(x.name): self._facts(x) for x in inputs}
        types = {name: f.proto() for name, f in facts.items() if f is not None}
        if node is None or len(types) < len(facts):
            return
        data = {
            str(x.name): ir.serde.serialize_tensor(x.const_value)
            for x in inputs
            if x.const_value is not None and x.const_value.size < 1000
        }
        schema, proto = onnx.defs.get_schema(node.op_type, 20), ir.serde.serialize_node(node)
        try:
            found = shape_inference.infer_node_outputs(schema, proto, types, data)
        except shape_inference.InferenceError:
            return
        for value in made:
            tensor = found[str(value.name)].tensor_type
            dims = [d.dim_value or d.dim_param for d in tensor.shape.dim]
            if all(dims) and all(isinstance(d, int) for d in dims[1:]):
                lengths = tuple(d if isinstance(d, int) else None for d in dims)
                self._known[value] = Facts(ir.DataType(tensor.elem_type), lengths)


def _batched(facts: Facts | None) -> bool:
    return facts is not None and None in facts.shape


__all__ = ["MergedOps", "emitter"]
