"""Results as lines of JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..results import Localization


def localization_line(
    found: Localization, masks: Sequence[str | None] | None = None
) -> dict[str, Any]:
    """The objects of one image as ``localize`` prints them, ready for JSON.

    Args:
        found: the objects.
        masks: their files, if there are any.
    """
    objects = zip(found.classes, found.labels, found.scores, found.boxes, strict=True)
    results = [
        {
            "class": int(index),
            "label": label,
            "score": number(score),
            "box": None if box is None else [int(edge) for edge in box],
            "map": found.map,
            "recipe": found.recipe,
        }
        for index, label, score, box in objects
    ]
    for result, mask in zip(results, masks or (), strict=False):
        result["mask"] = mask
    return {
        "image": found.image,
        "width": found.width,
        "height": found.height,
        "results": results,
    }


def number(value: Any) -> float | None:
    """A float32 as JSON takes it."""
    # The shortest decimal that is this float32, not the digits of its float64; JSON has no NaN.
    return float(str(value)) if math.isfinite(value) else None
