"""onnx's reference evaluator, its convolutions by matrix products: its own loop in Python."""

from __future__ import annotations

import onnx
from backlit.export.verify.convolutions import Conv, ConvTranspose
from onnx.reference import ReferenceEvaluator


def evaluator(model: onnx.ModelProto) -> ReferenceEvaluator:
    """As ``ReferenceEvaluator(model)``; test_reference.py compares both convolutions."""
    return ReferenceEvaluator(model, new_ops=[Conv, ConvTranspose])
