"""From an ONNX model to a normalised graph with its image input and its scores found."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

from ..runtime.errors import ModelError, OptionError
from . import normalise
from .context import FLOATS, args

_LEFT_OUT = ("Softmax", "LogSoftmax", "Sigmoid")
_PASSED = ("Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Cast", "Dropout")


def prepare(
    source: ir.Model, size: tuple[int, int] | None, output_name: str | None
) -> tuple[ir.Model, ir.Value, ir.Value, tuple[str, ...]]:
    """Normalise a classifier: a new model, its image input, its scores, what follows them.

    Raises:
        ModelError: no input is an image, no output holds scores.
    """
    names = {str(y.name) for node in source.graph for y in node.outputs}
    model = normalise.modernise(source)
    image = _image_input(model, size)
    normalise.free_batch(model, image)

    def locate(model: ir.Model) -> normalise.Path:
        (image,) = model.graph.inputs
        return image, find_scores(_score_output(model, output_name), names)[0]

    model, (image, scores) = normalise.settle(model, locate)
    _, left_out = find_scores(_score_output(model, output_name), names)
    return model, image, scores, left_out


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
    batch, channels, height, width = image.shape  # type: ignore[misc]
    if channels not in (1, 3):
        raise ModelError(
            f"the input {image.name!r} has {channels} channels (axis 1); an image has 1 or 3.",
            "give a classifier whose input is [N, 1 or 3, H, W].",
        )
    own = (height, width)
    if size is None:
        if not all(isinstance(d, int) for d in own):
            raise OptionError(
                f"the input {image.name!r} has no fixed height and width.",
                "pin them with --size, such as --size 224.",
            )
        size = own  # type: ignore[assignment]
    elif any(isinstance(d, int) and d != s for d, s in zip(own, size, strict=True)):
        raise OptionError(
            f"the model takes images of {own[0]}x{own[1]}, not {size[0]}x{size[1]}.",
            "leave --size out.",
        )
    image.shape = ir.Shape([batch, channels, *size])  # type: ignore[misc]
    return image


def _score_output(model: ir.Model, name: str | None) -> ir.Value:
    outputs = [v for v in model.graph.outputs if v.dtype in FLOATS]
    if name is not None:
        return named(outputs, name, "float output")
    if not outputs:
        raise ModelError("the model has no float output.", "give a classifier.")
    return outputs[0]


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
