"""Pooling."""

from __future__ import annotations

from .case import IMAGE, I, away, case, distinct, positive

CASES = [
    case("MaxPool", IMAGE, kernel_shape=[2, 2], sampler=distinct),
    case("MaxPool", IMAGE, kernel_shape=[2, 2], strides=[2, 2], sampler=distinct),
    case("MaxPool", IMAGE, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], sampler=distinct),
    case("MaxPool", IMAGE, kernel_shape=[3, 2], strides=[1, 3], pads=[1, 0, 0, 1], sampler=distinct),
    case("MaxPool", IMAGE, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, sampler=distinct),
    case("MaxPool", (1, 2, 8, 8), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, sampler=distinct),
    case("MaxPool", (1, 2, 9, 8), kernel_shape=[2, 2], dilations=[2, 3], sampler=distinct),
    case("MaxPool", (1, 2, 8, 7), kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER", sampler=distinct),
    case("MaxPool", (1, 2, 8, 7), kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_LOWER", sampler=distinct, exact=False),
    case("MaxPool", (2, 3, 9), kernel_shape=[3], strides=[2], sampler=distinct),
    case("MaxPool", (1, 2, 5, 4, 6), kernel_shape=[2, 2, 3], strides=[2, 2, 2], sampler=distinct),
    case("MaxPool", IMAGE, kernel_shape=[2, 2], opset=7, sampler=distinct),
    case("AveragePool", IMAGE, kernel_shape=[2, 2]),
    case("AveragePool", IMAGE, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    case("AveragePool", IMAGE, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1),
    case("AveragePool", IMAGE, kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1),
    case("AveragePool", (1, 2, 8, 8), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, pads=[1, 1, 1, 1]),
    case("AveragePool", (1, 2, 8, 8), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, pads=[1, 1, 1, 1], count_include_pad=1, exact=False),
    case("AveragePool", (1, 2, 8, 7), kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"),
    case("AveragePool", (2, 3, 9), kernel_shape=[3], strides=[2]),
    case("AveragePool", (1, 2, 5, 4, 6), kernel_shape=[2, 2, 3]),
    case("AveragePool", IMAGE, kernel_shape=[3, 3], pads=[1, 1, 1, 1], opset=7),
    case("GlobalAveragePool", IMAGE),
    case("GlobalAveragePool", (2, 3, 5)),
    case("GlobalMaxPool", IMAGE, sampler=distinct),
    case("GlobalMaxPool", (2, 3, 2, 2, 3), sampler=distinct, exact=False),
    *(case("LpPool", IMAGE, kernel_shape=[2, 3], strides=[2, 1], pads=[1, 1, 0, 1], p=p, sampler=away(0), exact=False) for p in (1, 2, 3)),
    case("LpPool", IMAGE, kernel_shape=[2, 2], sampler=positive, dilations=[2, 1], exact=False),
    case("LpPool", IMAGE, kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER", sampler=positive, opset=11, exact=False),
    case("LpPool", (2, 3, 9), kernel_shape=[3], strides=[2], ceil_mode=1, sampler=positive, exact=False),
    *(case("GlobalLpPool", IMAGE, p=p, sampler=away(0), exact=False) for p in (1, 2, 3)),
    case("MaxUnpool", (1, 2, 2, 2), I([[[[1, 3], [9, 14]], [[16, 22], [25, 31]]]]), kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 0, 0], exact=False),
    case("AveragePool", (1, 2, 9, 8), kernel_shape=[2, 2], dilations=[2, 3], pads=[1, 0, 0, 1]),
    case("MaxPool", IMAGE, kernel_shape=[2, 2], storage_order=1, sampler=distinct),
]  # fmt: skip
