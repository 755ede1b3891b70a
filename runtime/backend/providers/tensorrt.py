"""NVIDIA GPUs, by TensorRT: one engine for the whole graph, built for minutes.

What is left as ONNX Runtime has it, and why:

* ``trt_cuda_graph_enable``: belongs to how a session binds its buffers.
* ``trt_engine_cache_*``, ``trt_timing_cache_*``, ``trt_profile_*``: belong to one file; the engine
  cache sets them.
* ``trt_fp16_enable``, ``trt_bf16_enable``, ``trt_int8_enable``: a Backlit file has its precision in
  the graph, the gradient's scaling included; and TensorRT 11 has no such flags.
* ``trt_builder_optimization_level`` (3 of 5): a higher one tries more and builds longer.
* TF32 has no option: the environment variable NVIDIA_TF32_OVERRIDE=0 turns it off.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...contract import KEY, Contract
from ...errors import OptionError
from .. import libraries
from ..cuda.buffers import BUFFER_SETS
from ..cuda.on_device import device, on_device
from ..interface import read_metadata
from ..models import read_file
from ..protobuf import metadata
from ..provider import File, Provider, Running, on

KEYS = (
    "device_id", "user_compute_stream", "trt_auxiliary_streams", "trt_bf16_enable",
    "trt_build_heuristics_enable", "trt_builder_optimization_level",
    "trt_context_memory_sharing_enable", "trt_cuda_graph_enable", "trt_detailed_build_log",
    "trt_dla_core", "trt_dla_enable", "trt_dump_ep_context_model", "trt_dump_subgraphs",
    "trt_engine_cache_enable", "trt_engine_cache_path", "trt_engine_cache_prefix",
    "trt_engine_decryption_enable", "trt_engine_decryption_lib_path",
    "trt_engine_hw_compatible", "trt_ep_context_embed_mode", "trt_ep_context_file_path",
    "trt_extra_plugin_lib_paths", "trt_force_sequential_engine_build", "trt_force_timing_cache",
    "trt_fp16_enable", "trt_int8_calibration_table_name", "trt_int8_enable",
    "trt_int8_use_native_calibration_table", "trt_layer_norm_fp32_fallback",
    "trt_max_partition_iterations", "trt_max_workspace_size", "trt_min_subgraph_size",
    "trt_onnx_model_folder_path", "trt_op_types_to_exclude", "trt_preview_features",
    "trt_profile_max_shapes", "trt_profile_min_shapes", "trt_profile_opt_shapes",
    "trt_sparsity_enable", "trt_tactic_sources", "trt_timing_cache_enable",
    "trt_timing_cache_path", "trt_weight_stripped_engine_enable",
)  # fmt: skip

_FLAGS = (
    *("trt_detailed_build_log", "trt_dump_ep_context_model", "trt_dump_subgraphs"),
    *("trt_engine_hw_compatible", "trt_force_sequential_engine_build", "trt_force_timing_cache"),
    *("trt_int8_use_native_calibration_table", "trt_layer_norm_fp32_fallback"),
)
"""TensorRT's options that are true or false, beside those named ..._enable."""


_ON_IT = ("tensorrt", "cuda")
"""What computes on the device's stream."""


def start(file: File, names: tuple[str, ...]) -> Running:
    """With an engine from the cache, which takes minutes to build."""
    from ..tensorrt.engines import open_tensorrt

    own = file.own("tensorrt")
    if on(own.get("trt_cuda_graph_enable", "0")):
        raise OptionError(
            "tensorrt.trt_cuda_graph_enable: ONNX Runtime's TensorRT provider keeps one CUDA graph "
            "and replays it whatever is bound, and a file is run in several shapes.",
            "leave it out; on cuda each shape has a CUDA graph.",
        )
    data = file.model if isinstance(file.model, bytes) else read_file(file.model)
    contract = Contract.from_json(metadata(data).get(KEY), file.path)
    if file.kept is not None:
        contract = contract.keeping(file.kept)
    with device(own) as gpu:
        shared = {name: {**file.own(name), **gpu.options} for name in names if name in _ON_IT}
        engine = open_tensorrt(
            data, contract, {**file.options, **shared},
            opener=file.opener, providers=names, threads=file.threads, path=file.path,
        )  # fmt: skip
        contract = read_metadata(engine.session, file.path, file.kept)
        most, classes = engine.shapes.max_images, engine.shapes.max_classes
        buckets = sorted({size for size in PROVIDER.buckets if size < most} | {most})
        return on_device("tensorrt", contract, engine, gpu, buckets, classes=classes)


def settings(own: Mapping[str, str], threads: int | None) -> dict[str, str]:
    """As its parser wants them: True and False, which CUDA's takes as well as 1 and 0.

    That there is a stream of the user's it takes from ``user_compute_stream`` alone.
    """
    spelt = {"1": "True", "true": "True", "0": "False", "false": "False"}
    made = {
        key: spelt.get(value, value) if key.endswith("_enable") or key in _FLAGS else value
        for key, value in own.items()
    }
    if "user_compute_stream" in made:
        made.pop("has_user_compute_stream", None)
    return made


def preload(ort: Any) -> str:
    """CUDA's libraries and its own."""
    missing = libraries.preload(ort)
    libraries.preload_tensorrt(ort)
    return missing


def explain(ort: Any) -> tuple[str, str]:
    """Which libraries are missing."""
    needs = ("driver", "cuda", "cudnn", "tensorrt")
    return libraries.explain(ort, needs, "--providers cuda or cpu")


PROVIDER = Provider(
    name="tensorrt",
    full="TensorrtExecutionProvider",
    brings="'backlit[gpu]' 'tensorrt-cu13>=10.13,<11'",
    start=start,
    keys=KEYS,
    settings=settings,
    # An engine takes seconds, even of one node: that its libraries load and make a builder is
    # enough, and the node stays with ONNX Runtime.
    trial={"trt_min_subgraph_size": "1000"},
    preload=preload,
    explain=explain,
    leaves_nodes=True,
    views=32,
    runs=BUFFER_SETS,
    buckets=(1, 8, 32),
)
