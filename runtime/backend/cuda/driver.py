"""The few functions of the CUDA runtime that ONNX Runtime's Python interface has not.

Pinned memory, copies beside the computing and events between streams: docs.nvidia.com/cuda/
cuda-runtime-api. The library is the one that ONNX Runtime's own CUDA provider has loaded.
"""

from __future__ import annotations

import ctypes
import functools
import os
import weakref
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ...errors import ModelError, ProviderError

_NON_BLOCKING, _NO_TIMING, _ANY_DIRECTION = 1, 2, 4
"""cudaStreamNonBlocking, cudaEventDisableTiming, cudaMemcpyDefault"""
_THREAD_LOCAL = 1
"""cudaStreamCaptureModeThreadLocal"""
_OF_CURRENT_DEVICE = (1, 2)
"""cudaStreamLegacy, cudaStreamPerThread: no addresses, but names for a stream of each device."""


class Driver(Protocol):
    """Streams of work on a device, each in its order, and events between them.

    A stream is its address, as other libraries take it.
    """

    name: str
    """ONNX Runtime's name of the device."""
    device_id: int
    dlpack: int
    """DLDeviceType of its memory (dmlc.github.io/dlpack/latest/c_api.html)."""

    def use(self) -> None:
        """Make the device the current one of this thread."""

    def stream(self) -> int:
        """A new stream, which waits for no other."""

    def event(self) -> Any:
        """A new event; one that was never recorded has happened."""

    def record(self, event: Any, stream: int) -> None:
        """The event happens when what the stream has been given so far is done."""

    def wait(self, stream: int, event: Any) -> None:
        """What the stream is given from now on begins after the event."""

    def synchronize(self, event: Any) -> None:
        """Wait for the event, in this thread."""

    def drain(self, stream: int) -> None:
        """Wait for all that the stream has been given, in this thread."""

    def copy(self, target: int, source: int, size: int, stream: int) -> None:
        """Copy bytes from address to address, between host and device or within one."""

    def pinned(self, shape: Sequence[int], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Zeros in memory of the host from and to which the device copies by itself."""


class Cuda:
    """The CUDA runtime of a device; a `Driver`."""

    name, dlpack = "cuda", 2

    def __init__(self, device_id: int = 0, library: Any = None) -> None:
        """Find the library.

        Args:
            device_id: number of the GPU.
            library: the loaded library; None: found by name.

        Raises:
            ProviderError: there is none.
        """
        self.device_id = device_id
        self._library = _library() if library is None else library

    def use(self) -> None:
        """cudaSetDevice."""
        self._call("cudaSetDevice", ctypes.c_int(self.device_id))

    def stream(self) -> int:
        """cudaStreamCreateWithFlags."""
        made = ctypes.c_void_p()
        self._call("cudaStreamCreateWithFlags", ctypes.byref(made), ctypes.c_uint(_NON_BLOCKING))
        return made.value or 0

    def event(self) -> Any:
        """cudaEventCreateWithFlags, without timing, which would slow it down."""
        made = ctypes.c_void_p()
        self._call("cudaEventCreateWithFlags", ctypes.byref(made), ctypes.c_uint(_NO_TIMING))
        self._free_with(made, "cudaEventDestroy", ctypes.c_void_p(made.value))
        return made

    def record(self, event: Any, stream: int) -> None:
        """cudaEventRecord."""
        self._call("cudaEventRecord", event, ctypes.c_void_p(stream))

    def wait(self, stream: int, event: Any) -> None:
        """cudaStreamWaitEvent."""
        arguments = ctypes.c_void_p(stream), event, ctypes.c_uint(0)
        if stream not in _OF_CURRENT_DEVICE:
            self._call("cudaStreamWaitEvent", *arguments)
            return
        before = ctypes.c_int()
        self._call("cudaGetDevice", ctypes.byref(before))
        self.use()
        try:
            self._call("cudaStreamWaitEvent", *arguments)
        finally:
            self._call("cudaSetDevice", before)

    def synchronize(self, event: Any) -> None:
        """cudaEventSynchronize; other threads run meanwhile."""
        self._call("cudaEventSynchronize", event)

    def drain(self, stream: int) -> None:
        """cudaStreamSynchronize; other threads run meanwhile."""
        self._call("cudaStreamSynchronize", ctypes.c_void_p(stream))

    def copy(self, target: int, source: int, size: int, stream: int) -> None:
        """cudaMemcpyAsync."""
        pointers = ctypes.c_void_p(target), ctypes.c_void_p(source)
        how = ctypes.c_int(_ANY_DIRECTION), ctypes.c_void_p(stream)
        self._call("cudaMemcpyAsync", *pointers, ctypes.c_size_t(size), *how)

    def pinned(self, shape: Sequence[int], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """cudaHostAlloc; freed with the array."""
        kind, count = np.dtype(dtype), int(np.prod(shape))
        pointer = ctypes.c_void_p()
        size = ctypes.c_size_t(max(1, count * kind.itemsize))
        self._call("cudaHostAlloc", ctypes.byref(pointer), size, ctypes.c_uint(0))
        buffer = (ctypes.c_char * size.value).from_address(pointer.value or 0)
        # The array's views keep the buffer alive; whoever is last lets it go.
        self._free_with(buffer, "cudaFreeHost", pointer)
        made: npt.NDArray[Any] = np.frombuffer(memoryview(buffer), kind, count).reshape(shape)
        made[...] = 0
        return made

    def _free_with(self, owner: Any, name: str, pointer: Any) -> None:
        library = self._library

        def free() -> None:
            # Whoever collects garbage must not spoil the CUDA graph that another thread captures.
            mode = ctypes.c_int(_THREAD_LOCAL)
            library.cudaThreadExchangeStreamCaptureMode(ctypes.byref(mode))
            getattr(library, name)(pointer)
            library.cudaThreadExchangeStreamCaptureMode(ctypes.byref(mode))

        weakref.finalize(owner, free).atexit = False  # the driver is gone before

    def _call(self, name: str, *arguments: Any) -> None:
        code = int(getattr(self._library, name)(*arguments))
        if code:
            text = self._library.cudaGetErrorString
            text.restype = ctypes.c_char_p
            said = (text(ctypes.c_int(code)) or b"").decode(errors="replace")
            raise ModelError(
                f"CUDA: {name} failed: {said or 'error'} ({code}).",
                "where memory is full, use a smaller batch (--batch 1) or fewer classes; "
                "after any other error of CUDA begin a new process.",
            )


@functools.cache
def _library() -> Any:
    """libcudart, as its major version is called by the ONNX Runtime that is installed."""
    from ..ort import onnxruntime

    major = str(getattr(onnxruntime(), "cuda_version", "") or "13").split(".")[0]
    name = f"cudart64_{major}.dll" if os.name == "nt" else f"libcudart.so.{major}"
    try:
        return ctypes.CDLL(name)
    except OSError as error:
        raise ProviderError(
            f"the CUDA runtime cannot be loaded: {error}.",
            "pip install 'onnxruntime-gpu[cuda,cudnn]'; `backlit doctor` shows what is missing.",
        ) from error
