"""What is installed, which providers load, and what mends the rest."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
import sys
from collections.abc import Sequence

from ..errors import ProviderError, no_opencv
from . import probing
from .libraries import Component, components, requirements, wanted
from .ort import onnxruntime
from .providers.table import PROVIDERS

ONNXRUNTIME_BUILDS = {
    "onnxruntime": "'backlit[cpu]'",
    "onnxruntime-gpu": "'backlit[gpu]'",
    "onnxruntime-openvino": "'backlit[cpu,openvino]'",
    "onnxruntime-directml": "onnxruntime-directml",
    "onnxruntime-migraphx": "onnxruntime-migraphx",
    "onnxruntime-rocm": "onnxruntime-rocm",
    "onnxruntime-training": "onnxruntime-training",
    "onnxruntime-webgpu": "'backlit[cpu,webgpu]'",
    "onnxruntime-windowsml": "onnxruntime-windowsml",
}
"""Distributions that all own the module ``onnxruntime``, and what installs them."""

OPENCV_BUILDS = (
    "opencv-python-headless",
    "opencv-python",
    "opencv-contrib-python-headless",
    "opencv-contrib-python",
)
"""Distributions that all own the module ``cv2``."""

PACKAGES = ("backlit", "numpy", "pillow", "click", "rich")
EXPORT_PACKAGES = ("onnx", "onnx-ir", "onnxscript")


@dataclasses.dataclass(frozen=True)
class Trouble:
    """Something that is wrong with this installation, and what mends it."""

    problem: str
    fix: str


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """The state of this installation.

    Attributes:
        python: version of Python and the platform.
        packages: distribution -> version, None if it is not installed.
        onnxruntime: installed builds of ONNX Runtime -> version; one is right.
        libraries: what CUDA and TensorRT need and what is there; nothing where this build of ONNX
            Runtime contains neither.
        plugins: installed packages that are a provider -> version.
        wheels: installed nvidia-* and tensorrt* distributions -> version.
        providers: what became of each provider.
        chosen: short name of the provider that is taken when none is named; None if none loads.
        troubles: what is wrong. A provider that was not asked for is no trouble, unless there is a
            GPU that it would use.
    """

    python: str
    packages: dict[str, str | None]
    onnxruntime: dict[str, str]
    libraries: tuple[Component, ...]
    plugins: dict[str, str]
    wheels: dict[str, str]
    providers: tuple[probing.Probe, ...]
    chosen: str | None
    troubles: tuple[Trouble, ...]


def diagnose() -> Diagnosis:
    """Look at the installed distributions and libraries, and try every provider."""
    builds = _installed(tuple(ONNXRUNTIME_BUILDS))
    opencv = _installed(OPENCV_BUILDS)
    troubles = [
        *_clash("onnxruntime", builds, "'backlit[cpu]' (or 'backlit[gpu]')"),
        *(_overwritten(*builds) if len(builds) == 1 else ()),
        *_clash("cv2", opencv, "opencv-python-headless"),
    ]
    if not opencv:
        missing = no_opencv()
        troubles.append(Trouble(missing.problem, missing.fix))
    probes: list[probing.Probe] = []
    libraries: tuple[Component, ...] = ()
    wheels = _nvidia()
    try:
        probes = [probing.probe(name) for name in PROVIDERS]
        if any(probe.here and probe.name in ("cuda", "tensorrt") for probe in probes):
            libraries = components(onnxruntime())
            troubles += _unused(probes, libraries) + _other_cuda(wheels)
    except ProviderError as error:
        troubles.append(Trouble(error.problem, error.fix))
    if probes and not any(probe.loads for probe in probes):
        troubles.append(Trouble("no execution provider loads.", probes[-1].fix))
    packages = {name: _version(name) for name in (*PACKAGES, *EXPORT_PACKAGES)}
    return Diagnosis(
        python=f"{platform.python_version()} ({sys.platform} {platform.machine()})",
        packages={**packages, **opencv},
        onnxruntime=builds,
        libraries=libraries,
        plugins=_installed([row.plugin.package for row in PROVIDERS.values() if row.plugin]),
        wheels=wheels,
        providers=tuple(probes),
        chosen=next((p.name for p in probes if p.loads and not PROVIDERS[p.name].named), None),
        troubles=tuple(troubles),
    )


def _clash(module: str, found: dict[str, str], wanted: str) -> list[Trouble]:
    if len(found) < 2:
        return []
    names = " ".join(found)
    return [
        Trouble(
            f"{' and '.join(found)} are installed over each other: both own the module {module}.",
            f"pip uninstall -y {names}, then pip install {wanted}",
        )
    ]


def _overwritten(name: str) -> list[Trouble]:
    """A build whose libraries are missing or another's: what remains of two that were installed.

    The wheel's RECORD says how long each file is (packaging.python.org, "Recording installed
    projects").
    """
    try:
        found = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return []
    own = [file for file in found.files or () if file.parts[:2] == ("onnxruntime", "capi")]
    wrong = [file for file in own if file.size is not None and _length(file) != file.size]
    if not wrong:
        return []
    return [
        Trouble(
            f"{len(wrong)} of {len(own)} files of {name} {found.version} are missing or not its "
            f"own, {wrong[0]} for one: another build was installed over it, or removed from it.",
            f"pip uninstall -y {name}, then pip install {ONNXRUNTIME_BUILDS[name]}",
        )
    ]


def _length(file: importlib.metadata.PackagePath) -> int | None:
    try:
        return int(file.locate().stat().st_size)  # type: ignore[attr-defined]
    except OSError:
        return None


def _unused(probes: Sequence[probing.Probe], found: Sequence[Component]) -> list[Trouble]:
    """Where there is a driver, CUDA is expected to load; where there is a TensorRT, TensorRT."""
    expected = {
        "cuda": any(one.name == "driver" and not one.missing for one in found),
        "tensorrt": any(one.name == "tensorrt" and one.others for one in found),
    }
    return [
        Trouble(f"{probe.name} is expected to load and does not: {probe.reason}.", probe.fix)
        for probe in probes
        if probe.here and not probe.loads and expected.get(probe.name)
    ]


def _other_cuda(wheels: dict[str, str]) -> list[Trouble]:
    """TensorRT for another CUDA: its wheels put other libraries at the same place."""
    ort = onnxruntime()
    right = f"tensorrt-cu{wanted(ort)['cuda']}"
    wrong = [
        name for name in wheels if name.startswith("tensorrt-cu") and not name.startswith(right)
    ]
    if not wrong:
        return []
    return [
        Trouble(
            f"{' and '.join(wrong)}: TensorRT for another CUDA than that of this ONNX Runtime, "
            f"{wanted(ort)['cuda']}.",
            f"pip uninstall -y {' '.join(wrong)}, then pip install "
            f"{' '.join(requirements(ort, {'tensorrt'}))}",
        )
    ]


def _nvidia() -> dict[str, str]:
    found: dict[str, str] = {}
    for one in importlib.metadata.distributions():
        name = str(one.metadata["Name"] or "").lower().replace("_", "-")
        if name.startswith(("nvidia-", "tensorrt")):
            found.setdefault(name, one.version)
    return dict(sorted(found.items()))


def _installed(names: Sequence[str]) -> dict[str, str]:
    return {name: version for name in names if (version := _version(name)) is not None}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
