"""Where classifiers come from: ONNX files, torchvision names, Python callables, nn.Modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from ...runtime.errors import ModelError, OptionError
from . import torch_source as torch_sources
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
    classifier: Classifier, size: tuple[int, int] | None = None
) -> tuple[ir.Model, str | None]:
    """The classifier as ONNX; a torch module is exported with a dynamic batch, opset 20.

    Args:
        classifier: as loaded.
        size: height and width in pixels for a torch module; default: what the source says.

    Returns:
        The model, and which of torch's exporters made it (None: it was ONNX already).

    Raises:
        OptionError: a torch module whose size nobody said.
        ModelError: torch's exporter cannot take the module.
    """
    if classifier.model is not None:
        return classifier.model, None
    module, size = classifier.module, size or classifier.says.size
    if module is None or size is None:
        raise OptionError(
            f"{classifier.name} does not say its input size.", "give --size, such as --size 224."
        )
    return module_to_onnx(module, size)


__all__ = ["Classifier", "Preprocessing", "load", "to_onnx"]
