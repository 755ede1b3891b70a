"""Fourier transforms."""

from __future__ import annotations

from .case import Draw, I, between, case

CASES = [
    *(case("DFT", (2, 5, 1), onesided=s, inverse=0) for s in (0, 1)),
    *(case("DFT", (2, 6, 1), onesided=s) for s in (0, 1)),
    case("DFT", (2, 5, 2)),
    case("DFT", (2, 5, 2), inverse=1),
    case("DFT", (2, 5, 1), inverse=1),
    *(case("DFT", (2, 3, 4, 2), None, I(a)) for a in (0, 1, -2, -3)),
    *(case("DFT", (2, 3, 5, 1), I(n), I(1), onesided=s) for n in (2, 5) for s in (0, 1)),
    case("DFT", (2, 4, 2), I(6), inverse=1),
    *(case("DFT", (2, 4, 2), *n, I(1), inverse=1, onesided=1, exact=False) for n in ([None], [I(6)], [I(7)], [I(4)], [I(9)])),
    case("DFT", (2, 3, 4, 2), I(4), I(1), inverse=1, onesided=1, exact=False),
    case("DFT", (2, 3, 4, 2), axis=2, opset=17),
    case("DFT", (2, 3, 4, 1), I(6), axis=1, onesided=1, opset=17),
    *(case("STFT", (2, 12, 1), I(s), Draw((w,), between(0.2, 1)), I(w), onesided=o, opset=v) for s, w, o, v in ((2, 4, 1, 17), (3, 5, 0, 20), (5, 4, 1, 20))),
    case("STFT", (2, 12, 1), I(4), None, I(6)),
    case("STFT", (2, 12, 1), I(4), Draw((4,), between(0.2, 1))),
    case("STFT", (2, 12), I(4), Draw((4,), between(0.2, 1)), I(4), exact=False, opset=17),
    case("STFT", (2, 12, 2), I(4), Draw((4,), between(0.2, 1)), I(4), onesided=0),
]  # fmt: skip
