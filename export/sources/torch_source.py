"""PyTorch classifiers: torchvision and timm names, callables, modules."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import importlib
import math
import pickle
from pathlib import Path
from typing import Any

from ...runtime.errors import ModelError
from .classifier import Classifier, Preprocessing
from .torch_export import quiet


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
        with quiet():
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


def from_timm(text: str, weights: str | None) -> Classifier:
    """``timm:NAME`` with its pretrained weights, a state dict's, or ``random`` ones.

    NAME is what ``timm.create_model`` takes: ``resnet18``, ``resnet18.a1_in1k``, ``hf-hub:...``.
    Size, mean, std, crop and interpolation are those of the model's data config; ImageNet labels
    where the number of classes is that of a subset of ImageNet.

    Raises:
        ModelError: timm is missing, the name is unknown, the weights cannot be had or do not fit.
    """
    import_or_fix("torchvision", "pip install torchvision")  # timm's own import needs it
    timm = import_or_fix("timm", "pip install timm")
    name = text.removeprefix("timm:")
    file = None if weights in (None, "random") else Path(str(weights))
    state = None if file is None else _read_weights(file)

    # exportable: timm's plain form of attention and activations, the same values.
    def create(**options: Any) -> Any:
        with quiet():
            return timm.create_model(name, exportable=True, **options)

    architecture = name.partition(".")[0]
    if ":" not in name and not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), 3, 0.4)
        raise ModelError(
            f"timm has no model {name!r}.",
            f"did you mean {', '.join(near)}?" if near else "see timm.list_models().",
        )
    try:
        module = create(pretrained=weights is None)
    except Exception as error:  # hubs, proxies and timm raise types of their own
        raise ModelError(
            f"{text} cannot be had with its weights: {str(error).strip().splitlines()[0]}",
            "check the name and the network, or download the weights elsewhere and give "
            "--weights FILE (or --weights random to try it out).",
        ) from error
    if state is not None and module.state_dict().keys() != state.keys():
        # The checkpoint as its authors published it: timm knows how to rename what is in it.
        with contextlib.suppress(Exception):
            module = create(pretrained=True, pretrained_cfg_overlay={"state_dict": state})
            state = module.state_dict()
    if state is not None:
        _set_weights(module, state, file)
    config = timm.data.resolve_model_data_config(module)
    subset = timm.data.infer_imagenet_subset(module)
    labels = timm.data.ImageNetInfo(subset).label_descriptions() if subset else None
    says = Preprocessing(
        size=config["input_size"][1:],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        range="0-1",
        crop_fraction=config["crop_pct"],
        interpolation="bilinear" if config["interpolation"] == "bilinear" else "bicubic",
        labels=None if labels is None else tuple(labels),
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
        if path.suffix == ".safetensors":
            safetensors = import_or_fix("safetensors.torch", "pip install safetensors")
            return dict(safetensors.load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path} needs more than tensors to be unpickled, and that can run any code: "
            f"{str(error).splitlines()[0]}",
            "save only the state dict: torch.save(model.state_dict(), path).",
        ) from error
    except ModelError:
        raise
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


__all__ = [
    "from_callable",
    "from_module",
    "from_timm",
    "from_torchvision",
    "import_or_fix",
]
