"""Where classifiers come from: ONNX files, torchvision names, Python callables, nn.Modules."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from ...runtime.contract import Contract
from ...runtime.errors import ModelError, OptionError
from ..prepare.image import Wanted, as_images
from .callables import from_callable
from .classifier import Classifier, Preprocessing
from .foreign import by_content, no_folder
from .huggingface import from_hugging_face
from .modules import from_object
from .onnx_file import from_file, from_memory
from .probe import to_scores
from .torch_source import from_timm, from_torchvision

NAMED = {"torchvision": from_torchvision, "timm": from_timm, "hf": from_hugging_face}
"""Sources ``LIBRARY:NAME``, each by what loads it from that text and the weights asked for."""


def load(source: Any, weights: str | None = None) -> Classifier:
    """Load a classifier.

    Args:
        source: a path to an ONNX, TorchScript or .pt2 file, the bytes of an ONNX file or an open
            one, ``torchvision:NAME``, ``timm:NAME``,
            ``hf:NAME_OR_FOLDER``, ``package.module:callable`` or ``file.py:callable`` (called
            without arguments, returns an nn.Module), an nn.Module, an ``ExportedProgram``, an
            ``ONNXProgram``, an ``onnx.ModelProto`` or an ``onnx_ir.Model``.
        weights: a checkpoint for torch sources, see checkpoints.py; ``random`` leaves the weights
            as initialised. Without it named sources load their own.

    Raises:
        ModelError: the source cannot be read.
        OptionError: ``weights`` with a source that has them.
    """
    if type(source).__name__ == "ONNXProgram":  # of torch.onnx.export
        source = source.model_proto
    elif callable(getattr(source, "to_model_proto", None)):  # a function of onnxscript
        source = source.to_model_proto()
    if isinstance(source, onnx.ModelProto | ir.Model):
        return from_memory(source)
    if isinstance(source, bytes | bytearray | memoryview) or callable(getattr(source, "read", 0)):
        return from_memory(_of_bytes(source))
    if not isinstance(source, str | os.PathLike):
        return from_object(source, type(source).__name__, weights)
    text = os.fsdecode(source)
    if Path(text).is_file() and (read := by_content(Path(text))) is not None:
        return read(Path(text), weights)
    if Path(text).is_file() or text.endswith(".onnx"):
        if weights is not None:
            raise OptionError("--weights goes with torch sources only.", "leave --weights out.")
        return from_file(Path(text))
    if Path(text).is_dir():
        raise no_folder(Path(text))
    library, colon, _ = text.partition(":")
    if colon:
        return NAMED.get(library, from_callable)(text, weights)
    raise ModelError(
        f"{text} is no file, and no source of another kind.",
        "give an .onnx file, torchvision:NAME, timm:NAME, hf:NAME, or package.module:callable.",
    )


def _of_bytes(source: Any) -> onnx.ModelProto:
    """The model in bytes, or in a file that is open for reading them."""
    try:
        data = source.read() if callable(getattr(source, "read", 0)) else source
        return onnx.load_model_from_string(bytes(data))
    except Exception as error:  # protobuf's own, and what files raise
        raise ModelError(
            f"the {type(source).__name__} holds no ONNX model: {error}",
            "give the bytes of an .onnx file, or such a file opened with mode 'rb'.",
        ) from error


def to_onnx(
    classifier: Classifier,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    constants: Mapping[str, Any] | None = None,
    output_name: str | None = None,
) -> tuple[ir.Model, str | None]:
    """The classifier as ONNX, of images as ``as_images`` has them.

    A torch module is exported with a dynamic batch, opset 20.

    Args:
        classifier: as loaded.
        size: height and width in pixels for a torch module, and where an ONNX model leaves them
            open; default: what the source says.
        channels: how many an image has; default: what the classifier's first convolution takes.
        constants: values for other inputs of an ONNX model, by name.
        output_name: for a torch module that returns several tensors, the one of the scores.

    Returns:
        The model, and which of torch's exporters made it (None: it was ONNX already).

    Raises:
        OptionError: a size that nobody said, or that does not fit; likewise channels, constants; a
            torch module with several outputs.
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
    return to_scores(module, size, output_name, channels)


def as_run(classifier: Classifier) -> Classifier:
    """A classifier that `to_onnx` has run, with what that showed of its input.

    A module that scales pixels itself takes them as they are: nothing else is to be assumed.
    """
    if not getattr(classifier.module, "scales", False) or classifier.says.mean is not None:
        return classifier
    says = dataclasses.replace(classifier.says, range="0-255", mean=(0.0,), std=(1.0,))
    return dataclasses.replace(classifier, says=says)


def as_exported(
    classifier: Classifier, contract: Contract, constants: Mapping[str, Any] | None = None
) -> ir.Model:
    """The classifier as ONNX, of the images of a file that was made of it.

    If it takes others it stays as it is: whoever compares it with the file says so.

    Args:
        classifier: as loaded.
        contract: the file's metadata.
        constants: values for other inputs of an ONNX model, as they were for the file.

    Raises:
        OptionError: constants that do not fit the model.
        ModelError: torch's exporter cannot take the module; an ONNX model takes no images.
    """
    image, scores = contract.image, contract.score.tensor
    size = image.height, image.width
    try:
        return to_onnx(classifier, size, image.channels, constants, scores)[0]
    except OptionError:
        if classifier.model is None or constants:
            raise
        return classifier.model


__all__ = ["Classifier", "Preprocessing", "as_exported", "load", "to_onnx"]
