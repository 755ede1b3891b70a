"""The ``config.pbtxt`` of each model of a repository, in Triton's ModelConfig.

Fields: github.com/triton-inference-server/common, protobuf/model_config.proto; what the
onnxruntime backend's accelerators take: github.com/triton-inference-server/onnxruntime_backend.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np

from ...backend.interface import Spec, tensors
from ...backend.providers.cuda import CHOSEN
from ...boxes.recipes import Recipe
from ...contract import Contract
from ...maps.kinds import file_outputs

Backend = Literal["onnxruntime", "tensorrt", "python"]
Accelerator = Literal["cuda", "tensorrt"]

ENGINES = "/engines"
"""Folder of the container in which TensorRT's engines are kept."""
_TYPES: dict[type[np.generic], str] = {
    np.uint8: "TYPE_UINT8",
    np.float32: "TYPE_FP32",
    np.int64: "TYPE_INT64",
}
_TUNED = 8
"""Images of the run that TensorRT's engine is fastest in."""


@dataclasses.dataclass(frozen=True)
class Hosted:
    """A file in a repository.

    Attributes:
        name: of the ensemble; its steps are NAME_decode, NAME_maps and NAME_cut.
        contract: of the file, with the maps that are left in.
        recipe: how maps become boxes; it starts from one of those maps.
        backend: what computes the maps.
        accelerator: of the onnxruntime backend, on a GPU.
        devices: numbers of GPUs; none: whatever Triton finds, which is a CPU where there is no GPU.
        images: of a run, at most.
        classes: of a request, at most.
        delay: microseconds that a run waits, at most, for further requests.
    """

    name: str
    contract: Contract
    recipe: Recipe
    backend: Backend = "onnxruntime"
    accelerator: Accelerator = "cuda"
    devices: tuple[int, ...] = ()
    images: int = 32
    classes: int = 10
    delay: int = 2000

    @property
    def map(self) -> str:
        """The output that boxes start from."""
        return file_outputs(self.recipe.map, self.contract)[0]


def decode(hosted: Hosted) -> str:
    """Of the model that decodes."""
    spec = tensors(hosted.contract, (-1, -1))
    size = (hosted.contract.image.height, hosted.contract.image.width, 3)
    inputs = [_tensor("image", "TYPE_STRING", [1]), _of("class_index", spec.inputs["class_index"])]
    outputs = [
        _of("pixels", spec.inputs["image"]),
        _tensor("frame", "TYPE_UINT8", size),
        _tensor("place", "TYPE_FP64", [6]),
        _of("checked", spec.inputs["class_index"]),
    ]
    return _head(hosted, "decode", 'backend: "python"') + _python(inputs, outputs)


def cut(hosted: Hosted) -> str:
    """Of the model that makes boxes."""
    spec = tensors(hosted.contract, (-1, -1))
    size = (hosted.contract.image.height, hosted.contract.image.width, 3)
    inputs = [
        _tensor("frame", "TYPE_UINT8", size),
        _tensor("place", "TYPE_FP64", [6]),
        _of("class", spec.outputs["class"]),
        _of("score", spec.outputs["score"]),
        _of("map", spec.outputs[hosted.map]),
    ]
    outputs = [_tensor("box", "TYPE_INT32", [-1, 4]), _tensor("label", "TYPE_STRING", [-1])]
    return _head(hosted, "cut", 'backend: "python"') + _python(inputs, outputs)


def maps(hosted: Hosted) -> str:
    """Of the model that runs the file."""
    spec = tensors(hosted.contract, (-1, -1))
    model = "model.plan" if hosted.backend == "tensorrt" else "model.onnx"
    runs = f'backend: "{hosted.backend}"'
    if hosted.backend != "python":
        runs += f'\ndefault_model_filename: "{model}"'
    preferred = sorted({max(1, hosted.images // 4), hosted.images})
    parts = [
        _head(hosted, "maps", runs),
        _listed("input", [_of(*one) for one in spec.inputs.items()]),
        _listed("output", [_of(*one) for one in spec.outputs.items()]),
        f"dynamic_batching {{\n  preferred_batch_size: {preferred}\n"
        f"  max_queue_delay_microseconds: {hosted.delay}\n}}\n",
        _instances(hosted),
    ]
    if hosted.backend == "onnxruntime":
        parts.append(_accelerated(hosted))
    warm = [_warmup(spec.inputs, images) for images in sorted({1, hosted.images})]
    return "".join([*parts, _listed("model_warmup", warm)])


def ensemble(hosted: Hosted) -> str:
    """Of the whole: encoded images into boxes."""
    spec = tensors(hosted.contract, (-1, -1))
    inputs = [_tensor("image", "TYPE_STRING", [1]), _of("class_index", spec.inputs["class_index"])]
    outputs = [
        _tensor("box", "TYPE_INT32", [-1, 4]),
        _tensor("label", "TYPE_STRING", [-1]),
        *(_of(*one) for one in spec.outputs.items()),
    ]
    same = {name: name for name in spec.outputs}
    steps = [
        _step(
            f"{hosted.name}_decode",
            {"image": "image", "class_index": "class_index"},
            {name: name for name in ("pixels", "frame", "place", "checked")},
        ),
        _step(f"{hosted.name}_maps", {"image": "pixels", "class_index": "checked"}, same),
        _step(
            f"{hosted.name}_cut",
            {
                **{name: name for name in ("frame", "place", "class", "score")},
                "map": hosted.map,
            },
            {"box": "box", "label": "label"},
        ),
    ]
    head = _head(hosted, "", 'platform: "ensemble"')
    listed = _listed("input", inputs) + _listed("output", outputs)
    return f"{head}{listed}ensemble_scheduling {{\n{_listed('step', steps)}}}\n"


def _head(hosted: Hosted, step: str, runs: str) -> str:
    name = f"{hosted.name}_{step}" if step else hosted.name
    return f'name: "{name}"\n{runs}\nmax_batch_size: {hosted.images}\n'


def _python(inputs: list[str], outputs: list[str]) -> str:
    """A step before or after the network: what waits is one batch, on all cores, on the CPU."""
    listed = _listed("input", inputs) + _listed("output", outputs)
    return f"{listed}dynamic_batching {{ }}\ninstance_group [ {{ count: 1 kind: KIND_CPU }} ]\n"


def _instances(hosted: Hosted) -> str:
    """Two on a GPU, so that one computes while the other's batch is copied."""
    if hosted.devices:
        chosen = f"count: 2 kind: KIND_GPU gpus: {list(hosted.devices)}"
    elif hosted.backend == "python":
        chosen = "count: 1 kind: KIND_CPU"
    else:
        chosen = "count: 2 kind: KIND_GPU" if hosted.backend == "tensorrt" else "count: 1"
    return f"instance_group [ {{ {chosen} }} ]\n"


def _accelerated(hosted: Hosted) -> str:
    """What ONNX Runtime does on a GPU; an instance on a CPU does not read it."""
    settings = dict(CHOSEN)
    if hosted.accelerator == "tensorrt":
        settings = {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": ENGINES,
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": ENGINES,
            **{f"trt_profile_{which}_shapes": text for which, text in profiles(hosted).items()},
        }
    given = "".join(
        f"      parameters {{ key: {_text(key)} value: {_text(value)} }}\n"
        for key, value in settings.items()
    )
    return (
        "optimization {\n  execution_accelerators {\n    gpu_execution_accelerator [ {\n"
        f'      name: "{hosted.accelerator}"\n{given}    }} ]\n  }}\n}}\n'
    )


def profiles(hosted: Hosted) -> dict[str, str]:
    """``min``, ``opt`` and ``max``: the shapes of TensorRT's engine, as it takes them."""
    runs = {
        "min": (1, 1),
        "opt": (min(_TUNED, hosted.images), 1),
        "max": (hosted.images, hosted.classes),
    }
    return {
        which: ",".join(
            f"{name}:{'x'.join(map(str, dims))}"
            for name, (dims, _) in tensors(hosted.contract, shape).inputs.items()
        )
        for which, shape in runs.items()
    }


def _warmup(inputs: Mapping[str, Spec], images: int) -> str:
    """A run of so many images before the server says that it is ready."""
    given = "".join(
        f"    inputs {{ key: {_text(name)} value {{ data_type: {_TYPES[dtype]} "
        f"dims: {[1 if length < 0 else length for length in dims[1:]]} zero_data: true }} }}\n"
        for name, (dims, dtype) in inputs.items()
    )
    return f'{{\n    name: "of {images}"\n    batch_size: {images}\n{given}  }}'


def _step(model: str, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> str:
    """A step; the maps go from the model's names to the ensemble's."""
    lines = [
        f"    {which} {{ key: {_text(key)} value: {_text(value)} }}\n"
        for which, names in (("input_map", inputs), ("output_map", outputs))
        for key, value in names.items()
    ]
    return f'{{\n    model_name: "{model}"\n    model_version: -1\n{"".join(lines)}  }}'


def _of(name: str, spec: Spec) -> str:
    """A tensor of the file, whose first dimension is the batch's."""
    dims, dtype = spec
    return _tensor(name, _TYPES[dtype], dims[1:])


def _tensor(name: str, dtype: str, dims: Iterable[int]) -> str:
    return f"{{ name: {_text(name)} data_type: {dtype} dims: {list(dims)} }}"


def _listed(field: str, items: Iterable[str]) -> str:
    return f"{field} [\n  " + ",\n  ".join(items) + "\n]\n"


def _text(value: str) -> str:
    return json.dumps(value)
