"""Libraries of a GPU made from lines of C: enough to load, to say a version, to be called.

With the folder of ``with_cudnn`` in LD_LIBRARY_PATH, ONNX Runtime's CUDA provider loads, parses
its options, places the nodes and runs them; kernels do nothing, so the numbers are garbage.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest

from support import fakecuda

PROVIDER = Path(onnxruntime.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"

HAS_COMPILER = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("gcc") is None, reason="needs Linux and gcc"
)

# One plan for every convolution. The numbers are those of cudnnBackendAttributeName_t:
# ENGINEHEUR_RESULTS, ENGINECFG_ENGINE, ENGINECFG_SHARED_MEMORY_USED, EXECUTION_PLAN_WORKSPACE_SIZE
# and ENGINE_GLOBAL_INDEX.
CUDNN = """
#include <stddef.h>
#include <stdint.h>
static char H;
size_t cudnnGetVersion(void) { return 91400; }
const char *cudnnGetErrorString(int s) { return "stand-in"; }
void cudnnGetLastErrorString(char *text, size_t n) { if (n) *text = 0; }
int cudnnGetStream(void *h, void **s) { *s = 0; return 0; }
int cudnnBackendCreateDescriptor(int type, void **d) { *d = &H; return 0; }
int cudnnBackendGetAttribute(void *d, int name, int type, int64_t asked, int64_t *n, void *out) {
  int number = name == 402 || name == 1301;
  if (n) *n = name == 202 || name == 300 || name == 304 || number;
  if (out && number) *(int64_t *)out = 0;
  if (out && name == 304) *(int32_t *)out = 0;
  return 0;
}
"""
TENSORRT = """
static void *TABLE[256], *OBJECT[16];
static long zero(void) { return 0; }
static void *object(void) {
  for (int i = 0; i < 256; i++) TABLE[i] = (void *)zero;
  OBJECT[0] = TABLE;
  return OBJECT;
}
void *createInferBuilder_INTERNAL(void) { return object(); }
void *createInferRefitter_INTERNAL(void) { return object(); }
void *createInferRuntime_INTERNAL(void) { return object(); }
void *createNvOnnxParser_INTERNAL(void) { return object(); }
void *createNvOnnxParserRefitter_INTERNAL(void) { return object(); }
void *getPluginRegistry(void) { return object(); }
int getInferLibVersion(void) { return VERSION; }
"""


def library(path: Path, source: str, *flags: str) -> Path:
    """Compile C into a shared library of that file's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    code = path.with_suffix(path.suffix + ".c")
    code.write_text(source)
    name = f"-Wl,-soname,{path.name}"
    subprocess.run(["gcc", "-shared", "-fPIC", "-w", name, *flags, "-o", path, code], check=True)
    code.unlink()
    return path


def tensorrt(folder: Path, version: str = "10.13.3") -> Path:
    """A TensorRT whose plug-in registry is empty: ONNX Runtime parses its options, no more."""
    major, minor, patch = map(int, version.split("."))
    number = f"-DVERSION={major * 10000 + minor * 100 + patch}"
    for name in ("nvinfer", "nvonnxparser"):
        library(folder / f"lib{name}.so.{major}", TENSORRT, number)
    return folder


def driver(folder: Path, cuda: str) -> Path:
    """A driver that serves so new a CUDA."""
    major, minor = map(int, cuda.split("."))
    body = f"*n = {major * 1000 + minor * 10}; return 0;"
    return library(folder / "libcuda.so.1", f"int cuDriverGetVersion(int *n) {{ {body} }}")


def runtime(folder: Path, major: int, minor: int = 0) -> Path:
    """The library libcudart of a CUDA."""
    body = f"*n = {major * 1000 + minor * 10}; return 0;"
    code = f"int cudaRuntimeGetVersion(int *n) {{ {body} }}"
    return library(folder / f"libcudart.so.{major}", code)


def cudnn(folder: Path) -> Path:
    """A cuDNN 9 with all functions that ONNX Runtime looks up in it, by the names it holds."""
    names = set(re.findall(rb"cudnn[A-Z]\w+(?=\0)", PROVIDER.read_bytes()))
    rest = {name.decode() for name in names} - set(re.findall(r"\b(cudnn\w+)\(", CUDNN))
    create = "(void **h) { *h = &H; return 0; }"
    source = CUDNN + "".join(
        f"int {name}{create if name.startswith('cudnnCreate') else '(void) { return 0; }'}\n"
        for name in sorted(rest)
    )
    symbols = folder / "symbols"
    symbols.write_text("libcudnn.so.9 { global: *; };\n")  # the TensorRT provider asks for them so
    return library(folder / "libcudnn.so.9", source, f"-Wl,--version-script={symbols}")


@pytest.fixture(scope="session")
def with_cudnn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the stand-in for CUDA, and a cuDNN: on these the CUDA provider even runs."""
    if reason := fakecuda.missing():
        pytest.skip(reason)
    if not str(getattr(onnxruntime, "cuda_version", "")).startswith("13."):
        pytest.skip("this ONNX Runtime is not built for CUDA 13")
    folder = fakecuda.build(tmp_path_factory.mktemp("cuda"))
    cudnn(folder)
    return folder


def environment(*folders: Path) -> dict[str, str]:
    """The variables of a process that finds its libraries there first."""
    paths = [*map(str, folders), os.environ.get("LD_LIBRARY_PATH", "")]
    return {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(filter(None, paths))}
