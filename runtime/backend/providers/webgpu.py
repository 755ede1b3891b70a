"""WebGPU: any GPU that has Vulkan, Direct3D 12 or Metal; Microsoft's plugin for ONNX Runtime.

Tested on SwiftShader, which is Vulkan computed by a processor.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

from ...errors import ProviderError
from ..host import start
from ..provider import SWITCH, Plugin, Provider, Values

_CACHES = ("disabled", "lazyRelease", "simple", "bucket")

VALUES: dict[str, Values] = {
    "dawnBackendType": ("Vulkan", "D3D12"),
    "deviceId": int,
    "enableGraphCapture": SWITCH,
    "enableInt64": SWITCH,
    "enableRobustness": SWITCH,
    "forceCpuNodeNames": str,
    "maxNumPendingDispatches": int,
    "maxStorageBufferBindingSize": int,
    "powerPreference": ("high-performance", "low-power"),
    "preferredLayout": ("NCHW", "NHWC"),
    "preserveDevice": SWITCH,
    "validationMode": ("disabled", "wgpuOnly", "basic", "full"),
    **{
        f"{kind}BufferCacheMode": _CACHES
        for kind in ("storage", "uniform", "queryResolve", "default")
    },
}


def preload(ort: Any) -> str:
    """Vulkan's loader: without it the plugin would write on stderr.

    Raises:
        ProviderError: it is not there.
    """
    if sys.platform == "linux":
        try:
            ctypes.CDLL("libvulkan.so.1")
        except OSError as error:
            raise ProviderError(
                "no Vulkan (libvulkan.so.1 not found).",
                "install the GPU's driver and Vulkan's loader (libvulkan1); "
                "or without it: --providers cpu.",
            ) from error
    return ""


PROVIDER = Provider(
    name="webgpu",
    full="WebGpuExecutionProvider",
    brings="'backlit[webgpu]'",
    note="any GPU; wheels for Linux, Windows and macOS on ARM",
    plugin=Plugin(
        package="onnxruntime-ep-webgpu",
        module="onnxruntime_ep_webgpu",
        needs="a GPU with Vulkan, Direct3D 12 or Metal "
        "(ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER=1 lets it take Vulkan in software)",
    ),
    named=True,
    start=start,
    values=VALUES,
    # Class indices are int64: without it the nodes that compute with them are on the CPU.
    settings=lambda own, threads: {"enableInt64": "1", **own},
    preload=preload,
    leaves_nodes=True,
    runs=1,
)
