"""Activation functions."""

from __future__ import annotations

from .case import IMAGE, Draw, I, away, case

CASES = [
    *(case(op, (2, 3, 4)) for op in ("Sigmoid", "Tanh", "Softplus", "Mish")),
    case("Softsign", (2, 3, 4), sampler=away(0)),
    case("Swish", (2, 3), opset=24),
    case("Swish", (2, 3), opset=24, alpha=1.5),
    case("Shrink", (4, 9), sampler=away(-0.5, 0.5)),
    case("Shrink", (4, 9), sampler=away(-1.5, 1.5), lambd=1.5, bias=0.3),
    case("Mish", (2, 3, 4), opset=22),
    case("Gelu", (2, 3, 4), exact=False),
    *(case(op, (2, 3, 4), sampler=away(0)) for op in ("Relu", "LeakyRelu", "Elu", "Selu", "Celu")),
    case("LeakyRelu", (2, 3), sampler=away(0), alpha=0.2),
    case("Elu", (2, 3), sampler=away(0), alpha=0.7),
    case("Celu", (2, 3), sampler=away(0), alpha=0.7),
    case("Selu", (2, 3), sampler=away(0), alpha=1.5, gamma=0.5),
    case("ThresholdedRelu", (2, 9), sampler=away(0.5), alpha=0.5),
    case("HardSigmoid", (2, 9), sampler=away(-2.5, 2.5)),
    case("HardSigmoid", (2, 9), sampler=away(-3, 3), alpha=1 / 6, beta=0.5),
    case("HardSwish", (4, 9), sampler=away(-3, 3)),
    case("Gelu", (2, 3, 4), approximate="tanh"),
    case("PRelu", IMAGE, Draw((3, 1, 1)), sampler=away(0)),
    case("PRelu", (4, 5), I([0.3]), sampler=away(0)),
    case("Clip", (5, 7), I(-1.0), I(1.5), sampler=away(-1, 1.5)),
    case("Clip", (5, 7), I(0.0), I(2.0), sampler=away(0, 2)),
    case("Clip", (5, 7), None, I(1.5), sampler=away(1.5)),
    case("Clip", (5, 7), I(0.0), sampler=away(0)),
    case("Clip", (5, 7), min=-1.0, max=1.5, opset=7, sampler=away(-1, 1.5)),
    case("Clip", (5, 7), min=0.0, max=6.0, opset=10, sampler=away(0, 6)),
]  # fmt: skip
