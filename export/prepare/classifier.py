"""From an ONNX model to a normalised graph with its image input and its scores found."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import cast

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from ...runtime.contract import Precision, Score
from ...runtime.errors import ModelError
from ..autodiff.backward import path
from ..autodiff.ops import Ops
from ..graph.protos import with_outputs
from ..graph.values import BATCH, FLOATS, static
from ..graph.weights import attach, detach
from . import normalise, scores
from .heads import places
from .image_layout import is_nhwc
from .scores import Choice, known_name


def prepare(
    source: ir.Model,
    size: tuple[int, int] | None,
    output_name: str | None = None,
    labels: int | None = None,
    score: Score | None = None,
) -> tuple[ir.Model, ir.Value, ir.Value, Choice]:
    """Normalise a classifier.

    Args:
        source: the classifier; stays as it is.
        size: height and width in pixels, where it leaves them open.
        output_name: the tensor that holds the scores; None: the evidence decides (scores.py).
        labels: how many classes have labels; None: nobody said.
        score: what an earlier export chose, to choose it again; None: there was none.

    Returns:
        A new model; its image input, float32 [N, C, H, W] whatever the source takes; its
        unnormalised scores, one number per class; and how they were chosen.

    Raises:
        ModelError: no input is an image, no output holds scores.
        OptionError: several outputs could hold them; no tensor bears the name.
    """
    names = {str(y.name) for node in source.graph for y in node.outputs}
    boxes = places(source.graph)
    if score is not None and score.tensor in names:
        source = cut(source, score.tensor)
    elif output_name is not None:
        source = cut(source, known_name(source.graph, output_name))
    model = normalise.modernise(source)
    image = _image_input(model, size)
    normalise.free_batch(model, image)
    _as_float32_nchw(model, image)
    chosen: list[Choice] = []

    def locate(model: ir.Model) -> normalise.Ends:
        (image,) = model.graph.inputs
        if not chosen:
            if score is not None and score.tensor in names:
                made = _as_before(model.graph.outputs[0], score)
            elif output_name is not None:
                made = scores.named(model.graph.outputs[0], names, boxes, labels)
            else:
                made = scores.choose(model, image, names, labels)
            if made.scores.shape is None:  # of an operator that has yet to be expanded
                return image, made.scores
            chosen.append(made)
            model.graph.outputs[:] = [made.scores]  # no other output matters from here on
            RemoveUnusedNodesPass()(model)
        return image, model.graph.outputs[0]

    model, (image, found) = normalise.settle(model, locate)
    normalise.share(model)  # before feature maps are named: one of two equal ones goes
    choice = dataclasses.replace(chosen[0], scores=found) if chosen else Choice(found)
    without_nan(model)
    without_chance(model)
    return model, image, per_class(model.graph, choice), choice


def cut(source: ir.Model, name: str) -> ir.Model:
    """The same model with one tensor for its output."""
    whole = detach(source)
    return attach(with_outputs(whole.proto, [name]), whole.weights)


def _as_before(scores: ir.Value, score: Score) -> Choice:
    """What an earlier export chose, of the tensor that it found."""
    return Choice(
        scores, score.left_out, score.box_axis, objectness=score.objectness, classes=score.classes
    )


def per_class(graph: ir.Graph, choice: Choice) -> ir.Value:
    """The scores of an image, where the tensor has those of boxes: the largest of each class.

    Where boxes have a score of their own too, it multiplies those of their classes.
    """
    if choice.box_axis is None:
        return choice.scores
    op, axis = Ops(graph, 1, prefix="scores"), choice.box_axis
    op.dtype = choice.scores.dtype or ir.DataType.FLOAT
    each, (first, second) = choice.scores, static(choice.scores, 1)
    boxes, count = (first, second) if axis == 1 else (second, first)

    def known(value: ir.Value, *dims: int) -> ir.Value:
        value.dtype, value.shape = op.dtype, ir.Shape([BATCH, *dims])
        return value

    def part(start: int, length: int) -> ir.Value:
        rows = (boxes, length) if axis == 1 else (length, boxes)
        return known(op.Slice(choice.scores, [start], [start + length], [3 - axis]), *rows)

    if choice.objectness is not None and choice.classes is not None:
        own, count = part(choice.objectness, 1), choice.classes
        classes = part(choice.objectness + 1, count)
        each = known(op.Mul(own, classes), *static(classes, 1))
    found = known(op.ReduceMax(each, [axis], keepdims=0), count)
    graph.outputs[:] = [found]
    graph.sort()
    return found


def without_nan(model: ir.Model) -> None:
    """Refuse weights that are no numbers.

    Raises:
        ModelError: names the first one.
    """
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is None or tensor.dtype not in FLOATS or not tensor.size:
            continue
        numbers = tensor.numpy()
        if np.isnan(numbers.min()):  # the minimum of NaN and anything is NaN
            count = int(np.isnan(numbers).sum())
            raise ModelError(
                f"the weight {name!r} holds NaN, {count} of {numbers.size} numbers: so would every "
                "score and every map.",
                "give the classifier of an earlier checkpoint, or export it again; this file is "
                "spoilt.",
            )


def without_chance(model: ir.Model) -> None:
    """Refuse scores that are others in every run.

    Raises:
        ModelError: names an operator that makes random numbers.
    """
    for node in model.graph:
        if node.op_type.startswith("Random") or node.op_type in ("Bernoulli", "Multinomial"):
            raise ModelError(
                f"{node.op_type} {node.name!r} makes random numbers on the way to the scores.",
                "export the classifier in eval mode: model.eval().",
            )


def computes_in(graph: ir.Graph, image: ir.Value, scores: ir.Value) -> Precision:
    """What the classifier computes in; ``int8`` where a tensor on the way is quantised."""
    if any("QuantizeLinear" in node.op_type for node in path(graph, image, scores)):
        return "int8"
    dtype = scores.dtype or ir.DataType.FLOAT
    return cast(
        "Precision", {"FLOAT": "float32", "DOUBLE": "float64"}.get(dtype.name, dtype.name.lower())
    )


def _image_input(model: ir.Model, size: tuple[int, int] | None) -> ir.Value:
    """The input, its shape pinned; ``as_images`` has seen to what else there is."""
    used = [v for v in model.graph.inputs if v.uses()]
    model.graph.inputs[:] = used
    names = {v.name for v in used}
    if {"image", "class_index"} <= names:
        raise ModelError(
            "the model is a Backlit file already.", "give the classifier that it was made of."
        )
    if len(used) != 1 or used[0].dtype not in FLOATS or len(used[0].shape or ()) != 4:
        found = ", ".join(f"{v.name} {v.dtype} {v.shape}" for v in used) or "none"
        raise ModelError(
            f"the model's input is no image [N, C, H, W]; its inputs are: {found}.",
            "give an image classifier whose one input is a float image batch.",
        )
    image = used[0]
    batch, *dims = image.shape  # type: ignore[misc]
    last = is_nhwc(dims)
    channels, own = (dims[2], dims[:2]) if last else (dims[0], dims[1:])
    pinned = size or tuple(own)
    image.shape = ir.Shape([batch, *pinned, channels] if last else [batch, channels, *pinned])
    return image


def _as_float32_nchw(model: ir.Model, image: ir.Value) -> None:
    """Put a Cast and a Transpose before an input that is not float32 [N, C, H, W]."""
    batch, *dims = image.shape  # type: ignore[misc]
    last, dtype = is_nhwc(dims), image.dtype or ir.DataType.FLOAT
    if dtype == ir.DataType.FLOAT and not last:
        return
    shape = [batch, dims[2], *dims[:2]] if last else [batch, *dims]
    given = ir.val(f"{image.name}/given", ir.DataType.FLOAT, shape)
    op, x = Ops(model.graph, 1, prefix=f"{image.name}/as_given"), given
    if dtype != ir.DataType.FLOAT:
        x = op.Cast(x, to=int(dtype))
    if last:
        x = op.Transpose(x, perm=[0, 2, 3, 1])
    image.replace_all_uses_with(x)
    model.graph.inputs[:] = [given]
    model.graph.sort()


def named(values: Sequence[ir.Value], name: str | None, what: str) -> ir.Value:
    """The value of a name (None: the first).

    Raises:
        ModelError: there is none; names those there are.
    """
    for value in values:
        if name in (None, value.name):
            return value
    raise ModelError(
        f"the model has no {what} {name!r}.",
        f"choose one of: {', '.join(str(v.name) for v in values)}.",
    )
