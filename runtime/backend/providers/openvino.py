"""OpenVINO, on Intel processors."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping

from ..cpu import Bindings
from ..interface import read_metadata
from ..provider import File, Provider, Running

KEYS = (
    "cache_dir", "context", "device_id", "device_luid", "device_type", "disable_dynamic_shapes",
    "enable_causallm", "enable_opencl_throttling", "enable_qdq_optimizer", "layout",
    "load_config", "model_priority", "num_of_threads", "num_streams", "precision",
    "reshape_input",
)  # fmt: skip


def start(file: File, names: tuple[str, ...]) -> Running:
    """It is much faster in fixed shapes, and compiles for each: not before one is known."""
    plain = dataclasses.replace(file, options={})
    opened = plain.open(("cpu",), optimise=False)
    contract = read_metadata(opened.session, file.path, file.kept)
    bindings = Bindings(
        contract, lambda shape: file.open(names, shape=shape).session, compiles=True
    )
    return Running("openvino", contract, bindings, opened)


def settings(own: Mapping[str, str], threads: int | None) -> dict[str, str]:
    """In float32, with as many threads as asked for."""
    device = own.get("device_type", "CPU")
    # In bfloat16, which OpenVINO likes where the processor has it, maps are off by a quarter; and
    # it does not know of ONNX Runtime's number of threads.
    properties: dict[str, object] = {"INFERENCE_PRECISION_HINT": "f32"}
    if threads is not None and device == "CPU":
        properties["INFERENCE_NUM_THREADS"] = threads
    chosen = {"device_type": device, "load_config": json.dumps({device: properties})}
    return {**chosen, **own}


PROVIDER = Provider(
    name="openvino",
    full="OpenVINOExecutionProvider",
    brings="'backlit[openvino]'",
    note="wheels for Linux and Windows on x86-64",
    start=start,
    keys=KEYS,
    settings=settings,
    optimises=True,
    runs=1,
)
