"""From a classifier to the interface of a Backlit file (docs/file-format.md).

Prologue: uint8 pixels to what the classifier takes. Epilogue: which classes, their seeds, and the
maximum over channels. Both are ordinary nodes in the same graph, so one file is all there is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from ..runtime.contract import MOST_RANKS, ImageInput, Map, Normalisation, Relu
from ..runtime.errors import ModelError
from ..runtime.text import one_line
from .autodiff.backward import backward
from .autodiff.merged import emitter
from .autodiff.ops import Ops
from .autodiff.rectifiers import Rectifier
from .graph.rewrites import PORTABLE
from .graph.shapes import classes_of
from .graph.values import BATCH, shape_of
from .maps.grids import Grid, coarsening
from .maps.row import FileMap
from .maps.table import MAPS

RESERVED = ("image", "class_index", "scores", "class", "score")
GRADIENT = "gradient/classes_first"  # [K, N, C, H, W], whatever the output; verification reads it


_BY = "gradient/by/"


def gradient_of(tensor: str) -> str:
    """The name of the gradient by a feature map, [K, N, ...], which verification reads, too."""
    return f"{_BY}{tensor}"


def is_for_verification(output: ir.Value) -> bool:
    """Whether an output is there for verification alone: `without_gradients` takes it out."""
    name = str(output.name)
    return name == GRADIENT or name.startswith(_BY)


@dataclasses.dataclass(frozen=True)
class Wrapped:
    """What ``wrap`` made.

    Attributes:
        classes: how many the classifier has.
        maps: those returned, in the order of the outputs.
        rectifiers: between image and scores.
    """

    classes: int
    maps: tuple[Map, ...]
    rectifiers: tuple[Rectifier, ...]


def wrap(
    graph: ir.Graph,
    image: ir.Value,
    scores: ir.Value,
    spec: ImageInput,
    normalisation: Normalisation,
    maps: Sequence[str],
    on: Collection[str] = PORTABLE,
    relu: Relu = "gradient",
) -> Wrapped:
    """Give the graph Backlit's inputs and outputs, and the backward pass between them.

    Args:
        graph: the classifier, normalised; changed in place.
        image: its float32 input, [N, C, H, W].
        scores: its unnormalised scores: [N, classes], [N], or with more axes of length 1.
        spec, normalisation, maps: the interface wanted. Maps of features are left out where the
            classifier has none.
        on: names of the rewrites wanted.
        relu: the backward rule of rectifiers.

    Further outputs are for whoever verifies the graph: the gradients by feature maps, and last the
    one by the image, `GRADIENT`. `without_gradients` takes them out.

    Returns:
        What the graph has now.

    Raises:
        ModelError: the scores are not one number per class.
        UnsupportedOperatorError: operators between image and scores have no rule.
        OptionError: a rule for rectifiers, and none to follow it.
    """
    _free_names(graph)
    class_index = ir.val("class_index", ir.DataType.INT64, [BATCH, "K"])
    lead = ir.node("Shape", [class_index], attributes={"start": 1, "end": 2}, name="classes/K")
    lead.outputs[0].name = "classes/K"
    graph.append(lead)
    pixels = _prologue(graph, image, spec, normalisation)
    graph.inputs.append(class_index)
    graph.sort()

    op = emitter(graph, lead.outputs[0], on, prefix="classes", relu=relu)
    classes = _classes(scores)
    flat = op.Reshape(scores, [-1, classes]) if len(shape_of(scores)) != 2 else scores
    dtype = scores.dtype or ir.DataType.FLOAT
    flat.dtype, flat.shape = dtype, ir.Shape([BATCH, classes])
    score_output = flat
    if dtype != ir.DataType.FLOAT:
        score_output = op.Cast(flat, to=int(ir.DataType.FLOAT))
    chosen = _resolved(op, class_index, score_output, classes)
    score = op.GatherElements(score_output, chosen, axis=1)

    mine = op.Unsqueeze(op.Transpose(chosen, perm=[1, 0]), [-1])  # [K, N, 1]
    seed = op.Cast(op.Equal(mine, np.arange(classes)), to=int(dtype))
    if flat is not scores:
        seed = op.reshape(seed, scores)
    chosen_grids = _feature_maps(graph, pixels, scores, spec, maps)
    taps = list(dict.fromkeys(grid.value for grids in chosen_grids.values() for grid in grids))
    g, *others = backward(op, [pixels, *taps], scores, seed)  # [K, N, C, H, W]
    op.rectifiers.must_have_met()

    op.prefix, op.dtype = "saliency", ir.DataType.FLOAT
    if dtype != ir.DataType.FLOAT:
        g = op.Cast(g, to=int(ir.DataType.FLOAT))
    g.name, g.dtype = GRADIENT, ir.DataType.FLOAT
    by_tap = {tap: _readable(op, tap, other) for tap, other in zip(taps, others, strict=True)}
    results, described = [], []
    for name in maps:
        row, grids = MAPS[name], chosen_grids.get(name, [])
        if row.of_image is None and not grids:
            continue
        result = row.emit(op, g, grids, by_tap)
        made = _describe(row, grids, spec, relu)
        channels = [spec.channels] if row.channels else []
        result.shape = ir.Shape([BATCH, "K", *channels, made.height, made.width])
        result.name, result.dtype = name, ir.DataType.FLOAT
        results.append(result)
        described.append(made)
    score_output.shape = ir.Shape([BATCH, classes])
    score_output.name, chosen.name, score.name = "scores", "class", "score"
    chosen.shape = score.shape = ir.Shape([BATCH, "K"])
    chosen.dtype = ir.DataType.INT64
    score_output.dtype = score.dtype = ir.DataType.FLOAT
    graph.outputs[:] = [score_output, chosen, score, *results, *by_tap.values(), g]
    graph.sort()
    return Wrapped(classes, tuple(described), tuple(op.rectifiers.met))


def _readable(op: Ops, tap: ir.Value, gradient: ir.Value) -> ir.Value:
    """The gradient by a feature map under its own name; two feature maps may have the same one."""
    shared = str(gradient.name).startswith("gradient/")
    found: ir.Value = op.Identity(gradient) if shared else gradient
    found.name, found.shape = gradient_of(str(tap.name)), gradient.shape
    found.dtype = tap.dtype or ir.DataType.FLOAT
    return found


def _free_names(graph: ir.Graph) -> None:
    """Rename what bears the name of an input or output of a Backlit file."""
    for value in (*graph.initializers.values(), *(y for n in graph for y in n.outputs)):
        if value.name in RESERVED or value.name in MAPS:
            value.name = f"classifier/{value.name}"


def _classes(scores: ir.Value) -> int:
    """How many classes there are scores of."""
    dims = shape_of(scores)
    classes = classes_of(dims)
    if classes is None:
        raise ModelError(
            f"the scores {scores.name!r} have shape {list(dims)}; expected [N, classes].",
            "name another tensor of the model with --output-name, or export it with its "
            "classification head.",
        )
    return classes


def _resolved(op: Ops, class_index: ir.Value, scores: ir.Value, classes: int) -> ir.Value:
    """``class_index`` int64 [N,K] with the class in place of each rank (-1 the best)."""
    ranks = min(classes, MOST_RANKS)
    _, order = op.TopK(scores, [ranks], axis=1, outputs=2)
    rank = op.Clip(op.Sub(op.const([-1]), class_index), op.const(np.array(0)), np.array(ranks - 1))
    by_rank = op.GatherElements(order, rank, axis=1)
    resolved: ir.Value = op.Where(op.Less(class_index, op.const([0])), by_rank, class_index)
    return resolved


def without_gradients(model: ir.Model) -> None:
    """Take the gradients out that ``wrap`` left among the outputs, and what only they needed."""
    outputs = model.graph.outputs
    outputs[:] = [value for value in outputs if not is_for_verification(value)]
    RemoveUnusedNodesPass()(model)


def _feature_maps(
    graph: ir.Graph, image: ir.Value, scores: ir.Value, spec: ImageInput, maps: Sequence[str]
) -> dict[str, list[Grid]]:
    """The feature maps that each map wanted is made of; maps that have none are left out.

    Raises:
        ModelError: the scores do not depend on the image.
    """
    choices = {name: choose for name in maps if (choose := MAPS[name].choose) is not None}
    grids = coarsening(graph, image, scores, spec) if choices else []
    return {name: choose(grids, spec) for name, choose in choices.items()} if grids else {}


def _describe(row: FileMap, grids: Sequence[Grid], spec: ImageInput, relu: Relu) -> Map:
    size = (grids[0].height, grids[0].width) if grids else (spec.height, spec.width)
    by_rule = "" if relu == "gradient" else f"; d by the {relu} rule"
    tensors = tuple(one_line(grid.value.name or "") for grid in grids)
    return Map(row.name, *size, row.definition + by_rule, tensors)


def _prologue(
    graph: ir.Graph, image: ir.Value, spec: ImageInput, normalisation: Normalisation
) -> ir.Value:
    """Replace the classifier's input; returns the float pixels to differentiate by."""
    if spec.dtype == "float32":
        image.name = "image"
        image.shape = ir.Shape([BATCH, spec.channels, spec.height, spec.width])
        return image
    raw = ir.val("image", ir.DataType.UINT8, [BATCH, spec.height, spec.width, spec.channels])
    image.name = "classifier/image"
    op = Ops(graph, 1, prefix="prologue")
    # Cast first: TensorRT transposes no uint8.
    as_float = op.Cast(raw, to=int(ir.DataType.FLOAT))
    as_float.dtype, as_float.shape = ir.DataType.FLOAT, raw.shape
    pixels: ir.Value = op.Transpose(as_float, perm=[0, 3, 1, 2])

    def typed(value: ir.Value) -> ir.Value:
        """Rules ask for types and shapes; all values of the prologue have these."""
        value.dtype = ir.DataType.FLOAT
        value.shape = ir.Shape([BATCH, spec.channels, spec.height, spec.width])
        return value

    x = typed(pixels)
    scale, shift = map(np.array, normalisation.affine())
    per_channel = (spec.channels, 1, 1)
    if spec.colour == "BGR":
        x = typed(op.Gather(x, [2, 1, 0], axis=1))
    if (scale != 1).any():
        x = typed(op.Mul(x, scale.reshape(per_channel)))
    if shift.any():
        x = typed(op.Add(x, shift.reshape(per_channel)))
    image.replace_all_uses_with(x)
    graph.inputs[:] = [raw if v is image else v for v in graph.inputs]
    return pixels
