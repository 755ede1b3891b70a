"""PyTorch classifiers: torchvision names, callables, modules; and their way to ONNX."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import logging
import math
import pickle
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from ..runtime.errors import ModelError
from .loaded import Classifier, Preprocessing
from .normalise import BATCH, OPSET

if TYPE_CHECKING:
    import torch


def from_torchvision(text: str, weights: str | None) -> Classifier:
    """``torchvision:NAME`` with its default weights, a state dict's, or ``random`` ones.

    Raises:
        ModelError: torchvision is missing, the name is unknown, the weights cannot be had.
    """
    torchvision = import_or_fix("torchvision", "pip install torchvision")
    name, models = text.removeprefix("torchvision:"), torchvision.models
    if name not in models.list_models(module=models):
        raise ModelError(
            f"torchvision has no classifier {name!r}.",
            "see torchvision.models.list_models(module=torchvision.models).",
        )
    default = models.get_model_weights(name).DEFAULT
    preset = default.transforms()
    file = None if weights in (None, "random") else Path(str(weights))
    state = None if file is None else _read_weights(file)
    try:
        with _quiet():
            module = (
                models.get_model(name, weights=default)
                if weights is None
                else models.get_model(name, weights=None, **_as_trained(name, state))
            )
    except OSError as error:
        raise ModelError(
            f"the weights of {text} cannot be downloaded: {error}",
            "download them elsewhere and give --weights FILE (or --weights random to try it out).",
        ) from error
    if state is not None:
        _set_weights(module, state, file)
    size = getattr(module, "image_size", preset.crop_size[0])  # a ViT's weights fix its size
    says = Preprocessing(
        size=(size, size),
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        range="0-1",
        crop_fraction=preset.crop_size[0] / preset.resize_size[0],
        interpolation="bicubic" if "bicubic" in str(preset.interpolation).lower() else "bilinear",
        labels=tuple(default.meta["categories"]),
    )
    return _classifier(module, text, says)


def from_callable(text: str, weights: str | None) -> Classifier:
    """``package.module:callable``, called without arguments.

    Raises:
        ModelError: it cannot be imported or called, or returns no nn.Module.
    """
    module_name, _, attribute = text.partition(":")
    import_or_fix("torch", "pip install torch")
    try:
        made = getattr(importlib.import_module(module_name), attribute)()
    except Exception as error:
        raise ModelError(
            f"{text} cannot be called: {type(error).__name__}: {error}",
            "give package.module:callable, importable from here and callable without arguments.",
        ) from error
    return from_module(made, text, weights)


def from_module(module: Any, name: str, weights: str | None) -> Classifier:
    """An nn.Module, with the weights of a state dict where one is given.

    Raises:
        ModelError: it is something else, or the weights cannot be read or do not fit.
    """
    torch = import_or_fix("torch", "pip install torch")
    if not isinstance(module, torch.nn.Module):
        raise ModelError(
            f"{name} is a {type(module).__name__}, not a torch.nn.Module.",
            "give a module, an ONNX file or a name.",
        )
    if weights is not None:
        _set_weights(module, _read_weights(Path(weights)), Path(weights))
    return _classifier(module, name, Preprocessing())


def module_to_onnx(module: torch.nn.Module, size: tuple[int, int]) -> tuple[ir.Model, str]:
    """Export a module by the first of PyTorch's exporters that takes it.

    Args:
        module: in eval mode; its input is [N, C, H, W], C as its first convolution takes (else 3).
        size: height and width in pixels.

    Returns:
        The model, one input ``input`` with a dynamic first dimension (except from the exporter
        that fixes it), its weights still the module's tensors; and the exporter used.

    Raises:
        ModelError: none can; says what each said.
    """
    import torch

    parameters = list(module.parameters())
    kernels = [p.shape[1] for p in parameters if p.ndim == 4 and p.shape[1] in (1, 3)]
    dtype = next((p.dtype for p in parameters if p.is_floating_point()), torch.float32)
    example = torch.zeros(2, kernels[0] if kernels else 3, *size, dtype=dtype)
    said = []
    for name, exporter in EXPORTERS.items():
        try:
            with _quiet(), torch.no_grad():
                return exporter(module, example), name
        except Exception as error:
            lines = [line for line in _root(error).splitlines() if line.strip()] or [""]
            said.append(f"  {name}: {type(error).__name__}: {lines[0].strip()[:200]}")
    raise ModelError(
        "none of PyTorch's exporters takes the model:\n" + "\n".join(said),
        "export the model to ONNX yourself (any exporter) and give the .onnx file.",
    )


def _by_export(module: torch.nn.Module, example: torch.Tensor) -> ir.Model:
    import torch

    return _converted(module, example, ({0: torch.export.Dim(BATCH, min=1)},))


def _by_strict_export(module: torch.nn.Module, example: torch.Tensor) -> ir.Model:
    import torch

    shapes = ({0: torch.export.Dim(BATCH, min=1)},)
    program = torch.export.export(module, (example,), dynamic_shapes=shapes, strict=True)
    return _converted(program, example, None)


def _by_fixed_batch(module: torch.nn.Module, example: torch.Tensor) -> ir.Model:
    return _converted(module, example[:1], None)


def _converted(module: Any, example: torch.Tensor, shapes: Any) -> ir.Model:
    import torch

    program: Any = torch.onnx.export(
        module, (example,), dynamo=True, opset_version=OPSET, dynamic_shapes=shapes,
        input_names=["input"], output_names=["scores"], verbose=False,
    )  # fmt: skip
    return program.model


def _by_torchscript(module: torch.nn.Module, example: torch.Tensor) -> ir.Model:
    import onnx
    import torch

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            module, (example,), path, dynamo=False, opset_version=OPSET, input_names=["input"],
            output_names=["scores"], dynamic_axes={"input": {0: BATCH}},
        )  # fmt: skip
        return ir.serde.deserialize_model(onnx.load(path))


# In the order they are tried; the first by itself tries non-strict and then strict capture.
EXPORTERS: dict[str, Callable[[Any, Any], ir.Model]] = {
    "torch.export": _by_export,
    "torch.export, strict": _by_strict_export,
    "torch.export, fixed batch": _by_fixed_batch,
    "TorchScript": _by_torchscript,
}


def _root(error: BaseException) -> str:
    """What the innermost of chained errors says: PyTorch wraps the reason in advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)


def _classifier(module: Any, name: str, says: Preprocessing) -> Classifier:
    import torch

    digest = hashlib.sha256()
    for key, value in module.state_dict().items():
        digest.update(key.encode())
        bits = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(memoryview(bits.numpy()))
    return Classifier(name, digest.hexdigest(), None, module.eval(), says)


def _as_trained(name: str, state: dict[str, Any] | None) -> dict[str, Any]:
    """What torchvision's builders set themselves when they load their own weights."""
    if name in ("googlenet", "inception_v3"):
        return {"transform_input": state is not None, "init_weights": state is None}
    if name.startswith("vit_") and state is not None and "encoder.pos_embedding" in state:
        side = math.isqrt(state["encoder.pos_embedding"].shape[1] - 1)
        return {"image_size": side * state["conv_proj.weight"].shape[-1]}
    return {}


def _read_weights(path: Path) -> dict[str, Any]:
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
    return state.get("state_dict", state) if isinstance(state, dict) else state


def _set_weights(module: Any, state: Any, path: Path | None) -> None:
    try:
        module.load_state_dict(state)
    except Exception as error:
        raise ModelError(
            f"the weights in {path} do not fit the model: {error}",
            "give the weights of this very architecture.",
        ) from error


def import_or_fix(name: str, fix: str) -> Any:
    """Import an optional package.

    Raises:
        ModelError: it is missing (says ``fix``), or does not belong to this torch.
    """
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
