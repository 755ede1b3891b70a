"""What is installed, which providers load, and what mends the rest."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
import sys
from collections.abc import Sequence

from . import providers
from .errors import ProviderError

ONNXRUNTIME_BUILDS = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-openvino",
    "onnxruntime-directml",
    "onnxruntime-migraphx",
    "onnxruntime-qnn",
    "onnxruntime-rocm",
)
"""Distributions that all own the module ``onnxruntime``."""

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
        providers: what became of each provider.
        chosen: short name of the provider that is taken when none is named; None if none loads.
        troubles: what is wrong. A provider that was not asked for is no trouble.
    """

    python: str
    packages: dict[str, str | None]
    onnxruntime: dict[str, str]
    providers: tuple[providers.Probe, ...]
    chosen: str | None
    troubles: tuple[Trouble, ...]


def diagnose() -> Diagnosis:
    """Look at the installed distributions and try every provider."""
    builds = _installed(ONNXRUNTIME_BUILDS)
    opencv = _installed(OPENCV_BUILDS)
    troubles = [
        *_clash("onnxruntime", builds, "'backlit[cpu]' (or 'backlit[gpu]', 'backlit[openvino]')"),
        *_clash("cv2", opencv, "opencv-python-headless"),
    ]
    if not opencv:
        troubles.append(Trouble("OpenCV is not installed.", "pip install opencv-python-headless"))
    probes: list[providers.Probe] = []
    try:
        probes = [providers.probe(name) for name in providers.PROVIDERS]
    except ProviderError as error:
        troubles.append(Trouble(error.problem, error.fix))
    if probes and not any(probe.loads for probe in probes):
        troubles.append(Trouble("No execution provider loads.", probes[-1].fix))
    packages = {name: _version(name) for name in (*PACKAGES, *EXPORT_PACKAGES)}
    return Diagnosis(
        python=f"{platform.python_version()} ({sys.platform} {platform.machine()})",
        packages={**packages, **opencv},
        onnxruntime=builds,
        providers=tuple(probes),
        chosen=next((probe.name for probe in probes if probe.loads), None),
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


def _installed(names: Sequence[str]) -> dict[str, str]:
    return {name: version for name in names if (version := _version(name)) is not None}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
