"""OpenVINO, on Intel's processors, GPUs and NPUs: Intel's plugin for ONNX Runtime.

It is much faster in fixed shapes, and compiles for each. Of the options that ONNX Runtime's builds
with OpenVINO had until 2026 the plugin takes ``load_config`` and ignores the others, with a remark
in a log; unknown ones without. What those others said is told to it as properties of OpenVINO.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ...errors import OptionError
from ..host import start_compiled
from ..provider import Plugin, Provider, Values

# An option's name -> OpenVINO's property.
_PROPERTIES = {
    "cache_dir": "CACHE_DIR",
    "num_of_threads": "INFERENCE_NUM_THREADS",
    "num_streams": "NUM_STREAMS",
    "precision": "INFERENCE_PRECISION_HINT",
}


def settings(own: Mapping[str, str], threads: int | None) -> dict[str, str]:
    """In float32, with as many threads as asked for."""
    device = own.get("device_type", "CPU")
    properties: dict[str, Any] = {}
    if not device.startswith("NPU"):  # which has no float32
        # OpenVINO's own choice is bfloat16 where the processor has it, and float16 on a GPU: maps
        # are off by 7e-2.
        properties["INFERENCE_PRECISION_HINT"] = "f32"
    # It does not know of ONNX Runtime's number of threads.
    if threads is not None and device == "CPU":
        properties["INFERENCE_NUM_THREADS"] = threads
    for option, name in _PROPERTIES.items():
        if option in own:
            properties[name] = int(own[option]) if VALUES[option] is int else own[option]
    config = _config(own.get("load_config", "{}"))
    config[device] = {**properties, **config.get(device, {})}
    return {"device_type": device, "load_config": json.dumps(config)}


def _config(text: str) -> dict[str, Any]:
    """Properties of OpenVINO by device."""
    try:
        config = json.loads(text)
        fits = all(isinstance(properties, dict) for properties in config.values())
    except (AttributeError, ValueError, RecursionError):
        fits = False
    if not fits:
        raise OptionError(
            f"openvino.load_config={text}: not a JSON object of properties by device.",
            'write {"CPU": {"INFERENCE_NUM_THREADS": 4}}.',
        )
    return dict(config)


VALUES: dict[str, Values] = {
    "device_type": str,
    "load_config": str,
    "precision": ("f32", "f16", "bf16"),
    "num_of_threads": int,
    "num_streams": int,
    "cache_dir": str,
}

PROVIDER = Provider(
    name="openvino",
    full="OpenVINOExecutionProvider",
    brings="'backlit[openvino]'",
    note="wheels for Linux and Windows on x86-64",
    plugin=Plugin(
        package="onnxruntime-ep-openvino",
        module="onnxruntime_ep_openvino",
        needs="a processor, GPU or NPU of Intel's",
        device=("device_type", "ov_device"),
    ),
    named=True,
    start=start_compiled,
    values=VALUES,
    settings=settings,
    leaves_nodes=True,
    optimises=True,
    runs=1,
)
