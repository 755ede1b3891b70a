"""Arithmetic with broadcasting."""

from __future__ import annotations

from .case import Draw, I, away, between, case, distinct, positive

CASES = [
    *(case(op, (2, 3, 4), second=(2, 3, 4), sampler=positive) for op in ("Add", "Sub", "Mul", "Div")),
    *(case(op, (2, 3, 4), second=(3, 1), sampler=positive) for op in ("Add", "Sub", "Mul", "Div")),
    *(case(op, (4,), second=(2, 1, 4), sampler=positive) for op in ("Add", "Sub", "Mul", "Div")),
    *(case(op, (1, 3, 1), second=(2, 3, 4), sampler=distinct) for op in ("Max", "Min")),
    *(case(op, (2, 3), Draw((2, 1)), Draw((3,))) for op in ("Sum", "Mean", "Max", "Min")),
    case("Max", (2, 3)),
    case("Add", (3, 1), I(2.0), opset=7),
    case("Pow", (2, 3, 4), second=(3, 1), sampler=positive),
    case("Pow", (2, 3), I(3)),
    case("Pow", (2, 3), I([0.0, 1.0, 2.0])),
    case("Pow", (2, 3), I(2.0), position=1),
    case("Where", (3, 1), I([[True, False, True, False]]), second=(3, 4), position=1),
    case("Mod", (3, 4), I([2.0, 1.3, -0.7, 5.0]), fmod=1, sampler=between(5.05, 5.1)),
    case("Mod", (3, 1), second=(2, 3, 4), fmod=1, sampler=between(0.6, 1.0)),
    case("Max", (4, 3), Draw((4, 3)), Draw((3,)), Draw((4, 1)), position=2, sampler=distinct),
    *(case(op, (2, 3, 4), second=(4,), sampler=away(0)) for op in ("Add", "Sub", "Mul", "Div")),
    *(case(op, (3, 3), second=(3, 1), sampler=away(0)) for op in ("Mul", "Div", "Mean")),
    case("Sub", (2, 3), I(2.0), position=1),
    case("Div", (2, 3), Draw((2, 3)), position=1, sampler=away(0)),
]  # fmt: skip
