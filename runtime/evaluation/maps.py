"""Score maps: the part of an evaluation that measures maps, without boxes of its own."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arrays import Floats
from ..boxes.recipes import Recipe
from ..files import NOTHING_READ
from ..files import folder as make_folder
from ..guard import Guard
from ..images.prepare import Prepared
from ..output.arrays import save_maps
from . import metrics, sweep
from .datasets import Example

Record = dict[str, Any]
"""JSON values by name: of an image, or of a whole evaluation."""

MAP_SIDE = 224
"""Height and width of a score map in pixels, as in wsolevaluation."""


def score_map(prepared: Prepared, saliency: Floats, recipe: Recipe) -> Floats:
    """The map that a recipe takes its seeds from, over the whole image.

    Args:
        prepared: the frame that the saliency belongs to.
        saliency: float32 [fh,fw].
        recipe: its power and smoothing apply.

    Returns:
        float32 [224,224]: minimum 0 and maximum 1, or all 0 where there is no contrast.
    """
    view = dataclasses.replace(
        prepared,
        width=MAP_SIDE,
        height=MAP_SIDE,
        scale_x=prepared.scale_x * prepared.width / MAP_SIDE,
        scale_y=prepared.scale_y * prepared.height / MAP_SIDE,
    )
    values = view.map_to_original(recipe.evidence(saliency))
    low, high = values.min(), values.max()
    scaled: Floats = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return scaled


@functools.cache
def centred_map() -> Floats:
    """The map that looks at nothing, float32 [224,224]: a Gaussian in the middle.

    It is Choe et al.'s center-gaussian baseline (2020). The boxes of its level sets
    are the centred ones of every size, so its deviation does not matter.
    """
    across = np.linspace(-1, 1, MAP_SIDE)
    values = np.exp(-0.5 * (across[:, None] ** 2 + across[None] ** 2))
    scaled: Floats = ((values - values.min()) / (values.max() - values.min())).astype(np.float32)
    return scaled


def measures(
    maps: Sequence[Floats], truth: Sequence[Sequence[metrics.Box]], size: tuple[int, int]
) -> Record:
    """Pointing hits, and the IoUs over score thresholds in thousandths; per true class."""
    hits, largest, best = [], [], []
    for one, true in zip(maps, truth, strict=True):
        point = metrics.peak(one)
        if point is not None:
            point = point[0] * size[0] / MAP_SIDE, point[1] * size[1] / MAP_SIDE
        hits.append(metrics.pointing_hit(point, true) if true else None)
        inside = sweep.boxes_in_map(true, size, (MAP_SIDE, MAP_SIDE))
        sweeps = sweep.box_sweep(one, inside) if true else ((), ())
        largest.append(thousandths(sweeps[0]))
        best.append(thousandths(sweeps[1]))
    return {"pointing": hits, "largest": largest, "best": best}


def thousandths(ious: npt.ArrayLike) -> list[int]:
    """IoUs as whole thousandths, on the same side of every threshold of three digits as before."""
    # The nudge is more than what float32 loses and less than two IoUs of whole pixels can differ.
    steps: list[int] = np.floor(np.asarray(ious, np.float64) * 1000 + 1e-4).astype(int).tolist()
    return steps


def heatmap_paths(folder: Path | None, example: Example) -> list[Path]:
    """wsolevaluation's ``<scoremap_root>/<image id>.npy``; with several classes one for each."""
    if folder is None:
        return []
    # Below the root .. leads nowhere, so no name leads out of the folder.
    inside = os.path.normpath(f"/{example.name}").lstrip("/")
    several = len(example.boxes) > 1
    names = [f"{inside}.{index}.npy" if several else f"{inside}.npy" for index in example.boxes]
    return [folder / name for name in names]


def save_heatmap(path: Path, values: Floats, guard: Guard = NOTHING_READ) -> None:
    """Write a score map as a NumPy file, whole or not at all.

    Raises:
        OutputError: it cannot be written, or would replace what must stay.
    """
    save_maps(make_folder(path.parent) / path.name, values, guard)
