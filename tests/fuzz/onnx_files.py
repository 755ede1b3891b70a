"""Damaged and hostile ONNX files, given to the commands that export and check."""

from __future__ import annotations

import functools
import random
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from support.small import CLASSES, convnet

from .damage import damaged
from .kind import Kind
from .protos import changed

_COMMANDS = (
    ["export", "F.onnx", "-o", "made.onnx", "--no-verify"],
    ["export", "F.onnx", "-o", "made.onnx", "--no-verify", "--size", "12", "--maps", "gradcam"],
    ["export", "F.onnx", "-o", "made.onnx", "--no-verify", "--precision", "fp16"],
    ["export", "F.onnx", "-o", "made.onnx"],
    ["check", "F.onnx"],
)


def make(rng: random.Random, folder: Path) -> list[str]:
    """One file, changed in its graph or its bytes, and a command that reads it."""
    data = rng.choice(_bases())
    if rng.random() < 0.8:
        model = onnx.load_from_string(data)
        changed(rng, model, folder)
        data = model.SerializeToString()
    else:
        data = damaged(rng, data)
    (folder / "F.onnx").write_bytes(data)
    return list(rng.choice(_COMMANDS))


@functools.cache
def _bases() -> tuple[bytes, ...]:
    """Whole classifiers: convolutions, a residual network, attention, one with a branch."""
    models = (convnet(), convnet(end="Softmax", batch=1, opset=12), _residual(), _tokens())
    return tuple(model.SerializeToString() for model in models)


def _model(
    nodes: list[onnx.NodeProto], weights: dict[str, Any], size: int, opset: int
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes, "base",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, size, size])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES])],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", opset)]
    made: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    return made


def _residual() -> onnx.ModelProto:
    """Convolutions with normalisation, a branch that is added, pooling, a resized map."""
    rng = np.random.default_rng(1)
    weights = {
        "w": rng.standard_normal((4, 3, 3, 3)), "u": rng.standard_normal((4, 4, 1, 1)),
        "gain": np.ones(4), "shift": np.zeros(4), "mean": np.zeros(4), "var": np.ones(4),
        "v": rng.standard_normal((4, CLASSES)), "scales": np.array([1, 1, 2, 2]),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["c"], pads=[1] * 4, strides=[2, 2]),
        helper.make_node("BatchNormalization", ["c", "gain", "shift", "mean", "var"], ["n"]),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("Conv", ["r", "u"], ["d"]),
        helper.make_node("Add", ["d", "r"], ["s"]),
        helper.make_node("Resize", ["s", "", "scales"], ["z"], mode="nearest"),
        helper.make_node("Concat", ["z", "z"], ["zz"], axis=2),
        helper.make_node("GlobalAveragePool", ["zz"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("MatMul", ["f", "v"], ["logits"]),
    ]
    return _model(nodes, {k: v.astype(np.float32) for k, v in weights.items()}, 12, 17)


def _tokens() -> onnx.ModelProto:
    """Patches as tokens, attention written out, LayerNormalization, Gather of the first token."""
    rng = np.random.default_rng(2)
    weights = {
        "w": rng.standard_normal((8, 3, 4, 4)), "q": rng.standard_normal((8, 8)),
        "k": rng.standard_normal((8, 8)), "gain": np.ones(8), "shift": np.zeros(8),
        "v": rng.standard_normal((CLASSES, 8)), "vb": rng.standard_normal(CLASSES),
    }  # fmt: skip
    values = {k: v.astype(np.float32) for k, v in weights.items()}
    values |= {
        "flat": np.array([0, 8, 9]),
        "first": np.array(0),
        "half": np.array(0.35, np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["c"], strides=[4, 4]),
        helper.make_node("Reshape", ["c", "flat"], ["p"]),
        helper.make_node("Transpose", ["p"], ["t"], perm=[0, 2, 1]),
        helper.make_node("LayerNormalization", ["t", "gain", "shift"], ["l"], axis=-1),
        helper.make_node("MatMul", ["l", "q"], ["lq"]),
        helper.make_node("MatMul", ["l", "k"], ["lk"]),
        helper.make_node("Transpose", ["lk"], ["kt"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["lq", "kt"], ["a"]),
        helper.make_node("Mul", ["a", "half"], ["ah"]),
        helper.make_node("Softmax", ["ah"], ["as"], axis=-1),
        helper.make_node("MatMul", ["as", "l"], ["o"]),
        helper.make_node("Add", ["o", "t"], ["y"]),
        helper.make_node("Gather", ["y", "first"], ["cls"], axis=1),
        helper.make_node("Gemm", ["cls", "v", "vb"], ["logits"], transB=1),
    ]
    return _model(nodes, values, 12, 18)


KIND = Kind("onnx files", 5000, make)
