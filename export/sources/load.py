"""Where classifiers come from: ONNX files, torchvision names, Python callables, nn.Modules."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from ...runtime.errors import ModelError, OptionError
from ..graph.weights import detach
from .callables import from_callable
from .classifier import Classifier, Preprocessing
from .foreign import by_content
from .huggingface import from_hugging_face
from .modules import from_object
from .probe import to_scores
from .torch_source import from_timm, from_torchvision

NAMED = {"torchvision": from_torchvision, "timm": from_timm, "hf": from_hugging_face}
"""Sources ``LIBRARY:NAME``, each by what loads it from that text and the weights asked for."""


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
    if type(source).__name__ == "ONNXProgram":  # of torch.onnx.export
        source = source.model_proto
    if isinstance(source, onnx.ModelProto):
        source = ir.serde.deserialize_model(source)
    if isinstance(source, ir.Model):
        return Classifier("model", _digest(source), source)
    if not isinstance(source, str | Path):
        return from_object(source, type(source).__name__, weights)
    text = str(source)
    if Path(text).is_file() and (read := by_content(Path(text))) is not None:
        return read(Path(text), weights)
    if Path(text).is_file() or text.endswith(".onnx"):
        if weights is not None:
            raise OptionError("--weights goes with torch sources only.", "leave --weights out.")
        return _from_file(Path(text))
    library, colon, _ = text.partition(":")
    if colon:
        return NAMED.get(library, from_callable)(text, weights)
    raise ModelError(
        f"{text} is no file, and no source of another kind.",
        "give an .onnx file, torchvision:NAME, timm:NAME, hf:NAME, or package.module:callable.",
    )


def to_onnx(
    classifier: Classifier, size: tuple[int, int] | None = None, output_name: str | None = None
) -> tuple[ir.Model, str | None]:
    """The classifier as ONNX; a torch module is exported with a dynamic batch, opset 20.

    Args:
        classifier: as loaded.
        size: height and width in pixels for a torch module; default: what the source says.
        output_name: for a torch module that returns several tensors, the one of the scores.

    Returns:
        The model, and which of torch's exporters made it (None: it was ONNX already).

    Raises:
        OptionError: a torch module whose size nobody said, or with several outputs.
        ModelError: torch's exporter cannot take the module.
    """
    if classifier.model is not None:
        return classifier.model, None
    module, size = classifier.module, size or classifier.says.size
    if module is None or size is None:
        raise OptionError(
            f"{classifier.name} does not say its input size.", "give --size, such as --size 224."
        )
    return to_scores(module, size, output_name)


def as_run(classifier: Classifier) -> Classifier:
    """A classifier that `to_onnx` has run, with what that showed of its input.

    A module that scales pixels itself takes them as they are: nothing else is to be assumed.
    """
    if not getattr(classifier.module, "scales", False) or classifier.says.mean is not None:
        return classifier
    says = dataclasses.replace(classifier.says, range="0-255", mean=(0.0,), std=(1.0,))
    return dataclasses.replace(classifier, says=says)


def _from_file(path: Path) -> Classifier:
    if not path.is_file():
        raise ModelError(f"{path} does not exist.", "check the path.")
    try:
        model = ir.load(path)
        if not len(model.graph) or not model.opset_imports:
            raise ValueError("it holds no graph")
        onnx.checker.check_model(path)
    except Exception as error:
        raise ModelError(
            f"{path} is not a readable ONNX model: {str(error).strip().splitlines()[0]}",
            "check that the file is complete and really ONNX (not a .pt, a link page, a part).",
        ) from error
    if (opset := model.opset_imports.get("", 99)) < 7:
        raise ModelError(
            f"{path} is of opset {opset}; Backlit reads opset 7 and later.",
            "convert it: onnx.version_converter.convert_version(model, 17).",
        )
    return Classifier(path.name, _file_digest(path, model), model)


def _file_digest(path: Path, model: ir.Model) -> str:
    """SHA-256 of the file, then of the files of its external data in order of their names."""
    tensors = (value.const_value for value in model.graph.initializers.values())
    beside = sorted({Path(t.path) for t in tensors if isinstance(t, ir.ExternalTensor)})
    digest = hashlib.sha256()
    for part in (path, *beside):
        with part.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _digest(model: ir.Model) -> str:
    """SHA-256 of a model in memory: its graph, then its weights."""
    detached = detach(model)
    digest = hashlib.sha256(detached.proto.SerializeToString(deterministic=True))
    for name, tensor in detached.weights.items():
        digest.update(name.encode() + tensor.tobytes())
    return digest.hexdigest()


__all__ = ["Classifier", "Preprocessing", "load", "to_onnx"]
