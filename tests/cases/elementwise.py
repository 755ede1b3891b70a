"""Functions of one element."""

from __future__ import annotations

from onnx import TensorProto

from .case import Draw, I, away, case, positive

CASES = [
    *(case(op, (2, 3, 4)) for op in ("Identity", "Neg", "Exp")),
    case("Erf", (2, 3, 4), exact=False),
    *(case(op, (2, 3, 4), sampler=positive) for op in ("Log", "Sqrt")),
    *(case(op, (2, 3, 4), sampler=away(0)) for op in ("Abs", "Reciprocal")),
    case("Dropout", (3, 4), opset=7, ratio=0.4),
    case("Dropout", (3, 4), I(0.4), opset=13),
    case("Cast", (3, 4), to=TensorProto.DOUBLE),
    case("CastLike", (3, 4), Draw((1,))),
]  # fmt: skip
