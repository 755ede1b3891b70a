"""Networks whose scores hardly depend on the image: small differences are those of rounding.

Untrained networks are often like that. Their gradient is right all the same, and is told so; a
wrong one is still refused.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from backlit.export.autodiff.ops import Ops
from backlit.export.autodiff.registry import RULES, Grads
from onnx import TensorProto, helper, numpy_helper

import backlit

SIDE, CHANNELS, CLASSES = 16, 6, 4


def network(path: Path, slope: float, kind: str) -> Path:
    """Convolution, activation, convolution, mean: scores of about 1 that move by ``slope``."""
    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.standard_normal((CHANNELS, 3, 3, 3)) * slope,
        "w2": rng.standard_normal((CLASSES, CHANNELS, 3, 3)),
        "bias": rng.uniform(0.5, 1.5, CLASSES),
        "start": rng.uniform(0.5, 1, CHANNELS),
    }
    activation = {
        "smooth": [
            helper.make_node("Sigmoid", ["a"], ["s"], name="s"),
            helper.make_node("Mul", ["a", "s"], ["b"], name="b"),
        ],
        "kinks": [helper.make_node("Relu", ["a"], ["b"], name="b")],
    }[kind]
    nodes = [
        helper.make_node("Conv", ["x", "w1", "start"], ["a"], name="a"),
        *activation,
        helper.make_node("Conv", ["b", "w2", "bias"], ["c"], name="c"),
        helper.make_node("GlobalAveragePool", ["c"], ["d"], name="d"),
        helper.make_node("Flatten", ["d"], ["y"], name="y"),
    ]
    float_ = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", float_, ["N", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("y", float_, ["N", CLASSES])],
        [numpy_helper.from_array(v.astype(np.float32), name) for name, v in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("kind", ["smooth", "kinks"])
@pytest.mark.parametrize("slope", [1e-3, 1e-7, 1e-10, 1e-11])
def test_a_right_gradient_is_told_right(tmp_path: Path, slope: float, kind: str) -> None:
    file = network(tmp_path / "net.onnx", slope, kind)
    report = backlit.export(file, tmp_path / "net.backlit.onnx", maps="gradient")
    measured = report.contract.verification
    assert measured is not None
    assert measured.cosine > 0.9999
    assert measured.relative_l2 < 1e-2


@pytest.mark.parametrize("slope", [1e-3, 1e-7, 1e-10, 1e-11])
def test_a_wrong_gradient_is_still_refused(
    tmp_path: Path, slope: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = network(tmp_path / "net.onnx", slope, "smooth")
    entry = RULES["GlobalAveragePool"]

    def wrong(op: Ops, node: ir.Node, g: ir.Value) -> Grads:
        return entry.rule(op, node, g * 1.05)

    monkeypatch.setitem(RULES, "GlobalAveragePool", dataclasses.replace(entry, rule=wrong))
    with pytest.raises(backlit.VerificationError, match="disagrees"):
        backlit.export(file, tmp_path / "net.backlit.onnx", maps="gradient")
    assert not (tmp_path / "net.backlit.onnx").exists()
