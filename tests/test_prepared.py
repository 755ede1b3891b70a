"""What is written out before rules are asked: batch statistics, loops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from support.small import convnet

from backlit import ModelError, export

PLAIN = {"scale": [1.0, 2, 0.5, 1], "shift": [0.1, 0, 0, 1], "mean": [0.0] * 4, "var": [1.0] * 4}


def with_constants(model: onnx.ModelProto, **values: Any) -> onnx.ModelProto:
    for name, value in values.items():
        array = np.asarray(value)
        array = array.astype(np.float32) if array.dtype.kind == "f" else array
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    return model


def normalised(batch: int | str, training: bool) -> onnx.ModelProto:
    """By the statistics of the batch: in training mode, or as torch's exporter writes it."""
    if training:
        nodes = [
            helper.make_node(
                "BatchNormalization", ["a", "scale", "shift", "mean", "var"], ["b", "rm", "rv"],
                name="bn", training_mode=1,
            )
        ]  # fmt: skip
    else:
        axes = {"axes": [0, 2, 3]}
        nodes = [
            helper.make_node("ReduceMean", ["a"], ["m4"], name="mean4", **axes),
            helper.make_node("Sub", ["a", "m4"], ["d"], name="less"),
            helper.make_node("Mul", ["d", "d"], ["dd"], name="square"),
            helper.make_node("ReduceMean", ["a"], ["m"], name="mean1", keepdims=0, **axes),
            helper.make_node("ReduceMean", ["dd"], ["spread"], name="var1", keepdims=0, **axes),
            helper.make_node(
                "BatchNormalization", ["a", "scale", "shift", "m", "spread"], ["b"], name="bn"
            ),
        ]
    return with_constants(convnet(extra=nodes, batch=batch), **PLAIN)


@pytest.mark.parametrize("training", [True, False])
def test_statistics_of_one_image_are_its_own(training: bool, tmp_path: Path) -> None:
    """Of a file for one image; batches of the exported one are of such images."""
    report = export(normalised(1, training), tmp_path / "out.backlit.onnx")
    assert report.contract.verification is not None
    assert report.contract.verification.cosine > 0.9999


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("batch", ["N", 4])
def test_statistics_of_a_batch_are_refused(
    batch: int | str, training: bool, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="averages over the batch") as error:
        export(normalised(batch, training), tmp_path / "out.backlit.onnx")
    assert "with a batch of one image" in error.value.fix


def test_statistics_of_weights_are_constants(tmp_path: Path) -> None:
    """Weight standardisation, as BiT and NFNet have it."""
    model = convnet()
    model = with_constants(model, flat=[1, 4, -1], back=[4, 3, 3, 3], **PLAIN)
    nodes = [
        helper.make_node("Reshape", ["w", "flat"], ["rows"], name="rows"),
        helper.make_node(
            "BatchNormalization", ["rows", "scale", "shift", "mean", "var"], ["std", "rm", "rv"],
            name="bn", training_mode=1,
        ),
        helper.make_node("Reshape", ["std", "back"], ["ws"], name="back"),
    ]  # fmt: skip
    for place, node in enumerate(nodes):
        model.graph.node.insert(place, node)
    model.graph.node[3].input[1] = "ws"
    report = export(model, tmp_path / "out.backlit.onnx")
    assert report.contract.verification is not None
    assert report.contract.verification.scores_relative < 1e-5
