"""onnx's reference evaluator, its convolutions and pools by array operations: its own loop."""

from __future__ import annotations

import onnx
from backlit.export.verify.convolutions import Conv, ConvTranspose
from backlit.export.verify.pools import POOLS, MaxPool
from onnx.reference import ReferenceEvaluator


def evaluator(model: onnx.ModelProto) -> ReferenceEvaluator:
    """As ``ReferenceEvaluator(model)``; test_reference.py compares them with ONNX Runtime."""
    return ReferenceEvaluator(model, new_ops=[Conv, ConvTranspose, *POOLS, MaxPool])
