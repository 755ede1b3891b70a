"""Models that are no classifiers: the head of a detector that can be taken, and what others are.

A YOLO head gives each of A boxes four numbers of its place and one score for each of C classes,
[N, 4+C, A]; older ones have a score of the box between them (objectness.py). As an image's score of
a class counts the largest over its boxes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable

import onnx_ir as ir

from ...runtime.errors import ModelError
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
    if _joins_places(tail.scores):
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


def _joins_places(value: ir.Value) -> bool:
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
    return any(node is not None and _selects(node, _SELECT) for node in nodes)


def _selects(node: ir.Node, kinds: Collection[str]) -> bool:
    name = node.op_type.lower()
    if node.op_type in kinds or any(word in name for word in _SELECTS_NAMED):
        return True
    bodies = [a.value for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH]
    return any(_selects(inner, kinds) for body in bodies for inner in body)


def no_classifier(graph: ir.Graph, inner: Iterable[str] = ()) -> ModelError:
    """The error for a model none of whose outputs holds class scores.

    Args:
        graph: the model.
        inner: names of tensors inside it that have the shape of scores.
    """
    listed = ", ".join(f"{v.name} {shown(dims(v))}" for v in graph.outputs)
    what, fix = _seems(graph)
    names = list(inner)
    if names:
        fix += f" To explain a tensor inside the model: --output-name {' or '.join(names)}."
    return ModelError(f"no output holds class scores [N, classes], but {listed}: {what}.", fix)


def _seems(graph: ir.Graph) -> tuple[str, str]:
    """What a model seems to be, and what to do."""
    give = "give an image classifier."
    if any(_selects(node, ()) for node in graph):
        return (
            "it seems to be a detector that selects its boxes itself (NonMaxSuppression)",
            "give an image classifier, or the detector exported without it (nms=False): the class "
            "scores of a YOLO head [N, 4+C, boxes] can be explained.",
        )
    starts = [(str(v.name), trace(v, ()).start) for v in graph.outputs]  # before an ArgMax
    shapes = [(name, dims(v) or ()) for name, v in starts if v.dtype in FLOATS]
    if not shapes:
        return "none of them is a float tensor that comes from the image", give
    if any(len(shape) == 2 and None in shape[1:] for _, shape in shapes):
        return (
            "how many classes there are cannot be inferred",
            "pin the image with --size HEIGHTxWIDTH, or simplify the model with onnxsim first.",
        )
    size = [d for d in dims(graph.inputs[0]) or () if d is not None]
    if len({shape[2:] for _, shape in shapes if len(shape) == 4}) > 1:
        return (
            "it seems to return feature maps of several sizes: a detector's, or a backbone's",
            give,
        )
    for name, value in starts:
        if len(shape := dims(value) or ()) == 3 and shape[-1] != 6 and _joins_places(value):
            count = max(d or 0 for d in shape)
            return f"it seems to be a detector ({name}: places and scores of {count} boxes)", (
                "give an image classifier, or a detector whose head is [N, 4+C, boxes], as that of "
                "YOLOv8 and later, or [N, boxes, 5+C], with the places decoded and the scores as "
                "results of a Sigmoid, as that of YOLOv5."
            )
    for seems in (_detector, _planes, _rows):
        for name, shape in shapes:
            if (what := seems(name, shape, size)) is not None:
                return what, give if "detector" not in what else (
                    "give an image classifier, or name the class scores of the boxes, [N, C, "
                    "boxes] or [N, boxes, C], with --output-name: the largest is explained."
                )
    return "these are no scores of classes", give


def _detector(name: str, shape: tuple[int | None, ...], size: list[int]) -> str | None:
    if len(shape) == 3 and shape[0] is None and shape[-1] == 6 and (shape[1] or 0) >= MANY:
        return f"it seems to be a detector ({name}: places, score and class of selected boxes)"
    rows = [d for d in shape[1:] if d is not None]
    if len(size) == 3 and rows in (size[1:], size[:2]):  # one number per pixel
        return None
    if len(shape) == 3 and PLACE in rows:
        return f"it seems to be a detector ({name}: the places of boxes)"
    if len(rows) == 2 == len(shape) - 1 and _is_grid(max(rows), size) and min(rows) > PLACE:
        return f"it seems to be a detector ({name}: places and scores of {max(rows)} boxes)"
    if len(shape) == 5 or _boxes_by_name(name):
        return f"it seems to be a detector ({name}: boxes)"
    return None


def _is_grid(boxes: int, size: list[int]) -> bool:
    """Whether that many boxes are those of cells of 8, 16 and 32 pixels, or simply many."""
    area = size[-1] * size[-2] if len(size) > 1 else 0
    cells = sum(area // step**2 for step in (8, 16, 32))
    return boxes >= 20 * MANY or boxes in (cells, 3 * cells)


def _boxes_by_name(name: str) -> bool:
    """Whether a name is that of boxes."""
    return any(word in name.lower() for word in ("box", "anchor"))


def _planes(name: str, shape: tuple[int | None, ...], size: list[int]) -> str | None:
    if len(shape) == 3 and len(size) == 3 and list(shape[1:]) in (size[1:], size[:2]):
        return f"it seems to be a segmenter or a depth estimator ({name}: one number per pixel)"
    if len(shape) != 4 or not size:
        return None
    last = shape[-1] is not None and shape[1] == shape[2] != shape[3]
    channels, plane = (shape[3], shape[1:3]) if last else (shape[1], shape[2:])
    largest = max(d or 0 for d in plane)
    if None in plane or max(size) >= 8 * largest:
        return f"it seems to return feature maps ({name}), without a classification head"
    if largest > max(size) or (channels == 3 and largest == max(size)):
        return f"it seems to make images of images ({name})"
    if channels == 1:
        return f"it seems to be a segmenter or a depth estimator ({name}: one number per pixel)"
    return f"it seems to be a segmenter ({name}: scores of {channels} classes per pixel)"


def _rows(name: str, shape: tuple[int | None, ...], size: list[int]) -> str | None:
    if len(shape) != 3:
        return None
    return (
        f"{name} has {shape[1] or 'some'} rows of {shape[2] or 'some'} numbers for an image: "
        "several sets of scores, or a transformer's tokens before its classification head"
    )


__all__ = ["Head", "named", "no_classifier", "places", "selects", "yolo"]
