"""Resampling."""

from __future__ import annotations

from .case import F, I, case

EMPTY = F([])
HALF = F([1, 1, 0.5, 0.6])
COORDINATES = (
    "half_pixel",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "half_pixel_symmetric",
)
ROUNDING = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
CASES = [
    case("Resize", (2, 3, 3, 2), None, F([1, 1, 2, 3]), mode="nearest"),
    *(
        case("Resize", (1, 2, 4, 5), None, None, I(to), axes=[2, 3], mode=mode, coordinate_transformation_mode=c)
        for mode in ("nearest", "linear", "cubic")
        for c in COORDINATES
        for to in ((7, 3), (2, 10))
    ),
    *(
        case("Resize", (1, 1, 5, 4), None, F([1, 1, 1.5, 0.75]), mode="nearest", nearest_mode=r, coordinate_transformation_mode=c)
        for r in ROUNDING
        for c in ("half_pixel", "asymmetric")
    ),
    case("Resize", (1, 2, 4, 5), None, HALF, mode="linear", antialias=1),
    case("Resize", (1, 2, 4, 5), None, None, I([1, 2, 7, 3]), mode="cubic", opset=13),
    case("Resize", (1, 2, 9, 7), None, None, I([1, 2, 4, 10]), mode="cubic", antialias=1),
    case("Resize", (1, 2, 4, 5), None, None, I([7, 3]), axes=[2, 3], mode="cubic", cubic_coeff_a=-0.5, exclude_outside=1),
    case("Resize", (1, 1, 4, 5), F([0, 0, 0.25, -0.25, 1, 1, 0.75, 1.25]), None, I([1, 1, 3, 6]), mode="linear",
         coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=3.0),
    case("Resize", (2, 3, 4, 5), None, None, I([7, 8]), mode="linear", axes=[2, 3], keep_aspect_ratio_policy="not_larger"),
    case("Resize", (2, 3, 4, 5), None, None, I([7, 8]), mode="nearest", axes=[2, 3], keep_aspect_ratio_policy="not_smaller"),
    case("Resize", (2, 3, 4, 5), None, F([1.5, 0.7]), mode="cubic", axes=[-2, -1], exact=False),
    case("Resize", (1, 5, 4, 2), None, F([1.6, 2]), mode="linear", axes=[1, 2], opset=18),
    case("Resize", (1, 1, 4, 5), EMPTY, F([1, 1, 2, 2]), mode="linear", coordinate_transformation_mode="align_corners", opset=11),
    case("Resize", (1, 1, 4, 5), F([1, 1, 2, 2]), mode="linear", opset=10),
    case("Upsample", (1, 1, 4, 5), F([1, 1, 2, 2]), mode="nearest", opset=9),
    case("Upsample", (1, 1, 4, 5), scales=[1.0, 1.0, 2.0, 3.0], mode="linear", opset=7),
    case("AffineGrid", (2, 2, 3), I([2, 1, 3, 4]), exact=False),
    case("AffineGrid", (1, 3, 4), I([1, 1, 2, 3, 2]), align_corners=1, exact=False),
]  # fmt: skip
