"""Where classifiers come from: ONNX files, torchvision names, Python callables, nn.Modules."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from ...runtime.contract import ImageInput
from ...runtime.errors import ModelError, OptionError
from ..prepare.image import Wanted, as_images
from . import torch_source as torch_sources
from .channels import channels_of
from .classifier import Classifier, Preprocessing
from .onnx_file import from_file, from_memory
from .torch_export import module_to_onnx


def load(source: Any, weights: str | None = None) -> Classifier:
    """Load a classifier.

    Args:
        source: a path to an ONNX file, ``torchvision:NAME``, ``timm:NAME``,
            ``package.module:callable`` (called without arguments, returns an nn.Module), an
            nn.Module, an ``onnx.ModelProto`` or an ``onnx_ir.Model``.
        weights: a state dict saved with torch.save, for torch sources. For torchvision and timm,
            ``random`` leaves the weights as initialised; without it the default weights are
            downloaded.

    Raises:
        ModelError: the source cannot be read.
        OptionError: ``weights`` with a source that has them.
    """
    if isinstance(source, onnx.ModelProto | ir.Model):
        return from_memory(source)
    if not isinstance(source, str | Path):
        return torch_sources.from_module(source, type(source).__name__, weights)
    text = str(source)
    if Path(text).is_file() or text.endswith(".onnx"):
        if weights is not None:
            raise OptionError("--weights goes with torch sources only.", "leave --weights out.")
        return from_file(Path(text))
    if text.startswith("torchvision:"):
        return torch_sources.from_torchvision(text, weights)
    if text.startswith("timm:"):
        return torch_sources.from_timm(text, weights)
    if ":" in text:
        return torch_sources.from_callable(text, weights)
    raise ModelError(
        f"{text} is no file, and no source of another kind.",
        "give an .onnx file, torchvision:NAME, timm:NAME, or package.module:callable.",
    )


def to_onnx(
    classifier: Classifier,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    constants: Mapping[str, Any] | None = None,
) -> tuple[ir.Model, str | None]:
    """The classifier as ONNX, of images as ``as_images`` has them.

    A torch module is exported with a dynamic batch, opset 20.

    Args:
        classifier: as loaded.
        size: height and width in pixels for a torch module, and where an ONNX model leaves them
            open; default: what the source says.
        channels: how many an image has; default: what the classifier's first convolution takes.
        constants: values for other inputs of an ONNX model, by name.

    Returns:
        The model, and which of torch's exporters made it (None: it was ONNX already).

    Raises:
        OptionError: a size that nobody said, or that does not fit; likewise channels, constants.
        ModelError: torch's exporter cannot take the module; an ONNX model takes no images.
    """
    if classifier.model is not None:
        wanted = Wanted(size, channels, likely=classifier.says.size)
        return as_images(classifier.model, wanted, constants), None
    if constants:
        raise OptionError("--constant goes with ONNX sources only.", "leave --constant out.")
    module, size = classifier.module, size or classifier.says.size
    if module is None or size is None:
        raise OptionError(
            f"{classifier.name} does not say its input size.", "give --size, such as --size 224."
        )
    return module_to_onnx(module, size, channels_of(module, size, channels))


def as_exported(classifier: Classifier, image: ImageInput) -> ir.Model:
    """The classifier as ONNX, of the images of a file that was made of it.

    If it takes others it stays as it is: whoever compares it with the file says so.

    Raises:
        ModelError: torch's exporter cannot take the module; an ONNX model takes no images.
    """
    size = image.height, image.width
    try:
        return to_onnx(classifier, size, image.channels)[0]
    except OptionError:
        if classifier.model is None:
            raise
        return classifier.model


__all__ = ["Classifier", "Preprocessing", "as_exported", "load", "to_onnx"]
