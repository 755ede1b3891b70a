"""Sessions on ONNX Runtime's real CUDA provider, over stand-ins for NVIDIA's libraries.

Copies, streams, events, bindings, DLPack and the capture of CUDA graphs are real calls; kernels do
nothing, so that no number is looked at. Each case is a process of its own: the libraries stay.
"""

import json
import subprocess
import sys

import onnx
import pytest
from support.fake_libraries import environment, with_cudnn  # noqa: F401
from support.linear_file import write_linear_file

COMMON = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import onnxruntime as ort
from backlit.runtime import Session

images = np.zeros((11, 8, 6, 3), np.uint8)
index = np.zeros((11, 2), np.int64)

class Frames:
    def __init__(self, array):
        self.value, self.shape = ort.OrtValue.ortvalue_from_numpy(array, "cuda", 0), array.shape
        self.streams = []
    def __dlpack__(self, stream=None):
        self.streams.append(stream)
        return self.value.__dlpack__()
    def __dlpack_device__(self):
        return (2, 0)

def about(session):
    return {"provider": session.provider, "graphs": session._bindings.graphs,
            "elsewhere": [node.operator for node in session.elsewhere]}
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "linear.onnx"
    write_linear_file(path)
    return path


@pytest.fixture
def answer(with_cudnn, file):  # noqa: F811
    def run(code, path=file):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", COMMON + code, path],
            env=environment(with_cudnn), capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)

    return run


def test_runs_from_threads_and_by_dlpack(answer):
    found = answer("""
session = Session(sys.argv[1], providers="cuda")
with ThreadPoolExecutor(4) as pool:
    many = list(pool.map(lambda n: session.run(images[:n], index[:n]), [1, 2, 11, 3, 9, 1] * 3))
frames = Frames(images)
outputs = session.run_dlpack(frames, index)
taken = ort.OrtValue.from_dlpack(outputs["saliency"].__dlpack__(stream=1))
print(json.dumps(about(session) | {
    "shapes": [list(one.saliency.shape) for one in many[:3]],
    "buffers": sorted(session._bindings._pool._free),
    "stream": frames.streams == [session._bindings._streams.up],
    "taken": [taken.device_name(), *taken.shape()],
    "numpy": list(outputs.scores.numpy().shape),
    "device": list(outputs.classes.__dlpack_device__()),
}))
""")
    assert found == {
        "provider": "cuda",
        "graphs": True,
        "elsewhere": [],
        "shapes": [[1, 2, 8, 6], [2, 2, 8, 6], [11, 2, 8, 6]],
        "buffers": [[1, 2], [8, 2]],
        "stream": True,
        "taken": ["cuda", 11, 2, 8, 6],
        "numpy": [11, 5],
        "device": [2, 0],
    }


def test_without_graphs_and_on_a_stream_of_the_callers(answer):
    found = answer("""
from backlit.runtime.backend.cuda.driver import Cuda
stream = Cuda().stream()
options = {"enable_cuda_graph": "0", "user_compute_stream": str(stream)}
session = Session(sys.argv[1], providers="cuda", options={"cuda": options})
session.run(images, index)
given = session._bindings._pool._session.get_provider_options()["CUDAExecutionProvider"]
print(json.dumps(about(session) | {
    "same": given["user_compute_stream"] == str(stream) == str(session._bindings._streams.compute),
    "graph": given["enable_cuda_graph"],
}))
""")
    assert found == {
        "provider": "cuda", "graphs": False, "elsewhere": [], "same": True, "graph": "0",
    }  # fmt: skip


def test_a_node_that_cuda_has_not_is_named_and_forbids_graphs(answer, file, tmp_path):
    model = onnx.load(file)
    node = next(node for node in model.graph.node if "saliency" in node.output)
    node.output[0] = "before"
    model.graph.node.append(onnx.helper.make_node("Mean", ["before", "before"], ["saliency"]))
    onnx.save(model, path := tmp_path / "mean.onnx")
    code = """
session = Session(sys.argv[1], providers="cuda")
session.run(images, index)
print(json.dumps(about(session)))
"""
    assert answer(code, path) == {"provider": "cuda", "graphs": False, "elsewhere": ["Mean"]}
    asked = """
try:
    Session(sys.argv[1], providers="cuda", options={"cuda": {"enable_cuda_graph": "1"}})
except Exception as error:
    print(json.dumps([type(error).__name__, str(error)]))
"""
    kind, text = answer(asked, path)
    assert kind == "ModelError"
    assert "graph capture" in text


def test_an_image_folder_through_the_command_line(with_cudnn, file, tmp_path):  # noqa: F811
    from PIL import Image

    for number in range(3):
        Image.new("RGB", (20, 30), (number, 0, 0)).save(tmp_path / f"{number}.png")
    words = ["-m", "backlit.runtime", "saliency", file, tmp_path, "--providers", "cuda"]
    done = subprocess.run(
        [sys.executable, *words], env=environment(with_cudnn), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3
