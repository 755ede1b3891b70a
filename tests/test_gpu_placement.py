"""What a GPU would do with files of a dozen architectures, told on a machine without one.

NVIDIA's own parser and builder make one engine of each, dynamic in N and K; ONNX Runtime's own CUDA
provider takes every node that computes, those of every backward rule too, and admits a CUDA graph.
tests/gpu_check.py asks the same of the architectures as they are published.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from backlit.export import differentiate, export
from backlit.export.check.check import check_tensorrt
from cases import CASES
from onnx import TensorProto, helper, numpy_helper
from support import architectures, fakecuda
from support.fake_libraries import with_cudnn  # noqa: F401  a fixture
from support.fakecuda import cuda_stand_in  # noqa: F401  a fixture
from support.slow import some_slow

FP16 = {"maps": "gradient", "precision": "fp16"}
FILES: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in architectures.SMALL},
    **{f"{name}-gradient-fp16": (name, FP16) for name in ("mobilenet_v2", "vit")},
}
# Reshape reads the lengths of N and K from the CPU, so what computes them is best there, and copies
# nothing: the Concat of a shape, and what older exporters put before it.
SHAPES = {"Concat", "Slice", "Squeeze", "Unsqueeze", "Gather", "Mul", "Reshape"}


QUICK = {"mobilenet_v2", "vit-gradient-fp16"}  # each another kind


@pytest.fixture(scope="module", params=some_slow(FILES, FILES.keys() - QUICK))
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    name, options = FILES[request.param]
    path = tmp_path_factory.mktemp("placement") / "model.onnx"
    size = architectures.SIZE
    export(architectures.small(name), path, size=size, verify=False, **options)
    return path


@pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx_bindings") is None,
    reason="the extra tensorrt-check is not installed",
)
def test_tensorrt_makes_one_engine_of_the_whole(file: Path) -> None:
    report = check_tensorrt(file, parser=True, build=True)
    assert report.refused == ()
    assert report.error == ""
    assert report.engines == 1
    size = architectures.SIZE
    assert report.profile["image"] == [[n, size, size, 3] for n in (1, 8, 32)]
    assert report.profile["class_index"] == [[1, 1], [8, 1], [32, 5]]
    # It holds the weights, so the engine is no empty shell.
    assert (report.engine_bytes or 0) > 0.8 * weights(file)


def weights(file: Path) -> int:
    """Bytes of what a forward pass needs: the float weights that a convolution or product reads."""
    graph = onnx.load(file).graph
    forward = [n for n in graph.node if not n.name.startswith(("backward/", "saliency/"))]
    read = {x for node in forward for x in node.input}
    return sum(
        int(np.prod(t.dims)) * numpy_helper.to_array(t).itemsize
        for t in graph.initializer
        if t.name in read
    )


def test_the_cuda_provider_takes_all_that_computes(file: Path, cuda_stand_in: Path) -> None:  # noqa: F811
    said = checked(cuda_stand_in, file)
    assert said["told"], said["reason"]
    assert said["elsewhere"] == []
    assert said["graph"] is True, said["refusal"]  # nor is anything copied on the way, then
    assert {node["operator"] for node in said["shapes"]} <= SHAPES
    assert said["placed"]["CUDAExecutionProvider"] > 10 * len(said["shapes"])


def checked(libraries: Path, file: Path, code: int = 0) -> dict[str, Any]:
    """What ``backlit check --cuda`` prints of CUDA, with the stand-in in its place."""
    done = fakecuda.run(libraries, ["-m", "backlit.runtime", "check", file, "--cuda"])
    assert done.returncode == code, done.stderr
    return dict(json.loads(done.stdout)["cuda"])


FIXED = """
import dataclasses, json, sys
from backlit.export.check.check import check_cuda
print(json.dumps([dataclasses.asdict(check_cuda(sys.argv[1], shape=s)) for s in (None, (8, 5))]))
"""


def test_with_fixed_lengths_no_shape_is_computed(tmp_path: Path, cuda_stand_in: Path) -> None:  # noqa: F811
    path = tmp_path / "model.onnx"
    export(architectures.small("squeezenet"), path, size=architectures.SIZE, verify=False)
    done = fakecuda.run(cuda_stand_in, ["-c", FIXED, path])
    assert done.returncode == 0, done.stderr
    dynamic, fixed = json.loads(done.stdout)
    assert len(dynamic["shapes"]) > 0
    assert fixed["shapes"] == fixed["elsewhere"] == []
    assert list(fixed["placed"]) == ["CUDAExecutionProvider"]
    assert dynamic["graph"] is fixed["graph"] is True


PLACED = """
import json, sys
from pathlib import Path
import onnxruntime as ort
from backlit.export.check.check import placed
from backlit.runtime.backend import placement
for path in sorted(Path(sys.argv[1]).glob("*.onnx")):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry(*placement.RECORD)
    wanted = ["CUDAExecutionProvider"]
    session = ort.InferenceSession(str(path), options, wanted, enable_fallback=0)
    assert session.get_providers()[0] == wanted[0]
    print(json.dumps([[n.node, n.operator] for n in placed(session, path).elsewhere]))
"""
# Whoever needs their derivative has the other one in the forward pass already, without a kernel.
WITHOUT = {"Cosh", "Sinh"}


@pytest.mark.slow
def test_every_rule_emits_operators_that_cuda_has(tmp_path: Path, with_cudnn: Path) -> None:  # noqa: F811
    # Recurrent: a session asks cuDNN at once how it lays out weights, and the stand-in cannot say.
    made = [case for case in CASES if case.op not in ("Cast", "LSTM", "GRU", "RNN")]
    for i, case in enumerate(made):
        model = differentiate(case.model(np.float32), wrt="x", seed="seed")
        onnx.save(model, tmp_path / f"{i:04}.onnx")
    done = fakecuda.run(with_cudnn, ["-c", PLACED, tmp_path])
    assert done.returncode == 0, done.stderr
    left = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(left) == len(made)
    emitted = {kind for nodes in left for name, kind in nodes if name.startswith("backward/")}
    assert emitted == WITHOUT
    # Not all is taken, so what is left is told: these have no kernel, in any direction.
    own = {case.op for case, nodes in zip(made, left, strict=True) if nodes}
    assert own >= {"Mean", "LpPool", "Col2Im", "MaxUnpool", "InstanceNormalization"}


MISSING = {
    "Mean": (["x", "x"], {}, ["N", 4, 8, 8]),
    "Col2Im": (["x", "image", "block"], {}, ["N", 4, 16]),
    "MaxUnpool": (["x", "at"], {"kernel_shape": [2, 2]}, [1, 1, 2, 2]),
}  # fmt: skip


@pytest.mark.parametrize("operator", MISSING)
def test_an_operator_without_a_kernel_is_named(
    operator: str,
    tmp_path: Path,
    cuda_stand_in: Path,  # noqa: F811
) -> None:
    inputs, attributes, shape = MISSING[operator]
    constants = {
        "image": np.array([8, 8]), "block": np.array([2, 2]),
        "at": np.array([[[[0, 3], [9, 14]]]]),
    }  # fmt: skip
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node(operator, ["r", *inputs[1:]], ["o"], name="it", **attributes),
        helper.make_node("Abs", ["o"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, shape)], [value("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, k) for k, v in constants.items() if k in inputs],
    )  # fmt: skip
    path = tmp_path / "model.onnx"
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path
    )
    ort.InferenceSession(path, providers=["CPUExecutionProvider"])  # it is a model
    said = checked(cuda_stand_in, path, code=1)
    assert [(n["node"], n["operator"]) for n in said["elsewhere"]] == [("it", operator)]
    assert said["whole"] is said["graph"] is False
    assert "cannot use the graph capture feature" in said["refusal"]
