"""MIGraphX: AMD's GPUs, in the build onnxruntime-migraphx."""

from __future__ import annotations

from ..host import start_compiled
from ..provider import Provider

PROVIDER = Provider(
    name="migraphx",
    full="MIGraphXExecutionProvider",
    brings="onnxruntime-migraphx",
    note="AMD's GPUs, with ROCm",
    named=True,
    untested=True,
    start=start_compiled,
    # migraphx_execution_provider_info.cc of ONNX Runtime, which refuses what it does not know.
    keys=(
        "device_id", "migraphx_fp16_enable", "migraphx_bf16_enable", "migraphx_fp8_enable",
        "migraphx_int8_enable", "migraphx_exhaustive_tune", "migraphx_mem_limit",
        "migraphx_arena_extend_strategy", "migraphx_model_cache_dir",
    ),
    leaves_nodes=True,
    runs=1,
)  # fmt: skip
