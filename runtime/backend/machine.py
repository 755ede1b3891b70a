"""What a TensorRT engine is bound to: the GPU, its driver, and the TensorRT that is loaded.

Asked of the libraries themselves through ctypes: no further package is needed, and the answer is
about what this process really uses.
"""

from __future__ import annotations

import ctypes
import dataclasses
import os
import re
from pathlib import Path
from typing import Any

from ..errors import ProviderError

_DRIVER = "libcuda.so.1" if os.name == "posix" else "nvcuda.dll"
_TENSORRT = "libnvinfer.so.10" if os.name == "posix" else "nvinfer_10.dll"

# CUdevice_attribute of cuda.h
_PROCESSORS, _MAJOR, _MINOR = 16, 75, 76


@dataclasses.dataclass(frozen=True)
class Gpu:
    """A GPU as far as engines depend on it.

    Attributes:
        name: as its driver gives it.
        capability: compute capability, such as ``9.0``.
        driver: the newest CUDA that its driver runs, such as ``13.0``.
        memory: bytes. An engine of a large GPU may not load on a smaller one of the same kind.
        processors: streaming multiprocessors; a slice of a GPU (MIG) has fewer.
    """

    name: str
    capability: str
    driver: str
    memory: int
    processors: int


def gpu(device: int = 0, library: str = _DRIVER) -> Gpu:
    """The GPU of that number, by the CUDA driver API (docs.nvidia.com/cuda/cuda-driver-api).

    Args:
        device: number, as CUDA counts what it may see.
        library: of the driver.

    Raises:
        ProviderError: there is no driver or no such GPU.
    """
    cuda = _load(library, "There is no NVIDIA driver")

    def ask(function: str, *arguments: Any) -> None:
        status = getattr(cuda, function)(*arguments)
        if status:
            raise ProviderError(
                f"the NVIDIA driver does not tell of GPU {device}: {function} gave {status}.",
                "`nvidia-smi` shows the GPUs; check CUDA_VISIBLE_DEVICES and the driver.",
            )

    def attribute(number: int) -> int:
        value = ctypes.c_int()
        ask("cuDeviceGetAttribute", ctypes.byref(value), number, handle)
        return value.value

    handle, version = ctypes.c_int(), ctypes.c_int()
    name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
    ask("cuInit", 0)
    ask("cuDriverGetVersion", ctypes.byref(version))
    ask("cuDeviceGet", ctypes.byref(handle), device)
    ask("cuDeviceGetName", name, len(name), handle)
    ask("cuDeviceTotalMem_v2", ctypes.byref(memory), handle)
    return Gpu(
        name=name.value.decode(errors="replace"),
        capability=f"{attribute(_MAJOR)}.{attribute(_MINOR)}",
        driver=f"{version.value // 1000}.{version.value % 1000 // 10}",
        memory=memory.value,
        processors=attribute(_PROCESSORS),
    )


def tensorrt_version(library: str | None = None) -> str:
    """Version of the TensorRT that this process has loaded, such as ``10.13.3`` (NvInferRuntime.h).

    Args:
        library: libnvinfer; None: the one that is loaded.

    Raises:
        ProviderError: there is none.
    """
    loaded = _load(library or _loaded() or _TENSORRT, "There is no TensorRT")
    parts = ("getInferLibMajorVersion", "getInferLibMinorVersion", "getInferLibPatchVersion")
    return ".".join(str(int(getattr(loaded, part)())) for part in parts)


def _loaded() -> str | None:
    """Path of the libnvinfer in this process, where the system tells."""
    try:
        text = Path("/proc/self/maps").read_text()
    except OSError:
        return None
    found = re.search(r"(/\S*/libnvinfer\.so\.\d\S*)$", text, re.MULTILINE)
    return found[1] if found else None


def _load(library: str, problem: str) -> Any:
    try:
        return ctypes.CDLL(library)
    except OSError as error:
        raise ProviderError(
            f"{problem}: {error}.", "`backlit doctor` shows what is missing and what mends it."
        ) from error
