"""QNN: Qualcomm's processors, by Qualcomm's plugin for ONNX Runtime.

Its NPU (``backend_type=htp``) computes in half precision and whole numbers; its GPU takes float32.
"""

from __future__ import annotations

from ..host import start_compiled
from ..provider import SWITCH, Plugin, Provider, Values

# docs/execution_providers/QNN-ExecutionProvider.md of onnxruntime/onnxruntime-qnn, for 2.3; without
# what concerns language models and dumps.
VALUES: dict[str, Values] = {
    "backend_path": str,
    "backend_type": ("cpu", "gpu", "htp", "saver", "ir"),
    "device_id": int,
    "disable_file_mapped_weights": SWITCH,
    "enable_block_quant_weight_optimization": SWITCH,
    "enable_htp_fp16_precision": SWITCH,
    "enable_htp_shared_memory_allocator": SWITCH,
    "enable_htp_spill_fill_buffer": SWITCH,
    "extended_udma": SWITCH,
    "htp_arch": int,
    "htp_bf16_enable": SWITCH,
    "htp_graph_finalization_optimization_mode": ("0", "1", "2", "3"),
    "htp_performance_mode": (
        "burst", "balanced", "default", "high_performance", "high_power_saver", "low_balanced",
        "low_power_saver", "power_saver", "extreme_power_saver", "sustained_high_performance",
    ),
    "htp_share_resource_optimization": ("1",),
    "num_graph_prepare_threads": int,
    "offload_graph_io_quantization": SWITCH,
    "op_packages": str,
    "profiling_file_path": str,
    "profiling_level": ("off", "basic", "detailed", "optrace"),
    "qnn_context_priority": ("low", "normal", "normal_high", "high"),
    "rpc_control_latency": int,
    "skip_qnn_version_check": SWITCH,
    "soc_model": int,
    "vtcm_mb": int,
}  # fmt: skip

PROVIDER = Provider(
    name="qnn",
    full="QNNExecutionProvider",
    brings="onnxruntime-qnn",
    note="Windows and Linux on ARM",
    plugin=Plugin(
        package="onnxruntime-qnn",
        module="onnxruntime_qnn",
        needs="a processor of Qualcomm's with an NPU or a GPU",
    ),
    named=True,
    untested=True,
    start=start_compiled,
    values=VALUES,
    leaves_nodes=True,
    runs=1,
)
