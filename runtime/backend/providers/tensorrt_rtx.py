"""TensorRT for RTX: NVIDIA's RTX cards, by NVIDIA's plugin for ONNX Runtime.

It is for GeForce and workstation cards of compute capability 7.5, 8.6, 8.9 and 12.x. An A100 or an
H100 wants ``tensorrt``. An engine is made when a shape is known, in seconds, and what is compiled
for the card is kept in a file (``nv_runtime_cache_path``) for the next process.

No such card has run it with Backlit: what is tested is that the package registers where a driver
is, that options are checked, and that NVIDIA's parser and builder for RTX take the files
(``backlit check FILE --tensorrt``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import libraries
from ..host import start_compiled
from ..provider import SWITCH, Plugin, Provider, Values
from ..tensorrt.cache import default_root

# Those of tensorrt_rtx_provider_options.h in the package, but for pointers of C++ programs.
VALUES: dict[str, Values] = {
    "enable_cuda_graph": SWITCH,
    "nv_detailed_build_log": SWITCH,
    "nv_dump_subgraphs": SWITCH,
    "nv_enable_profiling": SWITCH,
    "nv_max_shared_mem_size": int,
    "nv_max_workspace_size": int,
    "nv_multi_profile_enable": SWITCH,
    "nv_op_types_to_exclude": str,
    "nv_persistent_context_memory": SWITCH,
    "nv_profile_max_shapes": str,
    "nv_profile_min_shapes": str,
    "nv_profile_opt_shapes": str,
    "nv_profiling_output_file": str,
    "nv_runtime_cache_path": str,
    "nv_target_sm": ("sm86", "sm89", "sm120", "sm121"),
    "nv_use_external_data_initializer": SWITCH,
    "nv_use_sync_gpu_allocator": SWITCH,
    "nv_weight_streaming_budget": str,
    "nv_weight_stripped_engine_enable_experimental": SWITCH,
}


def settings(own: Mapping[str, str], threads: int | None) -> dict[str, str]:
    """With what was compiled in Backlit's cache."""
    return {"nv_runtime_cache_path": str(default_root() / "tensorrt-rtx"), **own}


def explain(ort: Any) -> tuple[str, str]:
    """Whether there is a driver."""
    return libraries.explain(ort, ("driver",), "--providers cpu")


PROVIDER = Provider(
    name="tensorrt-rtx",
    full="NvTensorRTRTXExecutionProvider",
    brings="'backlit[tensorrt-rtx]'",
    note="for NVIDIA's RTX cards, 300 MB",
    plugin=Plugin(
        package="onnxruntime-ep-nv-tensorrt-rtx-cu13",
        module="onnxruntime_ep_nv_tensorrt_rtx",
        needs="an NVIDIA RTX card (compute capability 7.5, 8.6, 8.9 or 12.x)",
    ),
    named=True,
    untested=True,
    start=start_compiled,
    values=VALUES,
    settings=settings,
    explain=explain,
    leaves_nodes=True,
    runs=1,
)
