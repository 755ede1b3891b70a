"""From an ONNX model to a normalised graph with its image input and its scores found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import onnx_ir as ir

from ...runtime.contract import Precision
from ...runtime.errors import ModelError, OptionError
from ..autodiff.backward import path
from ..autodiff.ops import Ops
from ..graph.values import FLOATS, args
from . import normalise

_LEFT_OUT = ("Softmax", "LogSoftmax", "Sigmoid")
_PASSED = ("Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Cast", "Dropout")


def prepare(
    source: ir.Model, size: tuple[int, int] | None, output_name: str | None
) -> tuple[ir.Model, ir.Value, ir.Value, tuple[str, ...]]:
    """Normalise a classifier.

    Args:
        source: the classifier; stays as it is.
        size: height and width in pixels, where it leaves them open.
        output_name: the output that holds the scores; None: the first that looks like scores.

    Returns:
        A new model; its image input, float32 [N, C, H, W] whatever the source takes; its
        unnormalised scores; the operators left out after them.

    Raises:
        ModelError: no input is an image, no output holds scores.
    """
    names = {str(y.name) for node in source.graph for y in node.outputs}
    model = normalise.modernise(source)
    image = _image_input(model, size)
    normalise.free_batch(model, image)
    _as_float32_nchw(model, image)

    def locate(model: ir.Model) -> normalise.Ends:
        (image,) = model.graph.inputs
        return image, find_scores(_score_output(model, output_name), names)[0]

    model, (image, scores) = normalise.settle(model, locate)
    _, left_out = find_scores(_score_output(model, output_name), names)
    return model, image, scores, left_out


def computes_in(graph: ir.Graph, image: ir.Value, scores: ir.Value) -> Precision:
    """What the classifier computes in; ``int8`` where a tensor on the way is quantised."""
    if any("QuantizeLinear" in node.op_type for node in path(graph, image, scores)):
        return "int8"
    dtype = scores.dtype or ir.DataType.FLOAT
    return cast(
        "Precision", {"FLOAT": "float32", "DOUBLE": "float64"}.get(dtype.name, dtype.name.lower())
    )


def find_scores(output: ir.Value, source_names: set[str]) -> tuple[ir.Value, tuple[str, ...]]:
    """The unnormalised scores: what the final Softmax (or Sigmoid) takes, else the output itself.

    Args:
        output: the classifier's output.
        source_names: tensors of the source graph; the scores are one of them where possible, so
            that source and result can be compared.

    Returns:
        The tensor, and the operators left out after it.
    """
    end = _before(output, lambda value: False)
    node = end.producer()
    if node is None or node.op_type not in _LEFT_OUT:
        return output, ()
    scores = args(node)[0]
    return _before(scores, lambda value: value.name in source_names), (node.op_type,)


def _before(value: ir.Value, found: Callable[[ir.Value], bool]) -> ir.Value:
    """Walk back over operators that only rename axes."""
    node = value.producer()
    while node is not None and node.op_type in _PASSED and not found(value):
        value = args(node)[0]
        node = value.producer()
    return value


def _image_input(model: ir.Model, size: tuple[int, int] | None) -> ir.Value:
    used = [v for v in model.graph.inputs if v.uses()]
    model.graph.inputs[:] = used
    if len(used) != 1 or used[0].dtype not in FLOATS or len(used[0].shape or ()) != 4:
        found = ", ".join(f"{v.name} {v.dtype} {v.shape}" for v in used) or "none"
        raise ModelError(
            f"the model's input is no image [N, C, H, W]; its inputs are: {found}.",
            "give an image classifier whose one input is a float image batch.",
        )
    image = used[0]
    batch, *dims = image.shape  # type: ignore[misc]
    last = _is_nhwc(dims)
    channels, own = (dims[2], dims[:2]) if last else (dims[0], dims[1:])
    if channels not in (1, 3):
        shape = ", ".join(str(d) for d in image.shape or ())
        raise ModelError(
            f"the input {image.name!r}, [{shape}], has {channels} channels; an image has 1 or 3.",
            "give a classifier whose input is [N, C, H, W] or [N, H, W, C] with C = 1 or 3.",
        )
    if size is None:
        if not all(isinstance(d, int) for d in own):
            raise OptionError(
                f"the input {image.name!r} has no fixed height and width.",
                "pin them with --size, such as --size 224.",
            )
        size = tuple(own)
    elif any(isinstance(d, int) and d != s for d, s in zip(own, size, strict=True)):
        raise OptionError(
            f"the model takes images of {own[0]}x{own[1]}, not {size[0]}x{size[1]}.",
            "leave --size out.",
        )
    image.shape = ir.Shape([batch, *size, channels] if last else [batch, channels, *size])
    return image


def _is_nhwc(dims: Sequence[Any]) -> bool:
    """Whether an image [C, H, W] or [H, W, C] has its channels last, as TensorFlow's do."""
    return dims[0] not in (1, 3) and dims[2] in (1, 3)


def _as_float32_nchw(model: ir.Model, image: ir.Value) -> None:
    """Put a Cast and a Transpose before an input that is not float32 [N, C, H, W]."""
    batch, *dims = image.shape  # type: ignore[misc]
    last, dtype = _is_nhwc(dims), image.dtype or ir.DataType.FLOAT
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


def _score_output(model: ir.Model, name: str | None) -> ir.Value:
    outputs = [v for v in model.graph.outputs if v.dtype in FLOATS]
    if name is not None:
        return named(outputs, name, "float output")
    if not outputs:
        raise ModelError("the model has no float output.", "give a classifier.")
    rows = [v for v in outputs if len(d := v.shape or ()) >= 2 and all(n == 1 for n in d[2:])]
    return (rows or outputs)[0]


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
