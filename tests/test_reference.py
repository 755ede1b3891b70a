"""The float64 evaluator's own operators, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from backlit.export.graph.weights import detach
from backlit.export.verify.reference import Evaluator
from cases import Array, Case, case
from cases.case import Draw

SIZE, KERNEL = (7, 6, 5), (3, 2, 3)
WINDOWS: list[dict[str, Any]] = [
    {},
    {"pads": [1, 0, 2, 0, 1, 1]},
    {"strides": [2, 3, 1], "pads": [1, 1, 0, 0, 1, 1]},
    {"dilations": [2, 1, 2]},
    {"dilations": [2, 3, 1], "strides": [2, 2, 2], "pads": [2, 3, 1, 1, 0, 1]},
    {"auto_pad": "VALID", "strides": [2, 1, 2]},
    {"auto_pad": "SAME_UPPER", "strides": [2, 1, 2]},
    {"auto_pad": "SAME_LOWER", "strides": [2, 2, 1]},
]
WIDER: list[dict[str, Any]] = [
    {"strides": [2, 3, 2], "output_padding": [1, 2, 1], "pads": [1, 0, 1, 0, 1, 1]},
    {"strides": [2, 2, 2], "output_shape": [15, 13, 11]},
    {"strides": [2, 2, 2], "output_shape": [14, 12, 10], "auto_pad": "SAME_LOWER"},
]


def agree(made: Case) -> None:
    """In float64, and as near to ONNX Runtime's float32 as that can be."""
    model = made.model(np.float32)
    feed = made.feed(np.float32)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, feed)
    evaluator = Evaluator(detach(ir.serde.deserialize_model(model)))
    (found,) = evaluator.run(None, {name: x.astype(np.float64) for name, x in feed.items()})
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_convolution(dims: int, groups: int, window: dict[str, Any]) -> None:
    made = {k: v if k == "auto_pad" else v[:dims] for k, v in window.items() if k != "pads"}
    if "pads" in window:
        made["pads"] = [*window["pads"][:dims], *window["pads"][3 : 3 + dims]]
    agree(case("Conv", (2, 4, *SIZE[:dims]), Draw((8, 4 // groups, *KERNEL[:dims])),
               Draw((8,)), group=groups, **made))  # fmt: skip


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("window", [*WINDOWS, *WIDER], ids=str)
def test_transposed_convolution(dims: int, groups: int, window: dict[str, Any]) -> None:
    made = {k: v if k == "auto_pad" else v[:dims] for k, v in window.items() if k != "pads"}
    if "pads" in window:
        made["pads"] = [*window["pads"][:dims], *window["pads"][3 : 3 + dims]]
    agree(case("ConvTranspose", (2, 4, *SIZE[:dims]), Draw((4, 3, *KERNEL[:dims])),
               Draw((3 * groups,)), group=groups, **made))  # fmt: skip


@pytest.mark.parametrize("bound", [np.array(0.0), np.array([0.0])], ids=["scalar", "vector"])
def test_at_zero_a_clip_is_flat_however_zero_is_written(bound: Array) -> None:
    """A channel that is exactly zero (dead, no bias): the file's masks are zero there."""
    made = case("Clip", (2, 3), bound.astype(np.float32), np.float32(6))
    engine = Evaluator(detach(ir.serde.deserialize_model(made.model(np.float32))), smooth=True)
    engine.anchor({"x": np.zeros((2, 3))})
    (found,) = engine.run(None, {"x": np.full((2, 3), 1e-3)})
    np.testing.assert_array_equal(found, 0)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
@pytest.mark.parametrize("pads", [[0, 0, 1, 2, 0, 0, 2, 1], [0, 0, -1, 2, 0, 0, -2, -1]])
def test_pad_lengthens_and_cuts_off(mode: str, pads: list[int]) -> None:
    model = case("Pad", (1, 2, 5, 6), np.array(pads), mode=mode).model(np.float32)
    x = np.random.default_rng(0).standard_normal((1, 2, 5, 6)).astype(np.float32)
    feed = {"x": x}
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, feed)
    evaluator = Evaluator(detach(ir.serde.deserialize_model(model)))
    (found,) = evaluator.run(None, {"x": x.astype(np.float64)})
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, expected.astype(np.float64))
