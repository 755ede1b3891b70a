"""Detectors whose boxes have a score of their own: YOLOv3 to v7, YOLOX, [N, A, 4+1+C].

Five numbers come before those of the classes: where a box is, and whether it is one, which
multiplies the probabilities of its classes. YOLOv8 and later have no such number, and their heads
look the same otherwise: what the numbers are made by tells them apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx_ir as ir

from ...runtime.errors import OptionError
from ..graph.shapes import dims, shown
from ..graph.values import args
from .origins import Origin, Stretch, stretches
from .tails import RENAMES

PLACE = 4  # numbers that say where a box is
_MOVES = (*RENAMES, "Split", "Slice")
_ARITHMETIC = ("Mul", "Add", "Sub", "Div", "Pow", "Neg", "Concat", *_MOVES)


def rated(output: ir.Value, axis: int, labels: int | None) -> int | None:
    """How many classes each box has, if it has a score of its own before them.

    Args:
        output: [N, boxes, numbers] or [N, numbers, boxes], its shape known.
        axis: that of the numbers.
        labels: how many labels there are; None: nobody said.

    Returns:
        The classes; None where there is no such head, or no such score.

    Raises:
        OptionError: it may be a class as well.
    """
    count = (dims(output) or ())[axis] or 0
    parts = stretches(output, axis, 0, count)
    lengths = [part[0].length for part in parts]
    place = next((i for i in range(len(parts)) if sum(lengths[: i + 1]) == PLACE), None)
    if place is None or place + 1 == len(parts):
        return None
    places, rest = parts[: place + 1], parts[place + 1 :]
    if rest[0][0].length == 1 and all(_constant(origin) for origin in rest[0]):
        return sum(part[0].length for part in _probabilities(rest[1:])) or None  # YOLOv6: all are 1
    run = _probabilities(rest)
    total = sum(part[0].length for part in run)
    if total < 2 or labels == total:
        return None
    if labels == total - 1 or run[0][0].length == 1 or _anchored(places, run):
        return total - 1
    if axis == 1 or _own_layer(run):
        return None
    raise OptionError(
        f"{output.name} {shown(dims(output))} is the head of a detector with the scores of "
        f"{total} classes (as YOLOv8's) or with a score of each box and those of {total - 1} "
        "classes (as YOLOv5's), and nothing says which.",
        "give --labels, the names of the classes: their number says it.",
    )


def _constant(origin: Origin) -> bool:
    node = origin.value.producer()
    if node is None:
        return origin.value.const_value is not None
    filled = node.op_type == "Expand" and args(node)[0].const_value is not None
    return filled or node.op_type == "ConstantOfShape"


def _probabilities(parts: Sequence[Stretch]) -> list[Stretch]:
    """The first stretches of these that a Sigmoid makes."""
    other = (
        i for i, part in enumerate(parts) if any(origin.operator != "Sigmoid" for origin in part)
    )
    return list(parts[: next(other, len(parts))])


def _anchored(places: Iterable[Stretch], run: Iterable[Stretch]) -> bool:
    """Whether places come of Sigmoids of the tensor that the scores come of.

    So it is where one layer says all of a box from an anchor; each such detector has a score of
    the box.
    """
    layers = {_before_moves(origin.value) for part in run for origin in part}
    waiting, seen = [origin.value for part in places for origin in part], set()
    while waiting:
        value = waiting.pop()
        node = value.producer()
        if node is None or value in seen:
            continue
        seen.add(value)
        if node.op_type == "Sigmoid" and _before_moves(value) in layers:
            return True
        if node.op_type in _ARITHMETIC:
            waiting += [x for x in node.inputs if x is not None]
    return False


def _before_moves(probabilities: ir.Value) -> ir.Value:
    """The tensor that a Sigmoid's input is a part of."""
    node = probabilities.producer()
    while node is not None and node.op_type in ("Sigmoid", *_MOVES):
        probabilities = args(node)[0]
        node = probabilities.producer()
    return probabilities


def _own_layer(run: Iterable[Stretch]) -> bool:
    """Whether layers make these scores and nothing else: a box's own would have another layer."""
    origins = [origin for part in run for origin in part]
    return all(
        before.whole
        for origin in origins
        for part in stretches(_taken(origin), origin.axis, origin.start, origin.length)
        for before in part
    )


def _taken(origin: Origin) -> ir.Value:
    node = origin.value.producer()
    return origin.value if node is None else args(node)[0]


__all__ = ["PLACE", "rated"]
