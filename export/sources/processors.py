"""What Hugging Face's configurations say of a classifier's input.

The image processor's configuration file is read here, not by transformers: its own classes want
torchvision, and what they do to a picture is eight numbers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Literal

from .classifier import Preprocessing

Settings = Mapping[str, Any]
_BICUBIC = (1, 3)  # Pillow's LANCZOS and BICUBIC


def of_config(config: Any) -> Preprocessing:
    """Size and labels of a model's configuration; nothing where it is none of transformers'."""
    return Preprocessing(size=_own_size(config), labels=_labels(config))


def preprocessing(processor: Settings | None, config: Any) -> Preprocessing:
    """What an image processor's configuration and a model's say of the input.

    A processor computes ``(pixel * rescale_factor [- 1] - image_mean) / image_std``; with another
    factor than 1/255, mean and std are given here as they are for pixels in 0..1.
    """
    timm = getattr(config, "pretrained_cfg", None)
    if processor is None and isinstance(timm, Mapping):  # a timm model on the hub
        processor = _as_processor(timm)
    if processor is None:
        return of_config(config)
    size, crop = _size_and_crop(processor)
    resample = processor.get("resample")
    mean, std = _mean_and_std(processor)
    return Preprocessing(
        size=size or _own_size(config),
        mean=mean,
        std=std,
        range="0-255" if processor.get("do_rescale", True) is False else "0-1",
        crop_fraction=crop,
        interpolation=None if resample is None else _interpolation(resample),
        labels=_labels(config),
        bgr=processor.get("do_flip_channel_order") is True,
    )


def _mean_and_std(processor: Settings) -> tuple[tuple[float, ...] | None, ...]:
    """For pixels in 0..1, or 0..255 where they are not rescaled; None where nothing is said."""
    normalises = processor.get("do_normalize", "image_mean" in processor)
    mean, std = processor.get("image_mean"), processor.get("image_std")
    if normalises and (mean is None or std is None):
        return None, None
    mean, std = (_numbers(mean), _numbers(std)) if normalises else ((0.0,), (1.0,))
    if processor.get("do_rescale", True) is False:
        return mean, std
    factor = processor.get("rescale_factor") or 1 / 255
    scale, offset = 255 * float(factor), 0.0
    # EfficientNet's and ViViT's: pixels into -1..1; older ones say nothing of it but the factor.
    if processor.get("rescale_offset") is True:
        offset = 1.0
    if math.isclose(scale, 1, rel_tol=1e-6) and not offset:
        return mean, std
    return tuple((m + offset) / scale for m in mean), tuple(s / scale for s in std)


def _numbers(value: Any) -> tuple[float, ...]:
    return tuple(map(float, value)) if isinstance(value, list | tuple) else (float(value),)


def _size_and_crop(processor: Settings) -> tuple[tuple[int, int] | None, float | None]:
    """The size of what the model gets, and which part of the shorter side that is."""
    if processor.get("do_resize", True) is False and not processor.get("do_center_crop"):
        return None, None
    resized = _pair(processor.get("size"))
    kind = str(processor.get("image_processor_type") or processor.get("feature_extractor_type"))
    if resized is None:
        return _pair(processor.get("crop_size")), None
    by_part = processor.get("crop_pct")
    if kind.startswith("ConvNext") or (by_part and not kind.startswith("PoolFormer")):
        part = float(by_part or 224 / 256)
        return resized, part if min(resized) < 384 else 1.0
    crops = processor.get("do_center_crop", "crop_size" in processor)
    cut = _pair(processor.get("crop_size")) if crops else None
    if kind.startswith("PoolFormer"):
        return cut or resized, float(by_part or 0.9)
    if kind.startswith("Levit"):
        return cut or resized, 224 / 256 if cut else None
    if cut is None:
        return resized, None
    return cut, min(1.0, min(cut) / min(resized))


def _pair(size: Any) -> tuple[int, int] | None:
    """Height and width of a processor's size: a number, two, or a table; None for no such size."""
    if isinstance(size, Mapping):
        if size.get("height") and size.get("width"):
            size = [size["height"], size["width"]]
        else:
            size = size.get("shortest_edge") or size.get("longest_edge")
    sides = list(size) if isinstance(size, list | tuple) else [size, size]
    if len(sides) != 2 or not all(type(side) in (int, float) and side >= 1 for side in sides):
        return None
    return int(sides[0]), int(sides[1])


def _interpolation(resample: Any) -> Literal["bilinear", "bicubic"]:
    return "bicubic" if resample in _BICUBIC or "bicubic" in str(resample).lower() else "bilinear"


def _as_processor(timm: Settings) -> Settings:
    """A timm model's ``pretrained_cfg`` as an image processor would say it."""
    return {
        "size": list(timm["input_size"][1:]) if "input_size" in timm else None,
        "image_mean": timm.get("mean"), "image_std": timm.get("std"),
        "resample": timm.get("interpolation"), "crop_pct": timm.get("crop_pct"),
    }  # fmt: skip


def _own_size(config: Any) -> tuple[int, int] | None:
    """The size that a model's configuration names, also where a part for vision does."""
    for part in (config, getattr(config, "vision_config", None)):
        found = _pair(getattr(part, "image_size", None))
        if found is not None:
            return found
    return None


def _labels(config: Any) -> tuple[str, ...] | None:
    """The names in ``id2label``; None where they are those that transformers makes up."""
    named = getattr(config, "id2label", None)
    if not isinstance(named, Mapping) or not named:
        return None
    by_number = {int(key): str(value) for key, value in named.items()}
    if sorted(by_number) != list(range(len(by_number))):
        return None
    labels = tuple(by_number[i] for i in range(len(by_number)))
    made_up = all(re.fullmatch(r"LABEL_\d+", label) for label in labels)
    return None if made_up else labels
