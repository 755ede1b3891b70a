"""Convolutions."""

from __future__ import annotations

from .case import IMAGE, Draw, I, case

CASES = [
    case("Conv", IMAGE, Draw((4, 3, 3, 3)), Draw((4,))),
    case("Conv", IMAGE, Draw((4, 3, 3, 3)), pads=[1, 1, 1, 1]),
    case("Conv", IMAGE, Draw((4, 3, 3, 2)), pads=[0, 1, 2, 0]),
    case("Conv", IMAGE, Draw((4, 3, 1, 1))),
    case("Conv", IMAGE, Draw((4, 3, 1, 1)), pads=[1, 1, 1, 1]),
    case("Conv", IMAGE, Draw((4, 3, 1, 1)), strides=[2, 2]),
    case("Conv", IMAGE, Draw((4, 3, 3, 3)), strides=[2, 2], pads=[1, 1, 1, 1]),
    case("Conv", IMAGE, Draw((4, 3, 2, 3)), strides=[3, 2], pads=[1, 0, 0, 2]),
    case("Conv", IMAGE, Draw((4, 3, 2, 2)), dilations=[2, 3], pads=[1, 1, 1, 1]),
    case("Conv", (2, 3, 9, 9), Draw((4, 3, 2, 3)), dilations=[2, 2], strides=[2, 3], pads=[1, 1, 0, 2]),
    case("Conv", (2, 4, 6, 5), Draw((6, 2, 3, 3)), group=2, pads=[1, 1, 1, 1]),
    case("Conv", (2, 4, 6, 5), Draw((6, 2, 3, 3)), group=2, strides=[2, 1]),
    case("Conv", (2, 4, 6, 5), Draw((4, 1, 3, 3)), group=4, pads=[1, 1, 1, 1]),
    case("Conv", (2, 4, 6, 5), Draw((8, 1, 3, 3)), group=4, pads=[1, 1, 1, 1]),
    case("Conv", (2, 4, 7, 5), Draw((4, 1, 5, 5)), group=4, pads=[2, 2, 2, 2], strides=[2, 2]),
    *(
        case("Conv", (1, 2, 8, 7), Draw((3, 2, 3, 2)), auto_pad=how, strides=[2, s])
        for how in ("SAME_UPPER", "SAME_LOWER", "VALID")
        for s in (1, 2)
    ),
    case("Conv", (2, 3, 9), Draw((4, 3, 3)), strides=[2], pads=[1, 1]),
    case("Conv", (2, 3, 9), Draw((4, 3, 3)), pads=[2, 0]),
    case("Conv", (1, 2, 5, 4, 6), Draw((3, 2, 3, 2, 3)), pads=[1, 0, 1, 1, 1, 1]),
    case("Conv", (1, 2, 5, 4, 6), Draw((3, 2, 3, 2, 3)), strides=[2, 1, 2], pads=[1, 0, 1, 1, 1, 1]),
    case("Conv", IMAGE, Draw((4, 3, 3, 3)), opset=7, pads=[1, 1, 1, 1]),
    case("ConvTranspose", IMAGE, Draw((3, 4, 3, 3)), Draw((4,))),
    case("ConvTranspose", IMAGE, Draw((3, 4, 3, 3)), strides=[2, 2], pads=[1, 1, 1, 1]),
    case("ConvTranspose", IMAGE, Draw((3, 4, 3, 3)), strides=[2, 2], output_padding=[1, 1]),
    case("ConvTranspose", IMAGE, Draw((3, 4, 2, 2)), strides=[2, 3], pads=[0, 1, 1, 0]),
    case("ConvTranspose", (2, 4, 5, 4), Draw((4, 3, 3, 3)), group=2, strides=[2, 1], exact=False),
    case("ConvTranspose", (2, 4, 5, 4), Draw((4, 1, 3, 3)), group=4, dilations=[2, 2]),
    case("ConvTranspose", (1, 2, 6), Draw((2, 3, 3)), strides=[2], pads=[1, 1], output_padding=[1]),
    case("Col2Im", (2, 3 * 4, 12), I([4, 5]), I([2, 2])),
    case("Col2Im", (1, 2 * 6, 9), I([7, 6]), I([3, 2]), strides=[2, 2], pads=[1, 0, 0, 1]),
    case("Col2Im", (1, 2 * 4, 9), I([5, 5]), I([2, 2]), dilations=[2, 2]),
    case("Col2Im", (2, 3 * 3, 4), I([6]), I([3])),
    case("Conv", IMAGE, Draw((4, 3, 3, 3)), kernel_shape=[3, 3]),
    *(case("ConvTranspose", IMAGE, Draw((3, 4, 3, 3)), auto_pad=how, strides=[2, 2]) for how in ("SAME_UPPER", "SAME_LOWER")),
    case("ConvTranspose", IMAGE, Draw((3, 4, 3, 3)), kernel_shape=[3, 3], output_shape=[15, 12], strides=[2, 2], exact=False),
    # As many channels out as in: nothing but the numbers tells what is transposed.
    *(case("Conv", IMAGE, Draw((3, 3, 3, 2)), strides=[s, 1], pads=[1, 0, 0, 2]) for s in (1, 2)),
    *(case("Conv", (2, 4, 6, 5), Draw((4, 2, 3, 2)), group=2, strides=[1, s], pads=[0, 1, 2, 0]) for s in (1, 2)),
    case("Conv", (2, 6, 6, 5), Draw((4, 3, 2, 3)), group=2, pads=[1, 0, 0, 2]),
    *(case("Conv", (2, 4, 7, 5), Draw((4, 1, 3, 2)), group=4, strides=[s, 1], pads=[2, 0, 0, 1], dilations=[1, 2]) for s in (1, 2)),
    case("Conv", (2, 4, 9, 8), Draw((6, 2, 2, 3)), group=2, dilations=[2, 1], strides=[2, 3], pads=[1, 0, 2, 1]),
    case("Conv", IMAGE, Draw((3, 3, 1, 1)), strides=[2, 3]),
    case("Conv", (2, 3, 9), Draw((3, 3, 4)), strides=[2], pads=[3, 0], dilations=[2]),
    case("ConvTranspose", IMAGE, Draw((3, 3, 3, 2)), strides=[2, 3], pads=[1, 0, 0, 1], output_padding=[0, 2]),
    case("ConvTranspose", (2, 4, 5, 4), Draw((4, 2, 3, 2)), group=2, dilations=[1, 2], pads=[0, 1, 1, 0], exact=False),
    case("ConvTranspose", (1, 3, 5, 4), Draw((3, 3, 2, 3)), strides=[3, 1], pads=[0, 1, 1, 2]),
    case("Col2Im", (1, 2 * 6, 10), I([6, 7]), I([3, 2]), strides=[2, 1], pads=[0, 1, 2, 0], dilations=[2, 3]),
]  # fmt: skip
