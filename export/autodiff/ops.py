"""What a rule emits with: operators, and the axis of the classes explained.

Gradients carry one leading axis K, the classes explained: the gradient of a tensor of shape S has
shape [K, *S]. Forward tensors have no such axis, and because ONNX broadcasts from the right,
``g * mask`` serves all K classes at once. Rules therefore count axes from the end. Operators with
a batch axis of their own (Conv, pooling) take ``op.fold(g)``: [K, N, ...] -> [K*N, ...].

The verbs of a rule, besides every ONNX operator (``op.Mul(a, b)``):

| verb | what comes out |
|---|---|
| ``op.const`` | a constant |
| ``op.reshape(g, like)`` | g in the shape [K, *like's] |
| ``op.shape(like)`` | that shape, for operators that take one |
| ``op.fold(g, like)``, ``op.unfold(v, like)`` | K in the batch axis, and out of it |
| ``op.expand(g, like, axes)`` | g repeated along axes that the operator reduced |
| ``op.sum_to(g, have, want)`` | g summed over axes that the operator broadcast |
| ``op.full(number, like)`` | a gradient that is the same everywhere |
| ``op.for_each_class(v)`` | a forward tensor repeated K times |
| ``op.as_float(v)`` | the numbers of a quantised tensor |

Masks (``gate``, ``step``, ``inside``) are in masks.py, adjoints of taking elements (``scatter``,
``pad``, ``along``, ``add_at``) in adjoints.py.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple, cast

import onnx_ir as ir

from ..graph.emitter import Emitter
from ..graph.rewrites import PORTABLE
from ..graph.values import QUANTISED, Shape, shape_of, static
from .rectifiers import Rectifiers


class Taken(NamedTuple):
    """A gradient of slices of a tensor, before it was put back among zeros (adjoints.py).

    Attributes:
        g: gradient of the slices.
        indices: which slices, along the axis; all different.
        n: length of the axis.
        axis: of the forward tensor.
        others: lengths of the forward tensor's other axes.
    """

    g: ir.Value
    indices: tuple[int, ...]
    n: int
    axis: int
    others: Shape


class Ops(Emitter):
    """An emitter whose values may carry the leading axis K.

    Values also add, subtract, multiply and divide (``g * (1 - y)``) while the engine runs. The
    engine sets ``dtype`` to the node's.

    Attributes:
        lead: int64 [1] tensor holding K.
        rectifiers: the backward rule of ReLU and its like, and those met so far.
        taken: gradients that are zero but for some slices.
    """

    def __init__(
        self,
        graph: ir.Graph,
        lead: ir.Value | int,
        prefix: str = "backward",
        on: Collection[str] = PORTABLE,
        rectifiers: Rectifiers | None = None,
    ) -> None:
        super().__init__(graph, prefix, on)
        self.rectifiers = rectifiers or Rectifiers()
        self.taken: dict[ir.Value, Taken] = {}
        self._folded: dict[ir.Value, ir.Value] = {}
        self._small: dict[ir.Value, ir.Value] = {}  # before they were expanded
        self.lead = self.const([lead]) if isinstance(lead, int) else lead

    def begin(self, seed: ir.Value, target: ir.Value) -> ir.Value:
        """The upstream gradient [K, *target's shape] as the engine starts with it."""
        return seed

    def shape(self, like: ir.Value) -> ir.Value:
        """The shape [K, *like's] as Reshape takes it: int64, -1 for one unknown length."""
        dims = [-1 if d is None else d for d in shape_of(like)]
        if dims.count(-1) > 1:
            return self.Concat(self.lead, self.Shape(like), axis=0)
        return self.Concat(self.lead, dims, axis=0) if dims else self.lead

    def reshape(self, g: ir.Value, like: ir.Value) -> ir.Value:
        """Give ``g`` ([K, ...]) the shape [K, *like's]."""
        dims = [-1 if d is None else d for d in shape_of(like)]
        target = [0, *dims] if dims.count(-1) <= 1 else self.shape(like)  # 0 keeps K
        return self.Reshape(g, target)

    def fold(self, g: ir.Value, like: ir.Value) -> ir.Value:
        """[K, N, ...] -> [K*N, ...], ``like`` being the forward tensor ([N, ...])."""
        if g not in self._folded:
            self._folded[g] = self.Reshape(g, [-1, *static(like, 1)])
        return self._folded[g]

    def unfold(self, v: ir.Value, like: ir.Value) -> ir.Value:
        """[K*N, ...] -> [K, N, ...], ``like`` being the forward tensor ([N, ...])."""
        target = self.Concat(self.lead, [-1, *static(like, 1)], axis=0)
        g = self.Reshape(v, target)
        self._folded[g] = v
        return g

    def expand(self, g: ir.Value, like: ir.Value, axes: Sequence[int]) -> ir.Value:
        """Repeat ``g`` along the given axes (of ``like``, not negative) to the length they have."""
        dims = [d if i in axes else 1 for i, d in enumerate(shape_of(like))]
        if None in dims:  # the operator reduced the batch itself
            return self.Expand(g, self.Shape(like))
        whole: ir.Value = self.Expand(g, cast("list[int]", dims))
        self._small[whole] = g
        return whole

    def total(self, parts: Sequence[ir.Value]) -> ir.Value:
        """The sum of gradients of one tensor; what was expanded is so by the addition."""
        if len(parts) == 1:
            return parts[0]
        small = [self.before_expand(g) for g in parts]
        if all(g in self._small for g in parts):
            small[0] = parts[0]
        total: ir.Value = self.Add(*small) if len(small) == 2 else self.Sum(*small)
        return total

    def sum_to(self, g: ir.Value, have: Shape, want: Shape) -> ir.Value:
        """Undo broadcasting: sum ``g`` ([K, *have]) where ``want`` lacks an axis or has 1."""
        extra = len(have) - len(want)
        axes = [i for i in range(len(have)) if i < extra or (want[i - extra] == 1 != have[i])]
        if axes:
            g = self.ReduceSum(g, [i + 1 for i in axes], keepdims=1)
        return self.Squeeze(g, [i + 1 for i in range(extra)]) if extra else g

    def full(self, value: float, like: ir.Value) -> ir.Value:
        """A gradient of shape [K, *like's], the same number everywhere."""
        return self.Expand(value, self.Concat(self.lead, self.Shape(like), axis=0))

    def before_expand(self, g: ir.Value) -> ir.Value:
        """What was expanded to ``g``, for operators that broadcast anyway; else ``g``."""
        return self._small.get(g, g)

    def for_each_class(self, v: ir.Value) -> ir.Value:
        """A forward tensor repeated along the leading axis, for operators that do not broadcast."""
        return self.Expand(v, self.Concat(self.lead, self.Shape(v), axis=0))

    def as_float(self, v: ir.Value) -> ir.Value:
        """A quantised tensor's numbers as floats (floats are passed through)."""
        if v.dtype not in QUANTISED:
            return v
        number: ir.Value = self.Cast(v, to=int(self.dtype))
        number.dtype, number.shape = self.dtype, v.shape
        return number
