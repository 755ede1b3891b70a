"""Tensors and arrays of other libraries as NumPy's, channels last. None of them is imported."""

from __future__ import annotations

import sys
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..errors import ImageError

_CHANNELS = (1, 3)


class ArrayLike(Protocol):
    """Whatever NumPy can read: arrays of NumPy, JAX, TensorFlow, CuPy, columns of pandas."""

    def __array__(self) -> npt.NDArray[Any]:
        """Its values."""


def is_array(item: object) -> bool:
    """Whether NumPy, or torch, can make an array of it. Pillow's images are not meant."""
    return (hasattr(item, "__array__") or _is_tensor(item)) and not isinstance(item, Image.Image)


def as_array(item: Any) -> npt.NDArray[Any]:
    """An array with the channels last; nothing is copied that need not be.

    Args:
        item: an array of any library, [H,W,C], [H,W] or [N,H,W,C]; a torch tensor also [C,H,W] or
            [N,C,H,W], as torch has its images.

    Raises:
        ImageError: a tensor of another type than uint8, one whose layout is not clear, or what no
            array can be made of.
    """
    if isinstance(item, np.ndarray):
        return item
    kind = type(item).__name__
    if not _is_tensor(item):
        try:
            return np.asarray(item)
        except Exception as error:  # of any library
            raise ImageError(
                f"no array can be made of the {kind}: {error}.", "copy it to NumPy yourself."
            ) from error
    dtype = str(item.dtype).removeprefix("torch.")
    if dtype != "uint8":
        raise ImageError(
            f"the tensor has dtype {dtype}, not uint8.",
            "pass pixels 0..255 as uint8: (x * 255).round().to(torch.uint8) for x in 0..1, "
            "before any normalisation.",
        )
    try:
        array = np.asarray(item.detach().cpu())
    except Exception as error:  # sparse, on the device meta, of a compiler
        raise ImageError(
            f"no array can be made of the tensor: {error}.", "pass a dense tensor with values."
        ) from error
    return _channels_last(array)


def _is_tensor(item: object) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(item, torch.Tensor)


def _channels_last(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """[C,H,W] or [H,W,C] as [H,W,C], batches likewise; told apart by which end has 1 or 3."""
    shape = list(array.shape)
    if array.ndim == 2:
        return array
    if array.ndim not in (3, 4):
        raise ImageError(
            f"the tensor has shape {shape}.",
            "pass [C,H,W], [H,W,C], [H,W] or a batch of the first.",
        )
    first, last = (array.shape[axis] in _CHANNELS for axis in (-3, -1))
    if first and last:
        raise ImageError(
            f"the tensor has shape {shape}: its channels could be at either end.",
            "pass a NumPy array with the channels last: "
            "tensor.movedim(-3, -1).numpy(), if they are first.",
        )
    if not first and not last:
        raise ImageError(
            f"the tensor has shape {shape}: neither end is 1 or 3 channels.",
            "pass [C,H,W] or [H,W,C] with 1 (grey) or 3 (RGB) channels, or several as [N,C,H,W].",
        )
    return np.moveaxis(array, -3, -1) if first else array
