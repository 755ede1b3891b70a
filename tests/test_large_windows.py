"""Pooling by kernels larger than their map: what global pooling would do, at its price."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from backlit.export import export
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]
MAP = 7
GLOBAL = {
    "AveragePool": "GlobalAveragePool",
    "MaxPool": "GlobalMaxPool",
    "LpPool": "GlobalLpPool",
}


def classifier(pool: str, channels: int = 8, **window: Any) -> onnx.ModelProto:
    """A strided convolution, a pooling to 1x1 and a Gemm; seeded weights."""
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.standard_normal((channels, 3, 2, 2)),
        "v": rng.standard_normal((channels, 5)),
    }
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w"], ["c"], strides=[2, 2]), node("Tanh", ["c"], ["t"]),
        node(pool, ["t"], ["p"], **window), node("Flatten", ["p"], ["f"]),
        node("MatMul", ["f", "v"], ["y"]),
    ]  # fmt: skip
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "large", [info("x", TensorProto.FLOAT, ["N", 3, 2 * MAP, 2 * MAP])],
        [info("y", TensorProto.FLOAT, ["N", 5])],
        [numpy_helper.from_array(a.astype(np.float32), k) for k, a in weights.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=8)


def run(model: onnx.ModelProto, file: Path) -> tuple[Array, Array]:
    export(model, file, input="float32", maps="gradient")
    image = np.random.default_rng(1).standard_normal((2, 3, 2 * MAP, 2 * MAP)).astype(np.float32)
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    feed = {"image": image, "class_index": np.array([[0, 3], [4, 1]])}
    scores, gradient = session.run(["scores", "gradient"], feed)
    return scores, gradient


@pytest.mark.parametrize("pool", list(GLOBAL))
@pytest.mark.parametrize(
    "window",
    [
        {"kernel_shape": [1280, 1280], "strides": [1280, 1280], "ceil_mode": 1},
        {"kernel_shape": [1280, 64], "strides": [1280, 64], "ceil_mode": 1},
        {"kernel_shape": [9, 9], "strides": [3, 2], "pads": [1, 1, 1, 1]},
        {"kernel_shape": [MAP, MAP], "strides": [50, 50]},
    ],
    ids=["1280", "1280x64", "padded", "exact"],
)
def test_a_window_over_the_whole_map_is_global_pooling(
    pool: str, window: dict[str, Any], tmp_path: Path
) -> None:
    found = run(classifier(pool, **window), tmp_path / "m.onnx")
    right = run(classifier(GLOBAL[pool]), tmp_path / "global.onnx")
    for ours, wanted in zip(found, right, strict=True):
        np.testing.assert_allclose(ours, wanted, rtol=1e-5, atol=1e-6)
    made = onnx.load(tmp_path / "m.onnx")
    forward = len(classifier(pool, **window).graph.node)
    for node in made.graph.node:
        if node.op_type == "ConvTranspose":  # of the convolution alone
            (kernel,) = (a.ints for a in node.attribute if a.name == "kernel_shape")
            assert list(kernel) == [2, 2]
    globally = onnx.load(tmp_path / "global.onnx")
    assert len(made.graph.node) <= len(globally.graph.node) + forward
    assert (tmp_path / "m.onnx").stat().st_size < 50_000


def test_padding_that_counts(tmp_path: Path) -> None:
    """count_include_pad divides by the padded map, and by nothing beyond it."""
    window = {"kernel_shape": [9, 9], "pads": [1, 1, 1, 1], "count_include_pad": 1}
    found = run(classifier("AveragePool", **window), tmp_path / "m.onnx")
    right = run(classifier("GlobalAveragePool"), tmp_path / "global.onnx")
    for ours, wanted in zip(found, right, strict=True):
        np.testing.assert_allclose(ours, wanted * MAP**2 / 81, rtol=1e-5, atol=1e-6)


def test_same_padding_of_a_kernel_larger_than_the_map(tmp_path: Path) -> None:
    """Every window is the whole map: each of them averages it."""
    model = classifier("AveragePool", kernel_shape=[29, 29], auto_pad="SAME_UPPER")
    model.graph.node.insert(3, helper.make_node("GlobalAveragePool", ["p"], ["q"]))
    model.graph.node[4].input[0] = "q"
    found = run(model, tmp_path / "m.onnx")
    right = run(classifier("GlobalAveragePool"), tmp_path / "global.onnx")
    for ours, wanted in zip(found, right, strict=True):
        np.testing.assert_allclose(ours, wanted, rtol=1e-4, atol=1e-5)
    assert (tmp_path / "m.onnx").stat().st_size < 50_000
