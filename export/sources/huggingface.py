"""Hugging Face classifiers: ``hf:NAME_OR_FOLDER``, and what a configuration says of its input.

The image processor's configuration file is read here, not by transformers: its own classes want
torchvision, and what they do to a picture is eight numbers.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ...runtime.errors import BacklitWarning, ModelError, OptionError
from .classifier import Preprocessing
from .packages import import_or_fix
from .torch_export import quiet

if TYPE_CHECKING:
    from .classifier import Classifier

Settings = Mapping[str, Any]
_FILES = ("preprocessor_config.json", "processor_config.json")
_BICUBIC = (1, 3)  # Pillow's LANCZOS and BICUBIC


def from_hugging_face(text: str, weights: str | None) -> Classifier:
    """``hf:NAME_OR_FOLDER``, what ``AutoModelForImageClassification.from_pretrained`` takes.

    A folder is read without a network. Nothing of a model's own code is run.

    Raises:
        ModelError: transformers is missing, the model cannot be had or classifies no images.
    """
    from .checkpoints import read, set_weights
    from .modules import classifier

    transformers = import_or_fix("transformers", "pip install transformers")
    name = text.removeprefix("hf:")
    if not name:
        raise OptionError("hf: names no model.", "give hf:NAME, or hf: and a folder.")
    where = {"local_files_only": True} if Path(name).is_dir() else {}
    file = None if weights in (None, "random") else Path(str(weights))
    with _plainly(text, name), _silent(transformers), quiet():
        config = transformers.AutoConfig.from_pretrained(name, **where)
        builder = transformers.AutoModelForImageClassification
        if weights is None:
            module, loading = builder.from_pretrained(
                name, config=config, output_loading_info=True, **where
            )
        else:
            module, loading = builder.from_config(config), {}
        module = module.float()
        processor = _processor(name, transformers)
    missing = sorted(loading.get("missing_keys") or ())
    if missing:
        warnings.warn(
            f"{len(missing)} tensors of {text} are not in its weights and are random: "
            f"{', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}.",
            BacklitWarning,
            stacklevel=4,
        )
    if file is not None:
        set_weights(module, read(file), file)
    return classifier(module, text, preprocessing(processor, module.config))


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
    """Height and width of a processor's size: a number, two, or a table."""
    if isinstance(size, Mapping):
        if size.get("height") and size.get("width"):
            return int(size["height"]), int(size["width"])
        size = size.get("shortest_edge") or size.get("longest_edge")
    if isinstance(size, list | tuple) and len(size) == 2:
        return int(size[0]), int(size[1])
    return (int(size), int(size)) if isinstance(size, int | float) and size else None


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


def _processor(name: str, transformers: Any) -> Settings | None:
    """The image processor's configuration, of a folder or the hub; None where there is none."""
    for file in _FILES:
        path = Path(name) / file
        if not Path(name).is_dir():
            try:
                path = Path(transformers.utils.cached_file(name, file))
            except Exception:  # noqa: S112 - there is none, in the many ways that a hub says so
                continue
        if path.is_file():
            found = json.loads(path.read_text(encoding="utf-8"))
            inside = found.get("image_processor", found)
            if isinstance(inside, Mapping) and ("size" in inside or "image_mean" in inside):
                return inside
    return None


@contextlib.contextmanager
def _plainly(text: str, name: str) -> Iterator[None]:
    """What transformers raises, as one line."""
    try:
        yield
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        said = lines[0][:300] if lines else type(error).__name__
        fix = "check the name and the network, or download the model elsewhere and give hf:FOLDER."
        if Path(name).is_dir():
            fix = "give a folder that save_pretrained of an image classifier has written."
        elif "/" not in name or Path(name).is_absolute() or name.startswith("."):
            fix = "check the name: hf:OWNER/NAME, or hf: and a folder that is there."
        if "Unrecognized configuration class" in said:
            kind = re.search(r"configuration class <class '[\w.]*?(\w+)'>", str(error))
            said = f"transformers has no image classifier for {kind[1] if kind else 'it'}."
            fix = "give a model that AutoModelForImageClassification takes."
        elif "trust_remote_code" in str(error):
            said = "it is made by code of its own, which Backlit does not run."
            fix = "load it in Python yourself, and give the module to backlit.export."
        raise ModelError(f"{text} cannot be loaded: {said}", fix) from error


@contextlib.contextmanager
def _silent(transformers: Any) -> Iterator[None]:
    """Without transformers' progress bars and advice; its errors say what matters."""
    logging = getattr(getattr(transformers, "utils", None), "logging", None)
    if logging is None:
        yield
        return
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
