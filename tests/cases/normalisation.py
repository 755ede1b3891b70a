"""Normalisation layers and softmax."""

from __future__ import annotations

from .case import IMAGE, Draw, away, case, positive

CASES = [
    case("BatchNormalization", IMAGE, *[Draw((3,))] * 3, Draw((3,), positive)),
    case("BatchNormalization", (4, 3), *[Draw((3,))] * 3, Draw((3,), positive), epsilon=0.1),
    case("BatchNormalization", IMAGE, *[Draw((3,))] * 3, Draw((3,), positive), opset=14),
    case("LRN", (2, 7, 3, 4), size=5, alpha=0.3, beta=0.75, bias=2.0, exact=False),
    case("LRN", (2, 7, 3, 4), size=3, alpha=0.5, exact=False),
    *(case(op, (2, 3, 4), axis=axis) for op in ("Softmax", "LogSoftmax") for axis in (-1, 1, 0)),
    *(case(op, (2, 3, 4), opset=11, axis=1, exact=False) for op in ("Softmax", "LogSoftmax")),
    case("LayerNormalization", (2, 3, 4), Draw((4,)), Draw((4,))),
    case("LayerNormalization", (2, 3, 4), Draw((4,))),
    case("LayerNormalization", (2, 3, 4), Draw((3, 4)), Draw((3, 4)), axis=1, epsilon=0.1),
    case("LayerNormalization", (2, 3, 4), Draw((3, 4)), Draw((1, 4)), axis=-2),
    case("LayerNormalization", (2, 3, 4), Draw((1,)), Draw((1,)), axis=0),
    case("LayerNormalization", (3, 4), second=(4,)),
    case("LayerNormalization", (4,), Draw((2, 4)), Draw((4,)), position=1),
    case("LayerNormalization", (4,), Draw((2, 3, 4)), Draw((3, 4)), position=2, axis=1),
    case("RMSNormalization", (2, 3, 4), Draw((4,)), opset=23),
    case("RMSNormalization", (2, 3, 4), Draw((3, 4)), opset=23, axis=1, epsilon=0.1),
    case("RMSNormalization", (4,), Draw((2, 3, 4)), opset=23, position=1),
    case("InstanceNormalization", IMAGE, Draw((3,)), Draw((3,))),
    case("InstanceNormalization", (2, 3, 5), Draw((3,)), Draw((3,)), epsilon=0.1),
    case("InstanceNormalization", (2, 3, 2, 3, 2), Draw((3,)), Draw((3,)), opset=22),
    case("InstanceNormalization", IMAGE, Draw((3,)), Draw((3,)), opset=7),
    case("GroupNormalization", (2, 4, 3, 2), Draw((4,)), Draw((4,)), opset=21, num_groups=2, exact=False),
    case("GroupNormalization", (2, 6, 5), Draw((6,)), Draw((6,)), opset=21, num_groups=3, epsilon=0.1, exact=False),
    case("GroupNormalization", (2, 4, 3, 2), Draw((4,)), Draw((4,)), opset=21, num_groups=1, exact=False),
    case("GroupNormalization", (2, 4, 3, 2), Draw((2,)), Draw((2,)), opset=18, num_groups=2),
    case("MeanVarianceNormalization", (2, 3, 4, 5), exact=False),
    case("MeanVarianceNormalization", (2, 3, 4, 5), axes=[2, 3], exact=False),
    case("MeanVarianceNormalization", (2, 3, 4), axes=[1, -1], exact=False),
    *(case("LpNormalization", (2, 3, 4), p=p, axis=a, sampler=away(0), exact=p == 2) for p in (1, 2) for a in (-1, 1)),
    case("LpNormalization", (2, 3, 4), opset=22),
    case("LayerNormalization", (2, 3, 4), Draw((4,)), Draw((4,)), stash_type=1),
    case("RMSNormalization", (2, 3, 4), Draw((4,)), opset=23, stash_type=1),
    case("GroupNormalization", (2, 4, 5), Draw((4,)), Draw((4,)), opset=21, num_groups=2, stash_type=1, exact=False),
]  # fmt: skip
