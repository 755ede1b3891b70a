"""A classifier as one of images: float32 [N, C, H, W] of a known size, whatever it took before.

Integers are taken as floats up to their Cast, so that there is something to differentiate by; flat
rows and greys without an axis for channels get their axes; other inputs become constants.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from ...runtime.contract import KEY
from ...runtime.errors import ModelError, OptionError
from ..autodiff.ops import Ops
from ..graph.values import FLOATS
from ..graph.weights import through
from .image_layout import layout
from .integers import INTEGERS, as_floats
from .normalise import modernise
from .one_image import give_batch, without_batch

_CONSTANTS = "give the other inputs values: --constant NAME=VALUE, such as --constant {}=1."
_A_CLASSIFIER = (
    "give a classifier of pictures: [N, C, H, W], [N, H, W, C], [N, H, W] or flat [N, D]."
)


def as_images(
    model: ir.Model,
    wanted: Wanted,
    constants: Mapping[str, Any] | None = None,
) -> ir.Model:
    """Give a classifier an image input that the rest knows.

    Args:
        model: as read; stays as it is.
        wanted: what it leaves open.
        constants: values for its other inputs, by name.

    Returns:
        The model itself, where it takes floats [N, C, H, W] or [N, H, W, C] of a known size and of
        1 or 3 channels already, and a Backlit file; else a changed copy.

    Raises:
        ModelError: it takes no images.
        OptionError: size, channels or constants do not fit it, or must be given.
    """
    if KEY in model.metadata_props:
        return model
    image = _image(model, constants or {})
    dims = list(image.shape or [None] * 4)
    if not constants and len(_inputs(model)) == 1 and _as_it_should_be(image, dims, wanted):
        return model
    name = image.name
    quantised = any(node.op_type.startswith("QLinear") for node in model.graph)
    if quantised and image.dtype in INTEGERS:
        model = modernise(model)  # an operator of integers begins with DequantizeLinear then
    else:
        model = through(model, lambda proto: proto)
    _put_constants(model, constants or {})
    image = next(v for v in model.graph.inputs if v.name == name)
    if image.dtype in INTEGERS:
        as_floats(model, image)
    if without_batch(image, dims, wanted.channels):
        dims = give_batch(model, image)
        image = next(v for v in model.graph.inputs if v.name == name)
    _lay_out(model, image, dims, wanted)
    return model


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What an image is to be, where a model leaves that open.

    Attributes:
        size: height and width in pixels; refused where the model has others.
        channels: likewise; None: 3, or what the first convolution takes.
        likely: the size where neither the model nor ``size`` says one.
    """

    size: tuple[int, int] | None = None
    channels: int | None = None
    likely: tuple[int, int] | None = None


def _inputs(model: ir.Model) -> list[ir.Value]:
    """What must be fed, and is read by something."""
    return [v for v in model.graph.inputs if v.uses() and not v.is_initializer()]


def _described(values: Sequence[ir.Value]) -> str:
    return (
        ", ".join(f"{v.name} {v.dtype} {v.shape or 'of unknown shape'}" for v in values) or "none"
    )


def _image(model: ir.Model, constants: Mapping[str, Any]) -> ir.Value:
    """The input that is the image.

    Raises:
        ModelError: there is none, or there are others without a value.
        OptionError: a value for an input that there is not.
    """
    inputs = _inputs(model)
    for name in constants:
        if name not in {v.name for v in model.graph.inputs}:
            raise OptionError(
                f"the model has no input {name!r}.",
                f"choose among {', '.join(str(v.name) for v in inputs)}.",
            )
    left = [v for v in inputs if v.name not in constants]
    images = [v for v in left if len(v.shape or [None] * 4) == 4] or left
    if len(images) == 1 and len(left) > 1:
        others = [v for v in left if v is not images[0]]
        raise ModelError(
            f"the model takes more than an image; its inputs are: {_described(left)}.",
            _CONSTANTS.format(others[0].name),
        )
    if len(left) != 1:
        fix = _CONSTANTS.format(left[-1].name) if left else _A_CLASSIFIER
        raise ModelError(
            f"the model's input is no image [N, C, H, W]; its inputs are: {_described(left)}.", fix
        )
    (image,) = left
    rank = 4 if image.shape is None else len(image.shape)
    signal = rank == 3 and any(node.op_type == "Conv" for node in image.consumers())
    if image.dtype not in (*FLOATS, *INTEGERS) or not 2 <= rank <= 4 or signal:
        volume = " It looks like a volume or a video." if rank == 5 else ""
        raise ModelError(
            f"the model's input is no image [N, C, H, W]; its inputs are: {_described(left)}."
            f"{volume}",
            _A_CLASSIFIER,
        )
    return image


def _as_it_should_be(image: ir.Value, dims: Sequence[Any], wanted: Wanted) -> bool:
    if image.dtype not in FLOATS or len(dims) != 4 or not all(isinstance(d, int) for d in dims[1:]):
        return False
    last, own = layout(image, wanted.channels)
    _size(image, dims[1:3] if last else dims[2:], wanted)
    return own in (1, 3)


def _put_constants(model: ir.Model, constants: Mapping[str, Any]) -> None:
    """Make initializers of inputs; one number fills whatever shape they have."""
    for value in [v for v in model.graph.inputs if v.name in constants]:
        dtype = value.dtype or ir.DataType.FLOAT
        own = list(value.shape or ())
        try:
            given = np.asarray(constants[str(value.name)]).astype(dtype.numpy())
            padded = [1] * (len(own) - given.ndim) + list(given.shape)
            shape = [d if isinstance(d, int) else n for d, n in zip(own, padded, strict=True)]
            filled = np.broadcast_to(given, shape)
        except (ValueError, TypeError) as error:
            raise OptionError(
                f"{constants[str(value.name)]!r} is no value for the input {value.name!r}, "
                f"{dtype} {value.shape}.",
                "give one number, or an array of that shape.",
            ) from error
        value.const_value = ir.tensor(np.ascontiguousarray(filled), name=value.name)
        model.graph.inputs.remove(value)
        model.graph.register_initializer(value)


def _size(image: ir.Value, own: Sequence[Any], wanted: Wanted) -> tuple[int, int]:
    """Height and width: the model's own, else as asked for."""
    size = wanted.size
    if size is None:
        if not all(isinstance(d, int) for d in own):
            if wanted.likely is not None:
                return _size(image, own, Wanted(wanted.likely))
            raise OptionError(
                f"the input {image.name!r} has no fixed height and width.",
                "pin them with --size, such as --size 224.",
            )
        return own[0], own[1]
    if any(isinstance(d, int) and d != s for d, s in zip(own, size, strict=True)):
        raise OptionError(
            f"the model takes images of {own[0]}x{own[1]}, not {size[0]}x{size[1]}.",
            "leave --size out.",
        )
    return size


def _lay_out(model: ir.Model, image: ir.Value, dims: list[Any], wanted: Wanted) -> None:
    """Pin the image's shape, and put before it what makes it of [N, C, H, W]."""
    batch = "N" if dims[0] is None else dims[0]
    if len(dims) == 2:
        count, (height, width) = _flat(image, dims[1], wanted)
    elif len(dims) == 3:
        count, (height, width) = wanted.channels or 1, _size(image, dims[1:], wanted)
        if count != 1:
            raise OptionError(
                f"the input {image.name!r}, {image.shape}, has no axis for {count} channels.",
                "leave --channels out.",
            )
    else:
        last, count = layout(image, wanted.channels)
        height, width = _size(image, dims[1:3] if last else dims[2:], wanted)
        shape = [batch, height, width, count] if last else [batch, count, height, width]
        image.shape = ir.Shape(shape)
        if not last or count in (1, 3):
            return
    dtype = image.dtype or ir.DataType.FLOAT
    given = ir.val(f"{image.name}/given", ir.DataType.FLOAT, [batch, count, height, width])
    op, x = Ops(model.graph, 1, prefix=f"{image.name}/laid_out"), given
    if dtype != ir.DataType.FLOAT:
        x = op.Cast(x, to=int(dtype))
    if len(dims) == 4:
        x = op.Transpose(x, perm=[0, 2, 3, 1])
    else:  # forms of these that all opsets have
        x = op.Flatten(x, axis=1) if len(dims) == 2 else op.Reshape(x, [0, height, width])
    image.replace_all_uses_with(x)
    model.graph.inputs[:] = [given if v is image else v for v in model.graph.inputs]
    model.graph.sort()


def _flat(image: ir.Value, length: Any, wanted: Wanted) -> tuple[int, tuple[int, int]]:
    """Channels and size of an image that is a row of numbers."""
    size, channels = wanted.size or wanted.likely, wanted.channels
    if size is None:
        side = int(np.sqrt(length)) if isinstance(length, int) else 0
        example = f"{side}x{side}" if side and side * side == length else "28x28"
        raise OptionError(
            f"the input {image.name!r}, {image.shape}, is flat: nothing says its height and width.",
            f"give them with --size, such as --size {example}, if its rows are images.",
        )
    pixels = size[0] * size[1]
    count = channels or (length // pixels if isinstance(length, int) else 1)
    if not count or (isinstance(length, int) and length != count * pixels):
        raise OptionError(
            f"{size[0]}x{size[1]} pixels are no row of {length} numbers.",
            "give another --size (and --channels): height x width x channels is the row's length.",
        )
    return count, size


__all__ = ["Wanted", "as_images"]
