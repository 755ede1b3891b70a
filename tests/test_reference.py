"""The float64 evaluator's own operators, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime as ort
import pytest
from backlit.export.graph.weights import detach
from backlit.export.verify.reference import Evaluator
from cases import CASES, Array, case
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


def along(window: dict[str, Any], dims: int) -> dict[str, Any]:
    """A window of three axes along the first of them."""
    made = {k: v if k == "auto_pad" else v[:dims] for k, v in window.items()}
    if "pads" in window:
        made["pads"] = [*window["pads"][:dims], *window["pads"][3 : 3 + dims]]
    return made


def agree(model: onnx.ModelProto, feed: dict[str, Array]) -> None:
    """In float64, and as near to ONNX Runtime's float32 as that can be."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, feed)
    evaluator = Evaluator(detach(ir.serde.deserialize_model(model)))
    double = {n: x.astype(np.float64) if x.dtype.kind == "f" else x for n, x in feed.items()}
    for found, wanted in zip(evaluator.run(None, double), expected, strict=True):
        if wanted.dtype.kind == "f":
            assert found.dtype == np.float64
            size = float(np.abs(wanted).max(initial=1e-9))
            np.testing.assert_allclose(found, wanted, rtol=3e-6, atol=3e-6 * size)
        else:
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("op", sorted({c.op for c in CASES} - {"Cast"}))  # to float32, it rounds
def test_no_operator_of_the_rules_strays(op: str) -> None:
    """A false alarm of verification, or a traceback, where one did."""
    for made in CASES:
        if made.op == op and ("sorted", 0) not in made.attributes.items():  # any order is right
            agree(made.model(np.float32), made.feed(np.float32))


@pytest.mark.parametrize("column_major", [0, 1])
@pytest.mark.parametrize(
    "window",
    [
        {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]},
        {"kernel_shape": [2, 2], "dilations": [2, 1], "strides": [1, 2]},
        {"kernel_shape": [9, 9], "pads": [1, 1, 1, 2]},
    ],
    ids=str,
)
def test_where_maxima_are(column_major: int, window: dict[str, Any]) -> None:
    attributes = {name: str(value).replace(" ", "") for name, value in window.items()}
    said = ", ".join(f"{name} = {value}" for name, value in attributes.items())
    model = onnx.parser.parse_model(f"""<ir_version: 9, opset_import: ["" : 20]>
        net (float[2, 3, 7, 6] x) => (float[a, b, c, d] y, int64[a, b, c, d] at) {{
            y, at = MaxPool <{said}, storage_order = {column_major}> (x)
        }}""")
    x = np.random.default_rng(0).standard_normal((2, 3, 7, 6)).astype(np.float32)
    agree(model, {"x": x})


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_convolution(dims: int, groups: int, window: dict[str, Any]) -> None:
    one = case("Conv", (2, 4, *SIZE[:dims]), Draw((8, 4 // groups, *KERNEL[:dims])),
               Draw((8,)), group=groups, **along(window, dims))  # fmt: skip
    agree(one.model(np.float32), one.feed(np.float32))


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("window", [*WINDOWS, *WIDER], ids=str)
def test_transposed_convolution(dims: int, groups: int, window: dict[str, Any]) -> None:
    one = case("ConvTranspose", (2, 4, *SIZE[:dims]), Draw((4, 3, *KERNEL[:dims])),
               Draw((3 * groups,)), group=groups, **along(window, dims))  # fmt: skip
    agree(one.model(np.float32), one.feed(np.float32))


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
