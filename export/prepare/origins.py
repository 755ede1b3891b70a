"""What makes each stretch of a tensor's axis: back over all that only moves numbers about."""

from __future__ import annotations

import dataclasses
import math

import onnx_ir as ir

from ..graph.shapes import dims
from ..graph.values import args, attribute, constant
from .tails import RENAMES


@dataclasses.dataclass(frozen=True)
class Origin:
    """A range of a tensor's axis, made there by something that computes.

    Attributes:
        value: the tensor.
        axis: of it.
        start: where the range begins.
        length: how long it is.
    """

    value: ir.Value
    axis: int
    start: int
    length: int

    @property
    def operator(self) -> str:
        """The kind of node that makes it; empty for inputs and initializers."""
        node = self.value.producer()
        return "" if node is None else node.op_type

    @property
    def whole(self) -> bool:
        """Whether it is all of the axis."""
        shape = dims(self.value) or ()
        return self.start == 0 and shape[self.axis : self.axis + 1] == (self.length,)


Stretch = tuple[Origin, ...]
"""The origins of one range of an axis: several where other axes join tensors, such as a detector's
levels; all have the same length."""


def stretches(value: ir.Value, axis: int, start: int, length: int) -> list[Stretch]:
    """What makes a range of an axis, in order; their lengths add up to that of the range."""
    here: list[Stretch] = [(Origin(value, axis, start, length),)]
    node = value.producer()
    if node is None or not args(node) or args(node)[0] is None:
        return here
    x = args(node)[0]
    if node.op_type == "Concat":
        return _joined(node, value, axis, start, length) or here
    if node.op_type in ("Split", "Slice"):
        first = _first(node, value, axis)
        return here if first is None else stretches(x, axis, start + first, length)
    if node.op_type not in RENAMES:
        return here
    before = _axis_before(node, axis)
    return here if before is None else stretches(x, before, start, length)


def _joined(
    node: ir.Node, value: ir.Value, axis: int, start: int, length: int
) -> list[Stretch] | None:
    """Through a Concat; None where what it joins is not divided alike."""
    rank = len(dims(value) or ())
    if rank and attribute(node, "axis") % rank != axis:
        levels = [stretches(x, axis, start, length) for x in args(node)]
        divided = {tuple(stretch[0].length for stretch in level) for level in levels}
        if len(divided) > 1:
            return None
        return [sum(level, ()) for level in zip(*levels, strict=True)]
    found: list[Stretch] = []
    at = 0
    for x in args(node):
        own = (dims(x) or ())[axis : axis + 1]
        if not own or own[0] is None:
            return None
        begin, end = max(start, at), min(start + length, at + own[0])
        if begin < end:
            found += stretches(x, axis, begin - at, end - begin)
        at += own[0]
    return found or None


def _first(node: ir.Node, value: ir.Value, axis: int) -> int | None:
    """Where an output of a Split or Slice begins in its input's axis; None where none is sure."""
    rank = len(dims(args(node)[0]) or ())
    if not rank:
        return None
    if node.op_type == "Split":
        if attribute(node, "axis", 0) % rank != axis:
            return 0
        before = node.outputs[: list(node.outputs).index(value)]
        lengths = [(dims(y) or ())[axis : axis + 1] for y in before]
        if any(not n or n[0] is None for n in lengths):
            return None
        return sum(n[0] or 0 for n in lengths)
    given = [constant(x) if x is not None else None for x in node.inputs[1:]]
    if len(given) < 2 or any(x is None for x in given):
        return None
    starts = [int(n) for n in given[0].ravel()]  # type: ignore[union-attr]
    axes = [int(n) % rank for n in given[2].ravel()] if len(given) > 2 else range(len(starts))  # type: ignore[union-attr]
    steps = [int(n) for n in given[3].ravel()] if len(given) > 3 else [1] * len(starts)  # type: ignore[union-attr]
    own = (dims(args(node)[0]) or ())[axis]
    for begin, cut, step in zip(starts, axes, steps, strict=True):
        if cut == axis:
            if step != 1 or own is None:
                return None
            return min(begin if begin >= 0 else max(begin + own, 0), own)
    return 0


def _axis_before(node: ir.Node, axis: int) -> int | None:
    """Which axis of what a node only renames is this one of its output; None where none is."""
    x, y = args(node)[0], node.outputs[0]
    if node.op_type in ("Identity", "Cast", "Dropout"):
        return axis
    if node.op_type == "Transpose":
        rank = len(dims(y) or ())
        return int(attribute(node, "perm", list(reversed(range(rank))))[axis])
    before, after = dims(x), dims(y)
    if before is None or after is None or after[axis] is None:
        return None
    for i, length in enumerate(before):
        if length == after[axis] and (
            _as_many(before[:i], after[:axis]) or _as_many(before[i + 1 :], after[axis + 1 :])
        ):
            return i
    return None


def _as_many(some: tuple[int | None, ...], others: tuple[int | None, ...]) -> bool:
    """Whether axes hold as many numbers as others do; a free length is that of the batch."""
    known = [math.prod(d for d in shape if d is not None) for shape in (some, others)]
    return known[0] == known[1] and some.count(None) == others.count(None) <= 1


__all__ = ["Origin", "Stretch", "stretches"]
