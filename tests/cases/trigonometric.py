"""Circular and hyperbolic functions."""

from __future__ import annotations

from .case import between, case

CASES = [
    *(case(op, (2, 3, 4), opset=v) for op in ("Sin", "Cos", "Atan") for v in (20, 22)),
    *(case(op, (2, 3, 4)) for op in ("Sinh", "Cosh", "Asinh")),
    *(case(op, (2, 3, 4), sampler=between(-0.9, 0.9)) for op in ("Tan", "Asin", "Acos", "Atanh")),
    case("Acosh", (2, 3, 4), sampler=between(1.2, 4)),
]  # fmt: skip
