"""Sampling at computed places."""

from __future__ import annotations

from .case import Draw, among, between, case

CASES = [
    *(
        case("GridSample", (2, 3, 4, 5), second=(2, 3, 2, 2), sampler=among(*places), padding_mode=padding, align_corners=aligned, exact=False)
        for padding in ("zeros", "border")
        for aligned, places in enumerate(((-1.05, -0.6, -0.33, -0.12, 0.12, 0.33, 0.6, 1.05), (-1.1, -0.75, -0.42, -0.17, 0.17, 0.42, 0.75, 1.1)))
    ),
    case("GridSample", (1, 2, 4, 5), Draw((1, 3, 2, 2), between(-1, 1)), mode="nearest", exact=False),
    case("GridSample", (1, 2, 4, 5), Draw((1, 3, 2, 2), between(-1, 1)), mode="bilinear", opset=16, exact=False),
    case("GridSample", (1, 2, 3, 4, 2), second=(1, 2, 2, 3, 3), sampler=among(-0.55, -0.2, 0.12, 0.58, 0.9), exact=False),
    *(
        case("GridSample", (1, 2, 4, 5), second=(1, 3, 2, 2), sampler=among(*places), padding_mode=padding, align_corners=aligned, mode=mode, exact=False, step=5e-3 if mode == "cubic" else 1e-2)
        for mode in ("linear", "nearest", "cubic")
        for padding in ("zeros", "border", "reflection")
        for aligned, places in enumerate(((-2.05, -1.05, -0.67, -0.33, -0.12, 0.12, 0.33, 0.53, 1.07, 3.3), (-2.9, -1.1, -0.75, -0.42, -0.17, 0.17, 0.42, 0.75, 1.1, 2.45)))
        if (mode, padding) not in (("linear", "zeros"), ("linear", "border"))
    ),
    case("GridSample", (1, 2, 4, 5), Draw((1, 3, 2, 2), between(-1, 1)), mode="bicubic", opset=16, exact=False),
    *(case("GridSample", (1, 2, 3, 4, 2), second=(1, 2, 2, 3, 3), sampler=among(-1.2, -0.55, -0.2, 0.12, 0.58, 0.9), padding_mode="reflection", mode=mode, exact=False) for mode in ("linear", "nearest")),
    case("GridSample", (1, 2, 1, 5), second=(1, 3, 2, 2), sampler=among(-1.1, -0.75, -0.17, 0.42), padding_mode="reflection", align_corners=1, exact=False),
]  # fmt: skip
