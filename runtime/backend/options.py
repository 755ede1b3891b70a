"""Options of the execution providers: those that Backlit chooses, and the user's over them.

ONNX Runtime parses the options itself and refuses an unknown name or an impossible value, so what
is valid is asked of it; ``KEYS`` only helps to say what was meant. The options are described in its
documentation of the CUDA, TensorRT and OpenVINO execution providers.

What is left as ONNX Runtime has it, and why:

* CUDA ``cudnn_conv_use_max_workspace``: for cuDNN 8; with cuDNN 9 a plan brings its workspace.
* CUDA ``do_copy_in_default_stream``: copies on another stream may race (ONNX Runtime issue 4829).
* CUDA ``enable_cuda_graph``, ``user_compute_stream``; TensorRT ``trt_cuda_graph_enable``: belong to
  how a session binds its buffers, not to a provider; it sets them where its shapes are fixed.
* TensorRT ``trt_engine_cache_*``, ``trt_timing_cache_*``, ``trt_profile_*``: belong to one file;
  the engine cache sets them.
* TensorRT ``trt_fp16_enable``, ``trt_bf16_enable``, ``trt_int8_enable``: a Backlit file has its
  precision in the graph, the gradient's scaling included; and TensorRT 11 has no such flags.
* TensorRT ``trt_builder_optimization_level`` (3 of 5): a higher one tries more and builds longer.
* TF32 in TensorRT has no option: the environment variable NVIDIA_TF32_OVERRIDE=0 turns it off.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Mapping, Sequence

from ..errors import OptionError

Options = Mapping[str, Mapping[str, str]]
"""Short name of a provider -> option -> value."""

_KEYS = {
    "cuda": """
    device_id has_user_compute_stream user_compute_stream arena_extend_strategy
    cudnn_conv1d_pad_to_nc1d cudnn_conv_algo_search cudnn_conv_use_max_workspace
    do_copy_in_default_stream enable_cuda_graph enable_cudnn
    external_data_loader_reading_threads fuse_conv_bias gpu_external_alloc
    gpu_external_empty_cache gpu_external_free gpu_mem_limit prefer_nhwc sdpa_kernel
    tunable_op_enable tunable_op_max_tuning_duration_ms tunable_op_tuning_enable
    use_ep_level_unified_stream use_tf32
    """,
    "tensorrt": """
    device_id user_compute_stream trt_auxiliary_streams trt_bf16_enable
    trt_build_heuristics_enable trt_builder_optimization_level trt_context_memory_sharing_enable
    trt_cuda_graph_enable trt_detailed_build_log trt_dla_core trt_dla_enable
    trt_dump_ep_context_model trt_dump_subgraphs trt_engine_cache_enable trt_engine_cache_path
    trt_engine_cache_prefix trt_engine_decryption_enable trt_engine_decryption_lib_path
    trt_engine_hw_compatible trt_ep_context_embed_mode trt_ep_context_file_path
    trt_extra_plugin_lib_paths trt_force_sequential_engine_build trt_force_timing_cache
    trt_fp16_enable trt_int8_calibration_table_name trt_int8_enable
    trt_int8_use_native_calibration_table trt_layer_norm_fp32_fallback
    trt_max_partition_iterations trt_max_workspace_size trt_min_subgraph_size
    trt_onnx_model_folder_path trt_op_types_to_exclude trt_preview_features
    trt_profile_max_shapes trt_profile_min_shapes trt_profile_opt_shapes trt_sparsity_enable
    trt_tactic_sources trt_timing_cache_enable trt_timing_cache_path
    trt_weight_stripped_engine_enable
    """,
    "openvino": """
    cache_dir context device_id device_luid device_type disable_dynamic_shapes enable_causallm
    enable_opencl_throttling enable_qdq_optimizer layout load_config model_priority
    num_of_threads num_streams precision reshape_input
    """,
    "cpu": "",
}
KEYS = {name: tuple(keys.split()) for name, keys in _KEYS.items()}
"""Short name -> the options of ONNX Runtime 1.31, to name the one that was meant."""

_FLAGS = (
    *("trt_detailed_build_log", "trt_dump_ep_context_model", "trt_dump_subgraphs"),
    *("trt_engine_hw_compatible", "trt_force_sequential_engine_build", "trt_force_timing_cache"),
    *("trt_int8_use_native_calibration_table", "trt_layer_norm_fp32_fallback"),
)
"""TensorRT's options that are true or false, beside those named ..._enable."""

_CUDA = {
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


def parse(texts: Sequence[str]) -> dict[str, dict[str, str]]:
    """``PROVIDER.KEY=VALUE`` texts as options; of one key the last counts.

    Args:
        texts: such as ``cuda.use_tf32=0``; the provider is a short name.

    Raises:
        OptionError: not of that form, or no such provider.
    """
    options: dict[str, dict[str, str]] = {}
    for text in texts:
        name, _, setting = text.partition(".")
        key, equals, value = setting.partition("=")
        name, key = name.strip().lower(), key.strip()
        if not (name and key and equals):
            raise OptionError(
                f"{text!r} is no provider option.", "write PROVIDER.KEY=VALUE: cuda.use_tf32=0."
            )
        if name not in KEYS:
            raise OptionError(
                f"{text!r}: there is no execution provider {name!r}.",
                f"choose among {', '.join(KEYS)}.",
            )
        options.setdefault(name, {})[key] = value.strip()
    return options


def on(text: str) -> bool:
    """A switch among the options."""
    return text.lower() in ("1", "true")


def defaults(name: str, threads: int | None = None) -> dict[str, str]:
    """The options that Backlit chooses for a provider.

    Args:
        name: short name.
        threads: threads within an operator; None: as many as the provider likes.
    """
    if name == "cuda":
        return dict(_CUDA)
    return _openvino("CPU", threads) if name == "openvino" else {}


def merged(name: str, options: Options | None, threads: int | None = None) -> dict[str, str]:
    """The options that a provider (short name) gets: the user's over the defaults."""
    own = dict((options or {}).get(name, {}))
    chosen = defaults(name, threads)
    if name == "openvino" and "device_type" in own:
        chosen = _openvino(own["device_type"], threads)
    return _tensorrt({**chosen, **own}) if name == "tensorrt" else {**chosen, **own}


def _tensorrt(options: Mapping[str, str]) -> dict[str, str]:
    """As its parser wants it: True and False, which CUDA's takes as well as 1 and 0.

    That there is a stream of the user's it takes from ``user_compute_stream`` alone.
    """
    spelt = {"1": "True", "true": "True", "0": "False", "false": "False"}
    made = {
        key: spelt.get(value, value) if key.endswith("_enable") or key in _FLAGS else value
        for key, value in options.items()
    }
    if "user_compute_stream" in made:
        made.pop("has_user_compute_stream", None)
    return made


def _openvino(device: str, threads: int | None) -> dict[str, str]:
    # In bfloat16, which OpenVINO likes where the processor has it, maps are off by a quarter; and
    # it does not know of ONNX Runtime's number of threads.
    properties: dict[str, object] = {"INFERENCE_PRECISION_HINT": "f32"}
    if threads is not None and device == "CPU":
        properties["INFERENCE_NUM_THREADS"] = threads
    return {"device_type": device, "load_config": json.dumps({device: properties})}


def check_names(options: Options | None, taken: Collection[str]) -> None:
    """Refuse options that no provider would read.

    Args:
        options: the user's.
        taken: short names of the providers that the session is opened on.

    Raises:
        OptionError: for a provider that is not among them, or for one that has no options.
    """
    for name, own in (options or {}).items():
        for key, value in own.items():
            if name not in taken:
                raise OptionError(
                    f"{name}.{key}={value} is an option of {name}, which is not used: the file "
                    f"runs on {', '.join(taken)}.",
                    f"add --providers {name}, or leave the option out.",
                )
            if not KEYS.get(name, (key,)):
                raise OptionError(
                    f"{name}.{key}={value}: the {name} provider has no options.",
                    "leave it out; --threads bounds its threads.",
                )


# ONNX Runtime 1.31's own words; every one names the option, except for a number in TensorRT.
_UNKNOWN = re.compile(r'Unknown provider option: "([^"]*)"|Invalid \w+ EP option: (\S+)')
_VALUE = re.compile(r'provider option "([^"]*)":? ?(.*)|value for the key \'([^\']*)\' (.*)')
_NUMBER = re.compile(r"\bsto[a-z]+$")


def refused(text: str, options: Options | None) -> OptionError | None:
    """The error for an option that ONNX Runtime refuses; None if its message is of another kind.

    Args:
        text: ONNX Runtime's message.
        options: the user's; without any, none can be wrong.
    """
    given = {
        key: (name, value) for name, own in (options or {}).items() for key, value in own.items()
    }
    if match := _UNKNOWN.search(text):
        key = match[1] or match[2]
        name = given[key][0] if key in given else ""
        return _unknown(name, key) if name else None
    match = _VALUE.search(text)
    key = (match[1] or match[3]) if match else ""
    if match and key in given:
        name, value = given[key]
        why = (match[2] or match[4] or "").removesuffix(".").strip()
        return OptionError(
            f"{name}.{key}={value}: {_reason(why)}.", f"see ONNX Runtime's documentation of {key}."
        )
    if _NUMBER.search(text.strip()) and given:
        listed = ", ".join(f"{name}.{key}={value}" for key, (name, value) in given.items())
        return OptionError(f"Not a number, where one is wanted, in {listed}.", "give a number.")
    return None


def _unknown(name: str, key: str) -> OptionError:
    keys = KEYS.get(name, ())
    close = difflib.get_close_matches(key.lower(), keys, n=1, cutoff=0.75)
    return OptionError(
        f"The {name} provider has no option {key!r}.",
        f"did you mean {name}.{close[0]}?" if close else f"choose among {', '.join(keys)}.",
    )


def _reason(text: str) -> str:
    """ONNX Runtime's reason without the place in its source."""
    text = re.sub(r"^\S+\.(?:h|cc):\d+ (?:operator\(\)|\w+) ", "", text.strip())
    # What it prints here is not the value that it was given.
    text = re.sub(r"Failed to parse value: .*", "not a value of its type", text)
    text = re.sub(r"Failed to map enum name to value: .*", "no such choice", text)
    return text.rstrip(".") or "not a value that it takes"
