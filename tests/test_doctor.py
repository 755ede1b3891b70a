"""What the doctor says of installations that are wrong: real processes on made-up ones.

A folder of its own before all others on sys.path holds the distributions' metadata and the wheels'
libraries, compiled from a line of C each; onnxruntime in it is a link to the real one.
"""

import ctypes
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import onnxruntime
import pytest
from backlit.runtime.backend import libraries
from support.fake_libraries import (
    HAS_COMPILER,
    driver,
    environment,
    library,
    runtime,
    tensorrt,
    with_cudnn,  # noqa: F401
)

GPU = onnxruntime.package_name == "onnxruntime-gpu" and onnxruntime.cuda_version.startswith("13")
CUBLAS = ("libcublasLt.so.13", "libcublas.so.13", "libcurand.so.10")


def loads(name):
    try:
        return bool(ctypes.CDLL(name))
    except OSError:
        return False


pytestmark = [
    HAS_COMPILER,
    pytest.mark.skipif(not GPU, reason="needs onnxruntime-gpu for CUDA 13"),
    pytest.mark.skipif(
        any(map(loads, ("libcuda.so.1", CUBLAS[0], "libcudnn.so.9", "libnvinfer.so.10"))),
        reason="GPU libraries are installed here: a broken installation cannot be made up",
    ),
]


class Place:
    """A site-packages folder and one of system libraries."""

    def __init__(self, folder):
        self.site, self.system = folder / "site", folder / "system"
        self.site.mkdir()
        self.system.mkdir()
        (self.site / "onnxruntime").symlink_to(Path(onnxruntime.__file__).parent)

    def wheel(self, name, version, record=""):
        info = self.site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "RECORD").write_text(record)

    def cuda(self):
        """CUDA 13 as far as a doctor sees: libraries that load and say their version."""
        runtime(self.system, 13)
        for name in CUBLAS:
            library(self.system / name, "int nothing;")

    def cudnn(self):
        library(self.system / "libcudnn.so.9", "long cudnnGetVersion(void) { return 91002; }")

    def run(self, *args, more=()):
        line = [sys.executable, "-m", "backlit.runtime", *args]
        variables = self.variables(*more, self.system)
        return subprocess.run(line, capture_output=True, text=True, env=variables)

    def variables(self, *folders):
        paths = [str(self.site), os.environ.get("PYTHONPATH", "")]
        return {**environment(*folders), "PYTHONPATH": os.pathsep.join(filter(None, paths))}

    def diagnosis(self, more=()):
        done = self.run("doctor", "--json", more=more)
        assert (done.returncode, done.stderr) == (0, "")
        found = json.loads(done.stdout)
        for key in ("providers", "libraries"):
            found[key] = {one["name"]: one for one in found[key]}
        return found


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def test_no_driver_is_no_trouble(place):
    found = place.diagnosis()
    assert found["troubles"] == []
    assert found["chosen"] == "cpu"
    assert found["libraries"]["driver"]["missing"] == ["libcuda.so.1"]
    assert {name: one["wanted"] for name, one in found["libraries"].items()} == {
        "driver": 13,
        "cuda": 13,
        "cudnn": 9,
        "tensorrt": 10,
    }
    cuda = found["providers"]["cuda"]
    assert "no NVIDIA driver (libcuda.so.1 not found)" in cuda["reason"]
    assert "a driver for CUDA 13 (580 or newer)" in cuda["fix"]


def test_missing_cuda(place):
    driver(place.system, "13.0")
    found = place.diagnosis()
    assert found["libraries"]["driver"]["version"] == "13.0"
    (trouble,) = found["troubles"]
    assert "cuda is expected to load and does not" in trouble["problem"]
    assert "libcublasLt.so.13" in trouble["problem"]
    assert "driver" not in trouble["problem"]
    line = "pip install 'onnxruntime-gpu[cuda,cudnn]'; or without it: --providers cpu."
    assert trouble["fix"] == found["providers"]["cuda"]["fix"] == line
    assert found["providers"]["tensorrt"]["fix"] == (
        "pip install 'onnxruntime-gpu[cuda,cudnn]' 'tensorrt-cu13>=10.13,<11'; "
        "or without it: --providers cuda or cpu."
    )


def test_wrong_major_of_cuda(place):
    driver(place.system, "13.0")
    old = runtime(place.site / "nvidia" / "cuda_runtime" / "lib", 12, 4)
    cublas = library(place.site / "nvidia" / "cublas" / "lib" / "libcublas.so.12", "int nothing;")
    place.wheel("nvidia-cuda-runtime-cu12", "12.4.127")
    found = place.diagnosis()
    assert found["wheels"]["nvidia-cuda-runtime-cu12"] == "12.4.127"
    assert found["libraries"]["cuda"]["others"] == [str(old)]
    (trouble,) = found["troubles"]
    assert (
        f"CUDA 13 is incomplete ({CUBLAS[0]}" in trouble["problem"]
        or "no CUDA 13" in trouble["problem"]
    )
    assert str(old) in trouble["problem"]
    assert trouble["fix"].startswith("pip install 'onnxruntime-gpu[cuda,cudnn]';")
    assert str(cublas) not in trouble["problem"]  # one library tells the version


def test_missing_cudnn(place):
    driver(place.system, "13.0")
    place.cuda()
    found = place.diagnosis()
    assert found["libraries"]["cuda"]["version"] == "13.0"
    assert Path(found["libraries"]["cuda"]["path"]).parent == place.system
    assert found["providers"]["cuda"]["reason"] == "no cuDNN 9 (libcudnn.so.9 not found)"
    assert found["providers"]["cuda"]["fix"].startswith(
        "pip install 'onnxruntime-gpu[cuda,cudnn]';"
    )


def test_missing_cudnn_with_the_real_provider(place, with_cudnn):  # noqa: F811
    """Which loads, and fails at the first convolution; with cuDNN it works."""
    for path in with_cudnn.glob("*.so.*"):
        if "cudnn" not in path.name:
            (place.system / path.name).symlink_to(path)
    found = place.diagnosis()
    assert found["providers"]["cuda"]["reason"] == "no cuDNN 9 (libcudnn.so.9 not found)"
    assert found["chosen"] == "cpu"
    found = place.diagnosis(more=[with_cudnn])
    assert found["libraries"]["cudnn"]["version"] == "9.14.0"
    assert found["providers"]["cuda"]["loads"]
    assert found["chosen"] == "cuda"
    assert found["troubles"] == []


def test_wrong_major_of_tensorrt(place):
    driver(place.system, "13.0")
    place.cuda()
    place.cudnn()
    tensorrt(place.site / "tensorrt_libs", "11.4.0")
    for name in ("tensorrt", "tensorrt-cu13", "tensorrt-cu13-libs"):
        place.wheel(name, "11.4.0.106")
    found = place.diagnosis()
    there = place.site / "tensorrt_libs" / "libnvinfer.so.11"
    assert found["libraries"]["tensorrt"]["others"] == [str(there)]
    assert found["libraries"]["cudnn"]["version"] == "9.10.2"
    probe = found["providers"]["tensorrt"]
    assert probe["reason"].startswith("no TensorRT 10 (libnvinfer.so.10, libnvonnxparser.so.10 not")
    assert str(there) in probe["reason"]
    assert probe["fix"] == (
        "pip uninstall -y tensorrt, then pip install 'tensorrt-cu13>=10.13,<11'; "
        "or without it: --providers cuda or cpu."
    )
    assert [trouble["fix"] for trouble in found["troubles"]][-1] == probe["fix"]


def test_right_tensorrt_of_a_wheel_is_loaded(place, with_cudnn):  # noqa: F811
    """Where the loader does not look and onnxruntime.preload_dlls neither."""
    folder = tensorrt(place.site / "tensorrt_libs", "10.13.3")
    code = """
import json
from backlit.runtime.backend import libraries, ort, probing
ort = ort.onnxruntime()
found = {one.name: one for one in libraries.components(ort)}["tensorrt"]
settings = ort.SessionOptions()
settings.log_severity_level = 4
ort.set_default_logger_severity(4)
try:
    ort.InferenceSession(probing._TINY, settings, providers=["TensorrtExecutionProvider"],
                         provider_options=[{"no_such": "1"}], enable_fallback=0)
except Exception as error:
    print(json.dumps([found.version, found.path, found.missing, str(error)]))
"""
    line, variables = [sys.executable, "-c", code], place.variables(with_cudnn)
    done = subprocess.run(line, capture_output=True, text=True, env=variables)
    assert (done.returncode, done.stderr) == (0, "")
    version, path, missing, error = json.loads(done.stdout)
    assert (version, missing) == ("10.13.3", [])
    assert Path(path) == folder / "libnvinfer.so.10"
    assert "Invalid TensorRT EP option: no_such" in error  # so the provider's library loaded


def test_tensorrt_for_another_cuda(place):
    place.wheel("tensorrt-cu12-libs", "10.13.3.9")
    (trouble,) = place.diagnosis()["troubles"]
    assert "tensorrt-cu12-libs: TensorRT for another CUDA" in trouble["problem"]
    assert trouble["fix"] == (
        "pip uninstall -y tensorrt-cu12-libs, then pip install 'tensorrt-cu13>=10.13,<11'"
    )


def test_driver_too_old(place):
    driver(place.system, "12.4")
    place.cuda()
    place.cudnn()
    found = place.diagnosis()
    assert found["libraries"]["driver"]["version"] == "12.4"
    (trouble,) = found["troubles"]
    assert "the NVIDIA driver serves CUDA 12.4, and CUDA 13 is wanted" in trouble["problem"]
    assert trouble["fix"] == (
        "update the NVIDIA driver to one for CUDA 13 (580 or newer); "
        "or without it: --providers cpu."
    )


def test_double_install(place):
    place.wheel("onnxruntime", "1.30.0")
    found = place.diagnosis()
    assert set(found["onnxruntime"]) == {"onnxruntime", "onnxruntime-gpu"}
    (trouble,) = found["troubles"]
    assert "onnxruntime and onnxruntime-gpu are installed over each other" in trouble["problem"]
    assert trouble["fix"].startswith("pip uninstall -y onnxruntime onnxruntime-gpu, then pip")


def test_a_build_whose_files_are_anothers(place):
    """As after ``pip install onnxruntime-gpu onnxruntime; pip uninstall onnxruntime``."""
    capi = Path(onnxruntime.__file__).parent / "capi"
    good = capi / "_pybind_state.py"
    lines = [
        f"onnxruntime/capi/_pybind_state.py,sha256=x,{good.stat().st_size}",
        "onnxruntime/capi/build_and_package_info.py,sha256=x,61",
        "onnxruntime/capi/libonnxruntime_providers_rocm.so,sha256=x,9000",
        "onnxruntime/capi/__pycache__/no.pyc,,",
    ]
    place.wheel("onnxruntime-gpu", onnxruntime.__version__, "\n".join(lines) + "\n")
    (trouble,) = place.diagnosis()["troubles"]
    assert trouble["problem"].startswith(
        f"2 of 4 files of onnxruntime-gpu {onnxruntime.__version__} are missing or not its own, "
        "onnxruntime/capi/build_and_package_info.py for one"
    )
    assert trouble["fix"] == "pip uninstall -y onnxruntime-gpu, then pip install 'backlit[gpu]'"


def test_an_untouched_build_is_no_trouble(place):
    """The RECORD of this very environment."""
    assert place.diagnosis()["troubles"] == []


def test_the_text_is_for_people_and_the_rest_for_programs(place):
    driver(place.system, "12.4")
    done = place.run("doctor")
    assert done.returncode == 0
    (trouble, *_) = json.loads(done.stdout)["troubles"]
    assert f"problem: {trouble['problem']}\n  fix: {trouble['fix']}" in done.stderr
    assert "NVIDIA driver             CUDA 13  12.4" in done.stderr
    assert done.stderr.endswith("mend the above\n")


def test_what_another_build_wants_stands_in_its_libraries(tmp_path):
    ort = types.ModuleType("onnxruntime")
    ort.__file__, ort.cuda_version = str(tmp_path / "__init__.py"), "12.8"
    assert libraries.wanted.__wrapped__(ort) == {"cuda": 12, "cudnn": 9, "tensorrt": 10}
    assert libraries.requirements(ort, {"tensorrt"}) == ["'tensorrt-cu12>=10,<11'"]
    (tmp_path / "capi").mkdir()
    needed = b"\0libcublas.so.14\0libnvinfer.so.11\0libnvonnxparser.so.11\0libcudnn.so.10\0"
    (tmp_path / "capi" / "libonnxruntime_providers_tensorrt.so").write_bytes(needed)
    ort.cuda_version = "14.1"
    assert libraries.wanted.__wrapped__(ort) == {"cuda": 14, "cudnn": 10, "tensorrt": 11}
    libraries.wanted.cache_clear()
    assert libraries.requirements(ort, {"cudnn", "tensorrt"}) == [
        "'onnxruntime-gpu[cuda,cudnn]'",
        "'tensorrt-cu14>=11,<12'",
    ]
    assert libraries.wanted(onnxruntime) == {"cuda": 13, "cudnn": 9, "tensorrt": 10}


def test_versions_as_libraries_number_them(tmp_path):
    def version(name, function, number, stem):
        code = f"long {function}(void) {{ return {number}; }}"
        path = library(tmp_path / f"{stem}{number}.so", code)
        return libraries._version(name, ctypes.CDLL(str(path)))

    assert version("cudnn", "cudnnGetVersion", 8907, "dnn") == "8.9.7"
    assert version("cudnn", "cudnnGetVersion", 91002, "dnn") == "9.10.2"
    assert version("tensorrt", "getInferLibVersion", 8601, "trt") == "8.6.1"
    assert version("tensorrt", "getInferLibVersion", 101303, "trt") == "10.13.3"
    assert version("tensorrt", "other", 1, "none") is None
