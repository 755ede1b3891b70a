"""PyTorch classifiers by name: torchvision's and timm's."""

from __future__ import annotations

import contextlib
import difflib
import math
from pathlib import Path
from typing import Any

from ...runtime.errors import ModelError
from .checkpoints import fit, read, set_weights
from .classifier import Classifier, Preprocessing
from .modules import classifier
from .packages import import_or_fix
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
    state = None if file is None else read(file)
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
        set_weights(module, state, file)
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
    return classifier(module, text, says)


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
    state = None if file is None else read(file)

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
    if state is not None:
        state = fit(state, list(module.state_dict()), file)
    if state is not None and module.state_dict().keys() != state.keys():
        # The checkpoint as its authors published it: timm knows how to rename what is in it.
        with contextlib.suppress(Exception):
            module = create(pretrained=True, pretrained_cfg_overlay={"state_dict": state})
            state = module.state_dict()
    if state is not None:
        set_weights(module, state, file)
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
    return classifier(module, text, says)


def _as_trained(name: str, state: dict[str, Any] | None) -> dict[str, Any]:
    """What torchvision's builders set themselves when they load their own weights."""
    if name in ("googlenet", "inception_v3"):
        return {"transform_input": state is not None, "init_weights": state is None}
    if name.startswith("vit_") and state is not None and "encoder.pos_embedding" in state:
        side = math.isqrt(state["encoder.pos_embedding"].shape[1] - 1)
        return {"image_size": side * state["conv_proj.weight"].shape[-1]}
    return {}
