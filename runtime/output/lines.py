"""Results as lines of JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..results import Localization
from ..shown import number

__all__ = ["localization_line", "number"]


def localization_line(
    found: Localization, masks: Sequence[str | None] | None = None
) -> dict[str, Any]:
    """The objects of one image as ``localize`` prints them, ready for JSON.

    Args:
        found: the objects.
        masks: their files, if there are any.
    """
    line = found.to_dict()
    for result, mask in zip(line["results"], masks or (), strict=False):
        result["mask"] = mask
    return line
