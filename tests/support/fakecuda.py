"""A stand-in for NVIDIA's CUDA libraries: ONNX Runtime's own CUDA provider without a GPU.

Its "device" memory is host memory, its copies are memcpy and its kernels do nothing. So placement,
the admission of CUDA graphs and all plumbing are real, and the numbers of a run are garbage. It
lies outside the repository and is built where a compiler and the CUDA headers are. The libraries
stay in a process that has loaded them, so ``run`` makes one of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import onnxruntime as ort
import pytest

from support.real import SHARED

SOURCE = SHARED / "gpu" / "fakecuda"
_CUDA = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda"))
_PROVIDER = Path(ort.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"


def missing() -> str:
    """Why it cannot be built here; empty if it can."""
    if not (SOURCE / "build.py").is_file():
        return "no stand-in for CUDA: set BACKLIT_SHARED to the folder that holds gpu/fakecuda"
    if not _PROVIDER.is_file():
        return "this onnxruntime has no CUDA provider"
    for tool in ("gcc", "readelf", "nm"):
        if shutil.which(tool) is None:
            return f"no {tool} to build the stand-in for CUDA with"
    if not (_CUDA / "include" / "cuda_runtime_api.h").is_file():
        return "no CUDA headers: set CUDA_HOME"
    return ""


def build(folder: Path) -> Path:
    """Build it in an empty folder; returns where its libraries are."""
    made = folder / "fakecuda"
    made.mkdir()
    for path in SOURCE.glob("*.*"):
        shutil.copyfile(path, made / path.name)
    command = [sys.executable, "build.py", str(_PROVIDER)]
    environment = {**os.environ, "CUDA_HOME": str(_CUDA)}
    subprocess.run(command, cwd=made, env=environment, check=True, stdout=subprocess.DEVNULL)
    return made / "lib"


@pytest.fixture(scope="session")
def cuda_stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of its libraries; tests that need it skip where it cannot be built."""
    if reason := missing():
        pytest.skip(reason)
    return build(tmp_path_factory.mktemp("cuda"))


def run(libraries: Path, arguments: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    """Run Python with the stand-in in the place of CUDA.

    Args:
        libraries: its folder.
        arguments: of Python: ``["-m", "backlit.runtime", "check", ...]``, ``["-c", "..."]``.
    """
    command = [sys.executable, *map(str, arguments)]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(libraries)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


__all__ = ["build", "cuda_stand_in", "missing", "run"]
