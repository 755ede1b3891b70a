"""backlit check: what TensorRT's parser takes, known beforehand and asked of the parser itself."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from backlit.export import export
from backlit.export.check import check as checks
from backlit.export.check.check import check_cuda, check_tensorrt, placed
from backlit.export.check.tensorrt_rules import MISSING, audit
from backlit.runtime.backend import probing
from backlit.runtime.cli import main
from backlit.runtime.errors import ModelError
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper
from support import small

needs_parser = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx_bindings") is None,
    reason="the extra tensorrt-check is not installed",
)


def backlit(*args: Any) -> Result:
    return CliRunner().invoke(main, ["check", *map(str, args)])


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("check") / "good.backlit.onnx"
    export(small.convnet(), path, verify=False)
    return path


def save(nodes: Sequence[Any], path: Path, shape: Sequence[Any], **inits: Any) -> Path:
    """A float model from x to y with the given nodes and constants."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, shape)], [value("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in inits.items()],
    )  # fmt: skip
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path
    )
    return path


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """MaxPool with Indices, then NonZero; Relu between them is fine."""
    nodes = [
        helper.make_node("MaxPool", ["x"], ["p", "where"], name="the_pool", kernel_shape=[2, 2]),
        helper.make_node("Relu", ["p"], ["r"], name="the_relu"),
        helper.make_node("NonZero", ["r"], ["at"], name="the_nonzero"),
        helper.make_node("Cast", ["where"], ["w"], to=1),
        helper.make_node("Cast", ["at"], ["a"], to=1),
        helper.make_node("ReduceSum", ["a"], ["b"], keepdims=0),
        helper.make_node("Add", ["w", "b"], ["y"]),
    ]
    return save(nodes, tmp_path / "bad.onnx", ["N", 3, 8, 8])


def test_static_audit_of_a_good_file(good: Path) -> None:
    result = backlit(good)
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    said = json.loads(line)["tensorrt"]
    assert said["taken"] is True
    assert said["parser"] is None
    assert said["nodes"] > 20
    assert "taken whole by what is known" in result.stderr


def test_static_audit_names_the_nodes(bad: Path) -> None:
    result = backlit(bad)
    assert result.exit_code == 1
    found = json.loads(result.stdout)["tensorrt"]
    assert found["taken"] is False
    assert [(n["node"], n["operator"]) for n in found["static"]] == [
        ("the_pool", "MaxPool"), ("the_nonzero", "NonZero"),
    ]  # fmt: skip
    assert "MaxPool 'the_pool': only its first output is taken" in result.stderr
    assert audit(ir.load(bad).graph)[1] == "NonZero 'the_nonzero': TensorRT has no such operator"


@needs_parser
def test_parser_takes_a_good_file_and_builds_it(good: Path) -> None:
    result = backlit(good, "--tensorrt", "--build")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)["tensorrt"]
    assert said["taken"] is True
    assert said["parser"].startswith("TensorRT-RTX 1.")
    assert said["engine_bytes"] > 1000
    assert said["profile"] == {
        "image": [[n, 12, 12, 3] for n in (1, 8, 32)],
        "class_index": [[1, 1], [8, 1], [32, 5]],
    }
    assert said["engines"] == 1
    assert "operators, one engine" in result.stderr


@needs_parser
def test_parser_names_every_refused_node(bad: Path) -> None:
    result = backlit(bad, "--tensorrt")
    assert result.exit_code == 1
    found = json.loads(result.stdout)["tensorrt"]["refused"]
    assert [n["node"] for n in found] == ["the_pool", "the_nonzero"]
    assert "outputs for MaxPool" in found[0]["reason"]
    assert "no such operator" in found[1]["reason"]
    assert "NonZero 'the_nonzero'" in result.stderr


@needs_parser
def test_the_engine_is_built_for_the_lengths_asked_for(good: Path) -> None:
    result = backlit(good, "--tensorrt", "--build", "--max-images", 4, "--max-top", 2)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["tensorrt"]["profile"] == {
        "image": [[n, 12, 12, 3] for n in (1, 4, 4)],
        "class_index": [[1, 1], [4, 1], [4, 2]],
    }


@needs_parser
def test_what_is_refused_cuts_the_graph_into_engines(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="first"),
        helper.make_node("MaxUnpool", ["c", "at"], ["m"], name="between", kernel_shape=[1, 1]),
        helper.make_node("Conv", ["m", "w"], ["y"], name="second"),
    ]
    rng = np.random.default_rng(0)
    path = save(
        nodes, tmp_path / "cut.onnx", [1, 3, 8, 8],
        w=rng.standard_normal((3, 3, 1, 1)).astype(np.float32),
        at=np.arange(192).reshape(1, 3, 8, 8),
    )  # fmt: skip
    report = check_tensorrt(path, parser=True)
    assert not report.taken
    assert report.engines == 2
    assert [node.node for node in report.refused] == ["between"]
    assert "in 2 engines" in backlit(path, "--tensorrt").stderr


@needs_parser
def test_any_onnx_file_and_external_data(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], name="conv")]
    weights = np.ones((4, 3, 3, 3), np.float32)
    path = save(nodes, tmp_path / "plain.onnx", ["batch", 3, "h", "w_"], w=weights)
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="plain.bin", size_threshold=0)
    assert (tmp_path / "plain.bin").stat().st_size >= weights.nbytes
    report = check_tensorrt(path, parser=True, build=True)
    assert report.taken
    assert report.engine_bytes
    assert report.profile == {"x": [[n, 3, 224, 224] for n in (1, 8, 32)]}


@needs_parser
def test_an_engine_that_cannot_be_built_says_why(tmp_path: Path) -> None:
    nodes = [helper.make_node("Reshape", ["x", "to"], ["y"])]  # 8 images of 224 do not fit
    path = save(nodes, tmp_path / "m.onnx", ["N", "M"], to=np.array([3, 5]))
    report = check_tensorrt(path, parser=True, build=True)
    assert not report.taken
    assert report.refused or report.error
    assert backlit(path, "--tensorrt", "--build").exit_code == 1


REFUSED = {
    "dilated": ("MaxPool", ["x"], 1, {"kernel_shape": [2, 2], "dilations": [2, 2]}),
    "averaged": ("AveragePool", ["x"], 1, {"kernel_shape": [2, 2], "dilations": [2, 2]}),
    "norms": ("LayerNormalization", ["x", "s"], 2, {}),
    "top": ("TopK", ["x", "k"], 2, {"axis": 0}),
    "scattered": ("ScatterND", ["x", "at", "u"], 1, {"reduction": "add"}),
    "antialiased": ("Resize", ["x", "", "two"], 1, {"antialias": 1, "mode": "linear"}),
    "transposed": ("ConvTranspose", ["x", "w"], 1, {"strides": [2, 2], "dilations": [2, 2]}),
    "trained": ("BatchNormalization", ["x", "v", "v", "v", "v"], 3, {"training_mode": 1}),
    "unpooled": ("MaxUnpool", ["x", "where"], 1, {"kernel_shape": [1, 1]}),
    "quantised": ("DequantizeLinear", ["bytes", "one", "zero"], 1, {}),
    "vector": ("MatMul", ["s", "x"], 1, {}),
    "foreign": ("FusedConv", ["x", "w"], 1, {"domain": "com.microsoft"}),
}
TAKEN = {
    "pooled": ("MaxPool", ["x"], 1, {"kernel_shape": [2, 2]}),
    "normed": ("LayerNormalization", ["x", "s"], 1, {}),
    "scattered": ("ScatterND", ["x", "at", "u"], 1, {}),
    "resized": ("Resize", ["x", "", "two"], 1, {"mode": "linear"}),
    "strided": ("ConvTranspose", ["x", "w"], 1, {"strides": [2, 2]}),
    "evaluated": ("BatchNormalization", ["x", "v", "v", "v", "v"], 1, {}),
    "multiplied": ("MatMul", ["x", "s"], 1, {}),
}


def one_node(row: tuple[str, list[str], int, dict[str, Any]], folder: Path) -> Path:
    kind, inputs, outputs, attributes = row
    node = helper.make_node(kind, inputs, ["y", "y2", "y3"][:outputs], name="it", **attributes)
    constants = {
        "s": np.ones(8, np.float32), "k": np.array([4000]), "w": np.ones((4, 2, 2, 2), np.float32),
        "at": np.array([[0, 1]]), "u": np.ones((1, 8, 8), np.float32), "v": np.ones(4, np.float32),
        "two": np.array([1, 1, 2, 2], np.float32), "where": np.zeros((1, 4, 8, 8), np.int64),
        "bytes": np.ones(4, np.uint8), "one": np.float32(1), "zero": np.uint8(3),
    }  # fmt: skip
    used = {k: v for k, v in constants.items() if k in node.input}
    shape = [5000 if kind == "TopK" else 3 if kind == "MatMul" else 1, 4, 8, 8]
    return save([node], folder / "one.onnx", shape, **used)


@needs_parser
@pytest.mark.parametrize("name", [*REFUSED, *(f"taken_{name}" for name in TAKEN)])
def test_audit_and_parser_agree(name: str, tmp_path: Path) -> None:
    wanted = name.startswith("taken_")
    row = TAKEN[name.removeprefix("taken_")] if wanted else REFUSED[name]
    report = check_tensorrt(one_node(row, tmp_path), parser=True, build=True)
    assert (report.static == ()) is wanted
    assert (report.engine_bytes is not None) is wanted, (report.refused, report.error)
    assert report.taken is wanted


@needs_parser
def test_operators_that_the_parser_lacks_are_known() -> None:
    import tensorrt_rtx_bindings as trt

    logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    names = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    lacking = {name for name in names if not parser.supports_operator(name)}
    assert len(lacking) > 30
    assert lacking <= MISSING
    plugins = {"CausalConvWithState", "LinearAttention", "NonZero", "RoiAlign"}  # not shipped
    assert lacking | plugins == MISSING


def test_without_the_extra(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec

    def without(name: str, *rest: Any) -> Any:
        return None if name == "tensorrt_rtx_bindings" else found(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    result = backlit(good, "--tensorrt")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "pip install 'backlit[tensorrt-check]'" in result.stderr
    assert backlit(good).exit_code == 0


def test_a_crash_of_the_parser_is_an_error(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "crashes.py"
    script.write_text("import os\nos.abort()\n")
    monkeypatch.setattr(checks, "_PROCESS", script)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    with pytest.raises(ModelError, match=r"crashed \(SIGABRT\)"):
        check_tensorrt(good, parser=True)
    script.write_text("raise ImportError('libnvidia.so.1: cannot open')\n")
    with pytest.raises(ModelError, match=r"libnvidia\.so\.1: cannot open"):
        check_tensorrt(good, parser=True)


def test_what_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "no.onnx"
    path.write_text("<html>")
    for file in (path, tmp_path / "absent.onnx", tmp_path):
        result = backlit(file)
        assert result.exit_code == (2 if file is tmp_path else 1)
        assert result.stdout == ""
    result = backlit(path, "--build")
    assert result.exit_code == 2
    assert "--build goes with --tensorrt" in result.stderr
    result = backlit(path, "--tensorrt", "--max-images", 4)
    assert result.exit_code == 2
    assert "go with --build" in result.stderr
    assert backlit(path, "--tensorrt", "--build", "--batch", 0).exit_code == 2


def test_cuda_placement(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = backlit(good, "--cuda")
    assert result.exit_code == 0
    said = json.loads(result.stdout)["cuda"]
    assert said["told"] is probing.probe("cuda").loads
    assert said["told"] or "could not be told on this machine" in result.stderr


def test_what_onnx_runtime_does_not_tell(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without = [name for name in ort.get_available_providers() if name[:4] != "CUDA"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: without)
    report = check_cuda(good)
    assert not report.told
    assert not report.whole
    assert report.reason.endswith("is built without it")


def test_placement_is_read_from_onnx_runtime(good: Path) -> None:
    options = ort.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = ort.InferenceSession(str(good), options, providers=["CPUExecutionProvider"])
    report = placed(session, good)
    assert report.told
    assert report.elsewhere == report.shapes == ()  # the CPU is the first provider here
    assert report.placed["CPUExecutionProvider"] > 20


class Node:
    def __init__(self, name: str, kind: str) -> None:
        self.name, self.op_type, self.domain = name, kind, ""


class Group:
    def __init__(self, provider: str, *nodes: Node) -> None:
        self.ep_name, self.nodes = provider, nodes

    def get_nodes(self) -> list[Node]:
        return list(self.nodes)


def test_what_computes_shapes_is_told_from_what_computes(good: Path) -> None:
    graph = ir.load(good).graph
    shape = next(
        n for n in graph if n.op_type == "Concat" and n.inputs[0].dtype == ir.DataType.INT64
    )
    conv = next(n for n in graph if n.op_type == "Conv")

    class Placed:
        def get_providers(self) -> list[str]:
            return ["CUDAExecutionProvider", "CPUExecutionProvider"]

        def get_provider_graph_assignment_info(self) -> list[Group]:
            return [
                Group("CUDAExecutionProvider", Node("other", "Relu"), Node("more", "Relu")),
                Group("CPUExecutionProvider", Node(shape.name or "", "Concat")),
                Group("CPUExecutionProvider", Node(conv.name or "", "Conv")),
            ]

    report = placed(Placed(), good)
    assert report.placed == {"CUDAExecutionProvider": 2, "CPUExecutionProvider": 2}
    assert [node.node for node in report.shapes] == [shape.name]
    assert [node.node for node in report.elsewhere] == [conv.name]
    assert {node.reason for node in report.elsewhere} == {"placed on CPUExecutionProvider"}
