"""Small classifiers made by hand, for tests of export."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CLASSES = 6


def convnet(
    *, channels: int = 3, size: int = 12, batch: int | str = "N", end: str | None = None,
    names: tuple[str, str] = ("input", "logits"), extra: list[Any] | None = None, opset: int = 17,
) -> onnx.ModelProto:  # fmt: skip
    """Conv, Relu, MaxPool, Flatten, Gemm and perhaps a Softmax; seeded weights.

    Args:
        extra: nodes put between Relu ("a") and MaxPool (which then takes "b").
        names: of the input and of the scores.
    """
    rng = np.random.default_rng(0)
    half = size // 2
    weights = {
        "w": rng.standard_normal((4, channels, 3, 3)) * 0.3,
        "wb": rng.standard_normal(4) * 0.1,
        "v": rng.standard_normal((CLASSES, 4 * half * half)) * 0.2,
        "vb": rng.standard_normal(CLASSES),
    }
    image, scores = names
    nodes = [
        helper.make_node("Conv", [image, "w", "wb"], ["c"], name="conv", pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["a"], name="relu"),
        *(extra or []),
        helper.make_node(
            "MaxPool", ["b" if extra else "a"], ["p"], name="pool", kernel_shape=[2, 2],
            strides=[2, 2],
        ),
        helper.make_node("Flatten", ["p"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "v", "vb"], [scores], name="head", transB=1),
    ]  # fmt: skip
    out = scores
    if end is not None:
        out = "ended"
        nodes.append(helper.make_node(end, [scores], [out], name="end"))
    graph = helper.make_graph(
        nodes, "small",
        [helper.make_tensor_value_info(image, TensorProto.FLOAT, [batch, channels, size, size])],
        [helper.make_tensor_value_info(out, TensorProto.FLOAT, [batch, CLASSES])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
