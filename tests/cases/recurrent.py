"""Recurrent layers."""

from __future__ import annotations

from .case import Draw, between, case, normal, positive

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
    *(case("GRU", (4, 2, 5), Draw((1, 3 * H, 5)), Draw((1, 3 * H, H)), hidden_size=H, linear_before_reset=b) for b in (0, 1)),
    *(case("GRU", (4, 2, 5), Draw((1, 3 * H, 5)), Draw((1, 3 * H, H)), Draw((1, 6 * H)), hidden_size=H, direction=d, linear_before_reset=b, exact=False) for b in (0, 1) for d in ("reverse", "forward")),
    *(case("GRU", (3, 2, 5), Draw((2, 3 * H, 5)), Draw((2, 3 * H, H)), Draw((2, 6 * H)), hidden_size=H, direction="bidirectional", linear_before_reset=b, exact=False) for b in (0, 1)),
    *(case("GRU", (3, 2, 5), Draw((1, 3 * H, 5)), Draw((1, 3 * H, H)), Draw((1, 6 * H)), None, Draw((1, 2, H)), hidden_size=H, outputs=2, use=u, linear_before_reset=u, exact=False) for u in (0, 1)),
    *(case("GRU", (1, 2, H), Draw((3, 2, 5)), Draw((1, 3 * H, 5)), Draw((1, 3 * H, H)), None, None, hidden_size=H, position=5, linear_before_reset=b, exact=False) for b in (0, 1)),
    case("GRU", (1, 2, 5), Draw((1, 3 * H, 5)), Draw((1, 3 * H, H)), hidden_size=H, opset=22),
    case("GRU", (3, 2, 5), Draw((1, 3 * H, 5)), Draw((1, 3 * H, H)), Draw((1, 6 * H)), hidden_size=H, opset=7, exact=False),
    case("RNN", (4, 2, 5), Draw((1, H, 5)), Draw((1, H, H)), hidden_size=H),
    *(case("RNN", (4, 2, 5), Draw((1, H, 5), s), Draw((1, H, H)), Draw((1, 2 * H)), hidden_size=H, direction="reverse", activations=[a], exact=False) for a, s in (("Tanh", normal), ("Relu", positive), ("Sigmoid", normal))),
    case("RNN", (3, 2, 5), Draw((2, H, 5)), Draw((2, H, H)), Draw((2, 2 * H)), hidden_size=H, direction="bidirectional", outputs=2, use=1, exact=False),
    case("RNN", (1, 2, H), Draw((3, 2, 5), between(-1, 1)), Draw((1, H, 5), between(-1, 1)), Draw((1, H, H)), None, None, hidden_size=H, position=5, exact=False),
    case("RNN", (1, 2, 5), Draw((1, H, 5)), Draw((1, H, H)), hidden_size=H, opset=22),
]  # fmt: skip
