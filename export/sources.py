"""Where classifiers come from: ONNX files, torchvision names, Python callables, nn.Modules."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import io
import logging
import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import onnx

from ..runtime.errors import ModelError, OptionError
from .normalise import OPSET

if TYPE_CHECKING:
    import torch


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What a source says of its own input; None where it says nothing."""

    size: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    range: Literal["0-1", "0-255"] | None = None
    crop_fraction: float | None = None
    interpolation: Literal["bilinear", "bicubic"] | None = None
    labels: tuple[str, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A loaded classifier.

    Attributes:
        name: as it was asked for.
        sha256: of the ONNX file, or of the weights of a torch module.
        proto: the ONNX model; None while a torch module waits to know its input size.
        module: the torch module in eval mode, for verification against autograd.
        says: what the source says of its preprocessing.
    """

    name: str
    sha256: str
    proto: onnx.ModelProto | None
    module: torch.nn.Module | None = None
    says: Preprocessing = Preprocessing()


def load(source: Any, weights: str | None = None) -> Classifier:
    """Load a classifier.

    Args:
        source: a path to an ONNX file, ``torchvision:NAME``, ``package.module:callable`` (called
            without arguments, returns an nn.Module), an nn.Module, or an ``onnx.ModelProto``.
        weights: a state dict saved with torch.save, for torch sources. For torchvision, ``random``
            leaves the weights as initialised; without it the default weights are downloaded.

    Raises:
        ModelError: the source cannot be read.
        OptionError: ``weights`` with a source that has them.
    """
    if isinstance(source, onnx.ModelProto):
        return Classifier(
            "ModelProto", hashlib.sha256(source.SerializeToString()).hexdigest(), source
        )
    if not isinstance(source, str | Path):
        return _from_module(source, type(source).__name__, weights)
    text = str(source)
    if Path(text).is_file() or text.endswith(".onnx"):
        if weights is not None:
            raise OptionError("--weights goes with torch sources only.", "leave --weights out.")
        return _from_file(Path(text))
    if text.startswith("torchvision:"):
        return _from_torchvision(text, weights)
    if ":" in text:
        return _from_callable(text, weights)
    raise ModelError(
        f"{text} is no file, and no source of another kind.",
        "give an .onnx file, torchvision:NAME, or package.module:callable.",
    )


def to_onnx(classifier: Classifier, size: tuple[int, int] | None = None) -> onnx.ModelProto:
    """The classifier as ONNX; a torch module is exported with a dynamic batch, opset 20.

    Args:
        classifier: as loaded.
        size: height and width in pixels for a torch module; default: what the source says.

    Raises:
        OptionError: a torch module whose size nobody said.
        ModelError: torch's exporter cannot take the module.
    """
    if classifier.proto is not None:
        return classifier.proto
    import torch

    module, size = classifier.module, size or classifier.says.size
    if module is None or size is None:
        raise OptionError(
            f"{classifier.name} does not say its input size.", "give --size, such as --size 224."
        )
    parameters = list(module.parameters())
    kernels = [p.shape[1] for p in parameters if p.ndim == 4 and p.shape[1] in (1, 3)]
    channels = kernels[0] if kernels else 3
    dtype = next((p.dtype for p in parameters if p.is_floating_point()), torch.float32)
    example = torch.zeros(2, channels, *size, dtype=dtype)
    batch = {0: torch.export.Dim("N", min=1)}
    try:
        with _quiet():
            program: Any = torch.onnx.export(
                module, (example,), dynamo=True, opset_version=OPSET, dynamic_shapes=(batch,),
                input_names=["input"], output_names=["scores"], verbose=False,
            )  # fmt: skip
    except Exception as error:
        raise ModelError(
            f"torch.onnx.export failed: {type(error).__name__}: {str(error).splitlines()[0]}",
            "export the model to ONNX yourself (any exporter) and give the .onnx file.",
        ) from error
    return program.model_proto


def _from_file(path: Path) -> Classifier:
    if not path.is_file():
        raise ModelError(f"{path} does not exist.", "check the path.")
    try:
        proto = onnx.load(path)
        opsets = {o.domain: o.version for o in proto.opset_import}
        if not proto.graph.node or not opsets:
            raise ValueError("it holds no graph")
        onnx.checker.check_model(proto)
    except Exception as error:
        raise ModelError(
            f"{path} is not a readable ONNX model: {str(error).strip().splitlines()[0]}",
            "check that the file is complete and really ONNX (not a .pt, a link page, a part).",
        ) from error
    if opsets.get("", 99) < 7:
        raise ModelError(
            f"{path} is of opset {opsets['']}; Backlit reads opset 7 and later.",
            "convert it: onnx.version_converter.convert_version(model, 17).",
        )
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Classifier(path.name, digest, proto)


def _from_torchvision(text: str, weights: str | None) -> Classifier:
    torchvision = _import("torchvision", "pip install torchvision")
    name = text.removeprefix("torchvision:")
    models = torchvision.models
    if name not in models.list_models(module=models):
        raise ModelError(
            f"torchvision has no classifier {name!r}.",
            "see torchvision.models.list_models(module=torchvision.models).",
        )
    default = models.get_model_weights(name).DEFAULT
    preset = default.transforms()
    says = Preprocessing(
        size=(preset.crop_size[0],) * 2,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        range="0-1",
        crop_fraction=preset.crop_size[0] / preset.resize_size[0],
        interpolation="bicubic" if "bicubic" in str(preset.interpolation).lower() else "bilinear",
        labels=tuple(default.meta["categories"]),
    )
    try:
        module = models.get_model(name, weights=default if weights is None else None)
    except OSError as error:
        raise ModelError(
            f"the weights of {text} cannot be downloaded: {error}",
            "download them elsewhere and give --weights FILE (or --weights random to try it out).",
        ) from error
    return _from_module(module, text, None if weights == "random" else weights, says)


def _from_callable(text: str, weights: str | None) -> Classifier:
    module_name, _, attribute = text.partition(":")
    _import("torch", "pip install torch")
    try:
        made = getattr(importlib.import_module(module_name), attribute)()
    except Exception as error:
        raise ModelError(
            f"{text} cannot be called: {type(error).__name__}: {error}",
            "give package.module:callable, importable from here and callable without arguments.",
        ) from error
    return _from_module(made, text, weights)


def _from_module(module: Any, name: str, weights: str | None, says: Any = None) -> Classifier:
    torch = _import("torch", "pip install torch")
    if not isinstance(module, torch.nn.Module):
        raise ModelError(
            f"{name} is a {type(module).__name__}, not a torch.nn.Module.",
            "give a module, an ONNX file or a name.",
        )
    if weights is not None:
        _load_weights(module, Path(weights))
    digest = hashlib.sha256()
    for key, value in module.state_dict().items():
        digest.update(key.encode())
        bits = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(memoryview(bits.numpy()))
    return Classifier(name, digest.hexdigest(), None, module.eval(), says or Preprocessing())


def _load_weights(module: Any, path: Path) -> None:
    import torch

    if not path.is_file():
        raise ModelError(f"the weights {path} do not exist.", "check the path.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path} needs more than tensors to be unpickled, and that can run any code: "
            f"{str(error).splitlines()[0]}",
            "save only the state dict: torch.save(model.state_dict(), path).",
        ) from error
    except Exception as error:
        raise ModelError(
            f"{path} is not a torch checkpoint: {error}", "save it with torch.save."
        ) from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    try:
        module.load_state_dict(state)
    except Exception as error:
        raise ModelError(
            f"the weights in {path} do not fit the model: {error}",
            "give the weights of this very architecture.",
        ) from error


def _import(name: str, fix: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ModelError(f"this source needs {name}: {error}", fix) from error
    except Exception as error:  # a torchvision built for another torch fails in its own way
        raise ModelError(
            f"{name} is installed but cannot be imported: {error}",
            f"install the {name} that belongs to this torch, or give an ONNX file.",
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Torch's exporter talks on stdout and warns of what its users cannot change."""
    loggers = [logging.getLogger(name) for name in ("torch", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
