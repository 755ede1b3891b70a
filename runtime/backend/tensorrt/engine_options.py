"""What a TensorRT engine is made of: its key, its shapes, and the options that say so."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from ...contract import ENGINE_KEY, Contract, ImageInput
from ...errors import ModelError, OptionError
from ...schema import parse
from ..machine import gpu, tensorrt_version
from ..ort import onnxruntime
from ..provider import Options
from .cache import TIMING, Key, Shapes, system

_PROFILES = ("trt_profile_min_shapes", "trt_profile_opt_shapes", "trt_profile_max_shapes")
_OURS = (
    *("trt_engine_cache_path", "trt_engine_cache_prefix", "trt_timing_cache_path"),
    *("trt_dump_ep_context_model", "trt_ep_context_file_path", "trt_ep_context_embed_mode"),
)
"""What Backlit sets; a user who sets it would put engines under another's key."""

_NOT_IN_KEY = (
    *_OURS,
    *_PROFILES,  # as Shapes
    *("trt_engine_cache_enable", "trt_timing_cache_enable", "trt_force_timing_cache"),
    # of this process or of the run: the engine is the same
    *("device_id", "has_user_compute_stream", "user_compute_stream", "trt_cuda_graph_enable"),
    *("trt_detailed_build_log", "trt_context_memory_sharing_enable", "trt_dump_subgraphs"),
)


def key_of(
    model: bytes, contract: Contract, options: Options | None, shapes: Shapes, path: str | None
) -> Key:
    """What the engine of a Backlit file depends on, on this machine.

    Args:
        model: the file, perhaps without some maps.
        contract: its metadata, with the maps that were left in.
        options: of providers.
        shapes: of the runs.
        path: of the file, which may have weights beside it.

    Raises:
        ProviderError: there is no GPU or no TensorRT.
    """
    settings = {**(options or {}).get("tensorrt", {})}
    if tf32 := os.environ.get("NVIDIA_TF32_OVERRIDE"):  # TensorRT has no option for it
        settings["NVIDIA_TF32_OVERRIDE"] = tf32
    return Key(
        model=_model_hash(model, path),
        maps=tuple(made.name for made in contract.maps),
        onnxruntime=onnxruntime().__version__,
        tensorrt=tensorrt_version(),
        gpu=gpu(int(settings.get("device_id", "0"))),
        options=tuple(sorted(item for item in settings.items() if item[0] not in _NOT_IN_KEY)),
        shapes=shapes,
    )


def caches(folder: Path) -> dict[str, str]:
    """The engine's files in a folder of their own."""
    return {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
        # else the files bear the graph's name, which may be no name for a file
        "trt_engine_cache_prefix": "backlit",
    }


def timing(folder: Path) -> dict[str, str]:
    """For a build alone: the provider makes the folder, where it can, even if it builds nothing."""
    timing = str(folder.parent / TIMING)
    return {"trt_timing_cache_enable": "1", "trt_timing_cache_path": timing}


def profiles(shapes: Shapes, image: ImageInput) -> dict[str, str]:
    """The ranges of both dynamic inputs: without one of them there is no engine before the run."""
    size = (image.height, image.width, image.channels)
    if image.layout == "NCHW":
        size = (image.channels, image.height, image.width)
    runs = (
        *((1, 1), (shapes.tuned_images, shapes.tuned_classes)),
        (shapes.max_images, shapes.max_classes),
    )
    return {
        name: f"image:{'x'.join(map(str, (n, *size)))},class_index:{n}x{k}"
        for name, (n, k) in zip(_PROFILES, runs, strict=True)
    }


def wanted(
    given: Mapping[str, str], image: ImageInput, shapes: Shapes | None, where: str
) -> Shapes:
    """The shapes asked for, as such or by the provider's own options."""
    if ours := [name for name in given if name in _OURS]:
        raise OptionError(
            f"the option {ours[0]!r} of TensorRT is set by Backlit.",
            "leave it out; BACKLIT_CACHE names the cache, `backlit build -o` writes an engine.",
        )
    told = {name: given[name] for name in _PROFILES if name in given}
    wanted = shapes or Shapes()
    if told:
        with contextlib.suppress(KeyError, ValueError):
            (_, _), tuned, largest = [_run(told[name]) for name in _PROFILES]
            wanted = Shapes(*largest, *tuned)
        if told != profiles(wanted, image):
            raise OptionError(
                f"the profiles that TensorRT is given are not of {where}.",
                "give all three, as in "
                + " ".join(f"{name}={text}" for name, text in profiles(wanted, image).items()),
            )
    n, k = wanted.tuned_images, wanted.tuned_classes
    if not (1 <= n <= wanted.max_images and 1 <= k <= wanted.max_classes):
        raise OptionError(
            f"an engine for 1 to {wanted.max_images} images of 1 to {wanted.max_classes} classes "
            f"cannot be tuned for {n} of {k}.",
            "tune for a run between the smallest and the largest.",
        )
    return wanted


def _run(profile: str) -> tuple[int, int]:
    """Images and classes of ``image:8x224x224x3,class_index:8x1``."""
    n, k = dict(part.split(":") for part in profile.split(","))["class_index"].split("x")
    return int(n), int(k)


def _model_hash(model: bytes, path: str | None) -> str:
    digest = hashlib.sha256(model)
    if path is not None and os.path.exists(f"{path}.data"):
        with open(f"{path}.data", "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def fits_here(text: str, where: str, device: int) -> Shapes:
    """The shapes of an engine file, if it is one for this machine."""
    try:
        about = parse(text)
        shapes, made = Shapes(**about["shapes"]), about["gpu"]["capability"]
        needs = {"TensorRT": about["tensorrt"], "system": about["system"]}
        compatible = about["compatible"] and float(made) >= 8
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{where}: the {ENGINE_KEY!r} metadata is damaged ({error!r}).", "build it again."
        ) from error
    here = {"TensorRT": tensorrt_version(), "system": system()}
    got = gpu(device).capability
    if not (float(got) >= 8 if compatible else got == made):
        needs["compute capability"], here["compute capability"] = made, got
    for name, value in needs.items():
        if here[name] != value:
            raise ModelError(
                f"{where} is an engine for {name} {value}, and here is {here[name]}.",
                "build it again on a machine like this one: backlit build FILE -o ENGINE.",
            )
    return shapes
