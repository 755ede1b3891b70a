"""The float64 evaluator's own operators, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from backlit.export.graph.weights import detach
from backlit.export.verify.reference import Evaluator
from cases import case


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
