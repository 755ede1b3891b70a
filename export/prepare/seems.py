"""What a model that is no classifier seems to be, said in a line."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from ...runtime.errors import ModelError
from ..graph.shapes import dims, shown
from ..graph.values import FLOATS
from .heads import MANY, is_selecting, joins_places
from .objectness import PLACE
from .tails import trace


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
    if any(is_selecting(node) for node in graph):
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
        if len(shape := dims(value) or ()) == 3 and shape[-1] != 6 and joins_places(value):
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


__all__ = ["no_classifier"]
