"""NVIDIA GPUs, by CUDA and cuDNN.

What is left as ONNX Runtime has it, and why:

* ``cudnn_conv_use_max_workspace``: for cuDNN 8; with cuDNN 9 a plan brings its workspace.
* ``do_copy_in_default_stream``: copies on another stream may race (ONNX Runtime issue 4829).
* ``enable_cuda_graph``, ``user_compute_stream``: belong to how a session binds its buffers, which
  sets them where its shapes are fixed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...errors import ModelError, OptionError
from .. import libraries
from ..cuda.buffers import BUFFER_SETS
from ..cuda.on_device import device, on_device
from ..interface import read_metadata
from ..ort import onnxruntime
from ..provider import File, Provider, Running, on

KEYS = (
    "device_id", "has_user_compute_stream", "user_compute_stream", "arena_extend_strategy",
    "cudnn_conv1d_pad_to_nc1d", "cudnn_conv_algo_search", "cudnn_conv_use_max_workspace",
    "do_copy_in_default_stream", "enable_cuda_graph", "enable_cudnn",
    "external_data_loader_reading_threads", "fuse_conv_bias", "gpu_external_alloc",
    "gpu_external_empty_cache", "gpu_external_free", "gpu_mem_limit", "prefer_nhwc",
    "sdpa_kernel", "tunable_op_enable", "tunable_op_max_tuning_duration_ms",
    "tunable_op_tuning_enable", "use_ep_level_unified_stream", "use_tf32",
)  # fmt: skip

CHOSEN = {
    # TF32 lets tensor cores multiply float32, its factors rounded to the 10 bits that fp16 has;
    # PyTorch's convolutions do the same unless told not to. 0 to compare with a CPU.
    "use_tf32": "1",
    # With cuDNN 9 this measures nothing: it is the heuristics that picks a convolution's plan, B
    # (EXHAUSTIVE), A (HEURISTIC) or the fallback (DEFAULT, slow). B costs more time on the CPU and
    # knows better; a session has few shapes, so that time is spent once for each of them.
    "cudnn_conv_algo_search": "EXHAUSTIVE",
    # The other strategy rounds each growth up to a power of two, and what it rounds up to nobody
    # else on the GPU can have. A session has few shapes, so the arena grows a few times only.
    "arena_extend_strategy": "kSameAsRequested",
    # NHWC suits tensor cores, but in ONNX Runtime 1.31 only convolutions and pooling have it: of
    # resnet50's gradient it makes 171 nodes more, 156 of them Transpose (placed without a GPU).
    "prefer_nhwc": "0",
}
_GRAPHS = ["1", "0"]


def start(file: File, names: tuple[str, ...]) -> Running:
    """With a CUDA graph for each shape, where all of the graph is on the device."""
    own = file.own("cuda")
    if any(name.startswith("gpu_external_") for name in own):
        raise OptionError(
            "cuda.gpu_external_alloc and its kin: ONNX Runtime takes no allocator from outside "
            "beside a stream, and a session computes on one of its own.",
            "leave them out; cuda.gpu_mem_limit bounds the memory.",
        )
    # Whether all of the graph is on the device ONNX Runtime knows when it has placed the nodes.
    wishes = [own["enable_cuda_graph"]] if "enable_cuda_graph" in own else _GRAPHS[_old() :]
    with device(own) as gpu:
        for wish in wishes:
            extra = {**gpu.options, "enable_cuda_graph": wish}
            try:
                opened = file.open(names, {"cuda": {**own, **extra}})
                break
            except ModelError as error:
                if wish == wishes[-1] or "graph capture" not in error.problem:
                    raise
        contract = read_metadata(opened.session, file.path, file.kept)
        return on_device("cuda", contract, opened, gpu, PROVIDER.buckets, graphs=on(wish))


def _old() -> bool:
    """An ONNX Runtime whose CUDA graphs read host memory that is no longer theirs.

    Concat, Split and others of a replayed graph then give other shapes' results (pull requests
    32120 and 32121).
    """
    return tuple(map(int, re.findall(r"\d+", onnxruntime().__version__)[:3])) < (1, 31, 1)


def settings(own: Mapping[str, str], threads: int | None) -> dict[str, str]:
    """Backlit's choices, and the user's over them."""
    return {**CHOSEN, **own}


def explain(ort: Any) -> tuple[str, str]:
    """Which libraries are missing."""
    return libraries.explain(ort, ("driver", "cuda", "cudnn"), "--providers cpu")


PROVIDER = Provider(
    name="cuda",
    full="CUDAExecutionProvider",
    brings="'backlit[gpu]'",
    start=start,
    keys=KEYS,
    settings=settings,
    preload=libraries.preload,
    explain=explain,
    leaves_nodes=True,
    views=32,
    runs=BUFFER_SETS,
    buckets=(1, 8, 32, 128),
)
