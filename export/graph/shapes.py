"""Shapes as a choice between tensors needs them, and what a tensor is computed from."""

from __future__ import annotations

import onnx_ir as ir

from .values import Shape


def classes_of(shape: Shape | None) -> int | None:
    """How many classes a tensor of that shape has scores of; None where it holds no scores.

    One length, the batch's, is free (or the first, fixed); all others but one are 1; no length over
    1 may lie before the batch's.
    """
    if not shape or shape.count(None) > 1:
        return None
    batch = shape.index(None) if None in shape else 0
    wide = [(i, d) for i, d in enumerate(shape) if i != batch and d != 1]
    if len(wide) > 1 or (wide and wide[0][0] < batch):
        return None
    return wide[0][1] if wide else 1


def dims(value: ir.Value) -> Shape | None:
    """A tensor's shape, None for free lengths; None where not even the rank is known."""
    if value.shape is None:
        return None
    return tuple(d if isinstance(d, int) else None for d in value.shape)


def ancestors(value: ir.Value) -> set[ir.Value]:
    """All tensors that one is computed from, itself left out."""
    found: set[ir.Value] = set()
    stack = [value]
    while stack:
        node = stack.pop().producer()
        for x in node.inputs if node is not None else ():
            if x is not None and x not in found:
                found.add(x)
                stack.append(x)
    return found


def shown(shape: Shape | None) -> str:
    """A shape as people write it; free lengths as N, then ?."""
    if shape is None:
        return "[of unknown shape]"
    first = shape.index(None) if None in shape else -1
    return f"[{', '.join('N' if i == first else str(d or '?') for i, d in enumerate(shape))}]"


__all__ = ["ancestors", "classes_of", "dims", "shown"]
