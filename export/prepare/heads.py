"""The head of a detector that can be taken for a classifier's scores.

A YOLO head gives each of A boxes four numbers of its place and one score for each of C classes,
[N, 4+C, A]; older ones have a score of the box between them (objectness.py). As an image's score of
a class counts the largest over its boxes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable

import onnx_ir as ir

from ..graph.shapes import dims, shown
from ..graph.values import FLOATS, attribute
from .objectness import PLACE, rated
from .tails import RENAMES, Tail, trace

MANY = 20  # boxes, at least; a head of fewer is taken for something else
_SELECT = ("NonZero", "RoiAlign", "MaxRoiPool")  # then rows are boxes, not images
_SELECTS_NAMED = ("nonmaxsuppression", "nms", "detection")  # of plugins: EfficientNMS_TRT


@dataclasses.dataclass(frozen=True)
class Head:
    """The class scores of a detector's boxes.

    Attributes:
        output: the name of the tensor that has them.
        scores: their tensor, [N, C, A] or [N, A, C], unnormalised where possible; with
            ``classes`` it is the head itself.
        left_out: operators after it that make probabilities.
        box_axis: the axis of the boxes, 1 or 2.
        what: the head, in words.
        classes: how many, where the boxes have scores of their own; None: they have not.
        sure: whether these are scores; False: it may be something else.
    """

    output: str
    scores: ir.Value
    left_out: tuple[str, ...]
    box_axis: int
    what: str
    classes: int | None = None
    sure: bool = True

    @property
    def objectness(self) -> int | None:
        """Where a box's own score lies among its numbers; None: there is none."""
        return None if self.classes is None else PLACE

    @property
    def note(self) -> str:
        """What a user should hear of it."""
        product = "" if self.classes is None else " product of the two"
        return f"{self.what}; the score of a class is the largest{product} over all its boxes."


def yolo(graph: ir.Graph, source_names: Collection[str], labels: int | None) -> Head | None:
    """The head of a model that returns places and probabilities of boxes in one tensor.

    The evidence: along one axis four numbers come first, and then the results of a Sigmoid. Where
    others come then, it is not ``sure``.

    Raises:
        OptionError: a score of the box may come first, or none.
    """
    for output in graph.outputs:
        head = _rated(output, labels) or _place_and_scores(output, source_names)
        if head is not None:
            return head
    return None


def named(
    output: ir.Value,
    source_names: Collection[str],
    boxes: Collection[int] = (),
    labels: int | None = None,
) -> Head | None:
    """The head that a tensor of three axes is, where the user says that it holds the scores.

    Args:
        output: the tensor.
        source_names: tensors of the source graph.
        boxes: how many boxes the model has, as its outputs say.
        labels: how many labels there are; None: nobody said.

    Raises:
        OptionError: a score of the box may come first, or none.
    """
    whole = _rated(output, labels) or _place_and_scores(output, source_names)
    if whole is not None:
        return whole
    tail = trace(output, source_names)
    shape = dims(tail.scores)
    if joins_places(tail.scores):
        return None
    if shape is None or len(shape) != 3 or None in shape[1:] or tail.scores.dtype not in FLOATS:
        return None
    first, second = shape[1] or 0, shape[2] or 0
    axis = 1 if first > second else 2
    if tail.axis in (1, 2):
        axis = 3 - tail.axis
    elif (first in boxes) != (second in boxes):
        axis = 1 if first in boxes else 2
    elif max(first, second) < max(MANY, 2 * min(first, second)):
        return None
    classes, count = shape[3 - axis], shape[axis]
    what = f"{output.name} {shown(shape)} has the scores of {classes} classes for {count} boxes"
    return Head(str(output.name), tail.scores, tail.left_out, axis, what)


def places(graph: ir.Graph) -> set[int]:
    """How many boxes a model's outputs [N, boxes, 4] and [N, 4, boxes] have."""
    shapes = [shape for v in graph.outputs if (shape := dims(v)) is not None and len(shape) == 3]
    pairs = [(shape[i], shape[3 - i]) for shape in shapes for i in (1, 2)]
    return {count for count, four in pairs if four == PLACE and count is not None}


def joins_places(value: ir.Value) -> bool:
    """Whether four numbers of a place come before other numbers, as in the heads of YOLOv5."""
    while (node := value.producer()) is not None and node.op_type in (*RENAMES, "Concat"):
        parts = [x for x in node.inputs if x is not None]
        if node.op_type == "Concat" and parts:
            axis = attribute(node, "axis") % max(len(dims(value) or ()), 1)
            rows = [_row(part, axis) for part in parts]
            if any(sum(rows[:i]) == PLACE for i in range(1, len(rows))):
                return True
        value = parts[0]
    return False


def _rated(output: ir.Value, labels: int | None) -> Head | None:
    """The head of boxes with scores of their own."""
    shape, name = dims(output) or (), str(output.name)
    for axis in (2, 1) if len(shape) == 3 and output.dtype in FLOATS else ():
        boxes = shape[3 - axis]
        if shape[axis] is None or boxes is None or boxes < MANY:
            continue
        if (classes := rated(output, axis, labels)) is not None:
            what = (
                f"{name} {shown(shape)} is the head of a detector: the places of {boxes} boxes, a "
                f"score of each, and those of {classes} classes"
            )
            return Head(name, output, (), 3 - axis, what, classes)
    return None


def _place_and_scores(output: ir.Value, source_names: Collection[str]) -> Head | None:
    shape, at = dims(output), output
    while (node := at.producer()) is not None and node.op_type in ("Identity", "Cast", "Transpose"):
        if node.op_type == "Transpose" and list(attribute(node, "perm", [])) != [0, 2, 1]:
            return None
        if (x := node.inputs[0]) is None:
            return None
        at = x
    if node is None or node.op_type != "Concat" or shape is None or len(shape) != 3:
        return None
    axis = attribute(node, "axis") % 3
    parts = _parts(node, axis)
    rows = [_row(part, axis) for part in parts]
    place = next((i for i in range(len(rows)) if sum(rows[: i + 1]) == PLACE), None)
    if axis == 0 or place is None or place + 1 >= len(parts) or 0 in rows:
        return None
    boxes = (dims(at) or ())[3 - axis]
    if boxes is None or boxes < MANY:
        return None
    part = parts[place + 1]
    tail: Tail = trace(part, source_names)
    if rows[place + 1 :] == [1, 1]:  # one score and the number of a class: selected boxes
        return None
    after = parts[place + 2] if place + 2 < len(parts) else None
    if rows[place + 1] == 1 and after is not None and trace(after, source_names).left_out:
        return None  # YOLOv5's: a box's own score comes before those of its classes
    classes, name = rows[place + 1], str(output.name)
    what = (
        f"{name} {shown(shape)} is the head of a detector: the places of {boxes} boxes and "
        f"the scores of {classes} classes"
    )
    if tail.left_out and dims(tail.scores) == dims(part) and tail.axis in (None, axis):
        return Head(name, tail.scores, tail.left_out, 3 - axis, what)
    if part.name in source_names:
        return Head(name, part, (), 3 - axis, what, sure=False)
    return None


def _parts(node: ir.Node, axis: int) -> list[ir.Value]:
    """What a Concat joins, Concats along the same axis taken apart."""
    found: list[ir.Value] = []
    for x in node.inputs:
        made = None if x is None else x.producer()
        if made is not None and made.op_type == "Concat" and attribute(made, "axis") % 3 == axis:
            found += _parts(made, axis)
        elif x is not None:
            found.append(x)
    return found


def _row(value: ir.Value, axis: int) -> int:
    """The length of an axis; 0 where it is not known."""
    shape = dims(value)
    return (shape[axis] or 0) if shape is not None and len(shape) > axis else 0


def selects(nodes: Iterable[ir.Node | None]) -> bool:
    """Whether some of these nodes select boxes, within branches and loops too."""
    return any(node is not None and is_selecting(node, _SELECT) for node in nodes)


def is_selecting(node: ir.Node, kinds: Collection[str] = ()) -> bool:
    """Whether a node is of these kinds, or suppresses boxes by its name; or one inside it is."""
    name = node.op_type.lower()
    if node.op_type in kinds or any(word in name for word in _SELECTS_NAMED):
        return True
    bodies = [a.value for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH]
    return any(is_selecting(inner, kinds) for body in bodies for inner in body)


__all__ = [
    "MANY", "Head", "is_selecting", "joins_places", "named", "places", "selects", "yolo",
]  # fmt: skip
