"""Recurrent layers."""

from __future__ import annotations

from .case import Draw, case

H = 3
CASES = [
    case("LSTM", (4, 2, 5), Draw((1, 4 * H, 5)), Draw((1, 4 * H, H)), hidden_size=H),
    case("LSTM", (4, 2, 5), Draw((1, 4 * H, 5)), Draw((1, 4 * H, H)), Draw((1, 8 * H)), hidden_size=H, direction="reverse", exact=False),
    case("LSTM", (4, 2, 5), Draw((2, 4 * H, 5)), Draw((2, 4 * H, H)), Draw((2, 8 * H)), hidden_size=H, direction="bidirectional", exact=False),
    case("LSTM", (3, 2, 5), Draw((1, 4 * H, 5)), Draw((1, 4 * H, H)), Draw((1, 8 * H)), None, Draw((1, 2, H)), Draw((1, 2, H)), hidden_size=H, exact=False),
    case("LSTM", (1, 2, 5), Draw((1, 4 * H, 5)), Draw((1, 4 * H, H)), hidden_size=H, opset=22),
    case("LSTM", (3, 2, 5), Draw((1, 4 * H, 5)), Draw((1, 4 * H, H)), hidden_size=H, opset=7),
    *(case("LSTM", (3, 2, 5), Draw((1, 4 * H, 5)), Draw((1, 4 * H, H)), hidden_size=H, outputs=3, use=u, exact=False) for u in (1, 2)),
    *(case("LSTM", (1, 2, H), Draw((3, 2, 5)), Draw((1, 4 * H, 5)), Draw((1, 4 * H, H)), *[None] * (p - 3), Draw((1, 2, H)), hidden_size=H, position=p, exact=False) for p in (5,)),
]  # fmt: skip
