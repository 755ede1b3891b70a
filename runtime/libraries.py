"""The libraries that execution providers need: loading them, what is missing, what mends it."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import os
from typing import Any

# Its builds all own the module onnxruntime, so one is to go before another comes.
SWAP = "pip uninstall -y onnxruntime onnxruntime-gpu onnxruntime-openvino, then pip install "
FIX_BUILD = {
    "tensorrt": SWAP + "'backlit[gpu]' 'tensorrt-cu13>=10.13,<11'.",
    "cuda": SWAP + "'backlit[gpu]'.",
    "openvino": SWAP + "'backlit[openvino]' (wheels for Linux and Windows on x86-64).",
    "cpu": SWAP + "'backlit[cpu]'.",
}
"""What brings a build of ONNX Runtime that contains a provider."""


@functools.cache
def preload(ort: Any) -> str:
    """Load the CUDA libraries of the nvidia-* wheels; what was not found, or an empty text."""
    if not hasattr(ort, "preload_dlls"):
        return ""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):  # it prints what it cannot load
        try:
            ort.preload_dlls()
        except Exception as error:  # a helper: the provider's own attempt decides
            return last_line(error)
    lines = [line for line in printed.getvalue().splitlines() if line.startswith("Failed to load")]
    names = [line.removeprefix("Failed to load ").split(":")[0] for line in lines]
    return f"libraries not found: {', '.join(names)}" if names else ""


def missing_library(name: str) -> str:
    """The library whose absence explains best why a provider does not load."""
    wanted = {
        "tensorrt": [("libcuda.so.1", "no NVIDIA driver"), ("libnvinfer.so.10", "no TensorRT 10")],
        "cuda": [("libcuda.so.1", "no NVIDIA driver"), ("libcudnn.so.9", "no cuDNN 9")],
    }
    found = []
    for library, meaning in wanted.get(name, []) if os.name == "posix" else []:
        try:
            ctypes.CDLL(library)
        except OSError:
            found.append(f"{meaning} ({library} not found)")
    return ", ".join(found)


def build_name(ort: Any) -> str:
    """Distribution and version of an onnxruntime module."""
    package = getattr(ort, "package_name", "") or "onnxruntime"
    return f"{package} {ort.__version__}"


def fix_load(name: str, ort: Any) -> str:
    """What mends a provider that this build of ONNX Runtime contains and that does not load."""
    major = str(getattr(ort, "cuda_version", "") or "13").split(".")[0]
    libraries = "pip install 'backlit[gpu]' 'onnxruntime-gpu[cuda,cudnn]'"
    needs = f"needs an NVIDIA GPU with its driver, CUDA {major} and cuDNN 9"
    if name == "cuda":
        return f"{libraries} ({needs}); without a GPU: --providers cpu."
    if name == "tensorrt":
        return (
            f"{libraries} 'tensorrt-cu{major}>=10.13,<11' ({needs}, TensorRT 10); "
            "without TensorRT: --providers cuda or cpu."
        )
    return FIX_BUILD[name]


def last_line(error: Exception) -> str:
    """The last line of an exception's text: ONNX Runtime puts the reason there."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__).rstrip(".")
