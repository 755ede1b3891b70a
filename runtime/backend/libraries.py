"""The libraries that GPU providers need: loading them, which are there, and what mends the rest.

A build of ONNX Runtime is linked with one major version of CUDA, cuDNN and TensorRT, and loads no
other. It finds them where the system's loader looks, or where they are loaded already: so those of
the nvidia-* and tensorrt-* wheels, which lie in site-packages, are loaded by their path first.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import importlib.metadata
import io
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .ort import last_line

# Where a build's own libraries do not say: those of the builds of 2025 and 2026.
_USUAL = {"cuda": 13, "cudnn": 9, "tensorrt": 10}
_TITLES = {"driver": "NVIDIA driver", "cuda": "CUDA", "cudnn": "cuDNN", "tensorrt": "TensorRT"}
_NAMES = ("driver", "cuda", "cudnn", "tensorrt")
# The first driver for a major version of CUDA, on Linux (NVIDIA's CUDA release notes, table 2).
_DRIVERS = {11: "450", 12: "525", 13: "580"}


@dataclasses.dataclass(frozen=True)
class Component:
    """What a GPU provider needs, and what of it is there.

    Attributes:
        name: ``driver``, ``cuda``, ``cudnn`` or ``tensorrt``.
        wanted: the major version that this build of ONNX Runtime is linked with; of the driver,
            the major version of CUDA that it must at least serve.
        version: what the library itself says; of the driver, the newest CUDA that it serves. None
            if it is not there or does not say.
        path: the library's file, where the system says it.
        missing: libraries that do not load.
        others: files of other major versions, which this build cannot use.
    """

    name: str
    wanted: int
    version: str | None
    path: str | None
    missing: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def title(self) -> str:
        """The name that people know."""
        return _TITLES[self.name]

    @property
    def too_old(self) -> bool:
        """A driver for an older CUDA than this build of ONNX Runtime wants."""
        if self.name != "driver" or self.version is None:
            return False
        return int(self.version.split(".")[0]) < self.wanted

    @property
    def problem(self) -> str:
        """What is wrong with it; empty if nothing is."""
        if self.missing:
            title = self.title if self.name == "driver" else f"{self.title} {self.wanted}"
            text = f"{title} is incomplete" if self.path else f"no {title}"
            others = f", but {', '.join(self.others)}" if self.others else ""
            return f"{text} ({', '.join(self.missing)} not found{others})"
        if self.too_old:
            return f"the NVIDIA driver serves CUDA {self.version}, and CUDA {self.wanted} is wanted"
        return ""


@functools.cache
def preload(ort: Any) -> str:
    """Load the libraries of the nvidia-* wheels; what was not found, or an empty text."""
    if not hasattr(ort, "preload_dlls"):  # before 1.21
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


@functools.cache
def preload_tensorrt(ort: Any) -> None:
    """Load TensorRT's libraries of the tensorrt-* wheels, which ``preload_dlls`` does not know.

    They lie in the package ``tensorrt_libs``. It is not imported: it would load every library that
    it has, the builder's for each generation of GPUs included; those that are needed are found by
    ``libnvinfer`` itself, beside it.
    """
    major = wanted(ort)["tensorrt"]
    first, *rest = _names("tensorrt", major)
    # The others are linked with the first.
    for name in (first, _file("nvinfer_plugin", major), *rest):
        _load(name)  # whether it does the provider's own attempt decides


@functools.cache
def wanted(ort: Any) -> dict[str, int]:
    """The major versions of ``cuda``, ``cudnn`` and ``tensorrt`` that a build is linked with.

    The onnxruntime module tells CUDA's; the others stand in the list of libraries that its provider
    for TensorRT needs.
    """
    majors = dict(_USUAL)
    if version := str(getattr(ort, "cuda_version", "") or ""):
        majors["cuda"] = int(version.split(".")[0])
    folder = Path(getattr(ort, "__file__", None) or ".").parent / "capi"
    for path in folder.glob("*onnxruntime_providers_tensorrt.*"):
        content = path.read_bytes()
        for name, pattern in (
            ("cudnn", rb"cudnn(?:\.so\.|64_)(\d+)\b"),
            ("tensorrt", rb"nvinfer(?:\.so\.|_)(\d+)\b"),
        ):
            if match := re.search(pattern, content):
                majors[name] = int(match[1])
    return majors


def components(ort: Any) -> tuple[Component, ...]:
    """What CUDA and TensorRT need: the driver, CUDA, cuDNN and TensorRT, loaded if they can be."""
    preload(ort)
    preload_tensorrt(ort)
    majors = {**wanted(ort), "driver": wanted(ort)["cuda"]}
    found = []
    for name in _NAMES:
        loaded = {library: _load(library) for library in _names(name, majors[name])}
        first = next(iter(loaded.values()))
        missing = tuple(library for library, handle in loaded.items() if handle is None)
        others = tuple(_others(name, majors[name])) if missing else ()
        path = None if first is None else _path(first)
        version = None if first is None else _version(name, first)
        found.append(Component(name, majors[name], version, path, missing, others))
    return tuple(found)


def explain(ort: Any, needs: Sequence[str], without: str) -> tuple[str, str]:
    """Why a provider that this build contains does not load, and what mends it.

    Args:
        ort: the onnxruntime module.
        needs: names of the components that it needs.
        without: options that do without the provider.

    Returns:
        The reason, empty if every library is there; and the fix.
    """
    bad = {one.name: one for one in components(ort) if one.name in needs and one.problem}
    reason = "; ".join(one.problem for one in bad.values())
    major = wanted(ort)["cuda"]
    steps = []
    if wheels := requirements(ort, set(bad)):
        gone = _meta(ort) if "tensorrt" in bad else ""
        steps.append(f"{gone}pip install {' '.join(wheels)}")
    driver = f"for CUDA {major}" + (f" ({_DRIVERS[major]} or newer)" if major in _DRIVERS else "")
    if "driver" in bad and bad["driver"].too_old:
        steps.append(f"update the NVIDIA driver to one {driver}")
    elif "driver" in bad:
        steps.append(f"this needs an NVIDIA GPU with a driver {driver}")
    if not bad:
        steps.append("see that nvidia-smi lists a GPU here; start a container with --gpus all")
    return reason, f"{'; '.join(steps)}; or without it: {without}."


def requirements(ort: Any, missing: set[str]) -> list[str]:
    """What to give to ``pip install`` for missing components, quoted for a shell."""
    majors, wheels = wanted(ort), []
    if missing & {"cuda", "cudnn"}:
        # The extras name the wheels that this very build is linked with.
        wheels.append("'onnxruntime-gpu[cuda,cudnn]'")
    if "tensorrt" in missing:
        cuda, major = majors["cuda"], majors["tensorrt"]
        first = "10.13" if (cuda, major) == (13, 10) else str(major)  # the first there is for 13
        wheels.append(f"'tensorrt-cu{cuda}>={first},<{major + 1}'")
    return wheels


def _meta(ort: Any) -> str:
    """The package ``tensorrt`` asks for the newest: it goes before another major version comes."""
    try:
        version = importlib.metadata.version("tensorrt")
    except importlib.metadata.PackageNotFoundError:
        return ""
    wrong = version.split(".")[0] != str(wanted(ort)["tensorrt"])
    return "pip uninstall -y tensorrt, then " if wrong else ""


def _names(name: str, major: int) -> tuple[str, ...]:
    """The files of a component's libraries; the first tells the version."""
    windows = sys.platform == "win32"
    if name == "driver":
        return ("nvcuda.dll",) if windows else ("libcuda.so.1",)
    if name == "cuda":
        stems = "cudart", "cublasLt", "cublas"
        curand = "curand64_10.dll" if windows else "libcurand.so.10"  # has a number of its own
        return (*(_file(stem, major) for stem in stems), curand)
    if name == "cudnn":
        return (_file("cudnn", major),)
    return tuple(_file(stem, major) for stem in ("nvinfer", "nvonnxparser"))


def _file(stem: str, major: int) -> str:
    if sys.platform != "win32":
        return f"lib{stem}.so.{major}"
    return f"{stem}_{major}.dll" if stem.startswith("nv") else f"{stem}64_{major}.dll"


def _load(name: str) -> Any:
    """A library from where the system's loader looks, or from a wheel; None if it is in neither."""
    for path in (name, *(str(folder / name) for folder in _wheels())):
        with contextlib.suppress(OSError):
            return ctypes.CDLL(path)
    return None


def _version(name: str, library: Any) -> str | None:
    """The version that a library says of itself, by the function that each has for it."""
    try:
        if name in ("driver", "cuda"):
            number = ctypes.c_int()
            ask = library.cuDriverGetVersion if name == "driver" else library.cudaRuntimeGetVersion
            failed = ask(ctypes.byref(number))
            return None if failed else f"{number.value // 1000}.{number.value % 1000 // 10}"
        ask = library.cudnnGetVersion if name == "cudnn" else library.getInferLibVersion
    except AttributeError:
        return None
    ask.restype = ctypes.c_size_t if name == "cudnn" else ctypes.c_int
    value = int(ask())
    # 8907 is cuDNN 8.9.7 and 91002 is 9.10.2; TensorRT went the same way with 10.
    digits = 1000 if value < (90000 if name == "cudnn" else 100000) else 10000
    return f"{value // digits}.{value % digits // 100}.{value % 100}"


def _path(library: Any) -> str | None:
    """The file of a loaded library, as glibc's dlinfo(3) says it."""
    if sys.platform != "linux":
        return None

    class Link(ctypes.Structure):
        _fields_ = (("address", ctypes.c_void_p), ("name", ctypes.c_char_p))

    link = ctypes.POINTER(Link)()
    try:
        failed = ctypes.CDLL(None).dlinfo(
            ctypes.c_void_p(library._handle), 2, ctypes.byref(link)
        )  # RTLD_DI_LINKMAP
    except AttributeError:  # a C library without it
        return None
    return None if failed or not link.contents.name else os.fsdecode(link.contents.name)


def _others(name: str, major: int) -> Iterator[str]:
    """Files of other major versions, looked for and not loaded: TensorRT's has half a gigabyte."""
    if name == "driver" or sys.platform == "win32":
        return
    stem = _names(name, major)[0].split(".")[0]
    seen = set()
    for folder in _folders():
        for path in sorted(folder.glob(f"{stem}.so.*")):
            number = re.fullmatch(r"\d+", path.name.removeprefix(f"{stem}.so."))
            if number and int(number[0]) != major and path.name not in seen:
                seen.add(path.name)
                yield str(path)


def _wheels() -> Iterator[Path]:
    """Where the nvidia-* and tensorrt-* wheels put their libraries."""
    for entry in filter(None, sys.path):
        yield from sorted(Path(entry).glob("nvidia/*/lib"))
        yield Path(entry) / "tensorrt_libs"


def _folders() -> Iterator[Path]:
    yield from _wheels()
    for entry in filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)):
        yield Path(entry)
    for pattern in ("usr/lib/*-linux-gnu", "usr/lib64", "usr/local/cuda*/lib64"):
        yield from sorted(Path("/").glob(pattern))
