"""The map that boxes start from: ``features``, or ``gains`` where those can be trusted."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..arrays import Floats, Pixels
from .enlarged import enlarged
from .features import Features
from .gains import Gains
from .kind import OneRun

if TYPE_CHECKING:
    from ..backend.outputs import Outputs
    from ..backend.runner import Runner

POWER, SMOOTHING = 0.7, 0.03  # of recipes unless they say otherwise: this judges their foreground
_SCATTERED = 0.05


@dataclasses.dataclass(frozen=True)
class ObjectMap(OneRun):
    """``gains`` where they lie together, else ``features``; for each image and class by itself.

    Which of the two finds the object depends on the network. ``features`` reach beyond the object
    as far as the later layers see: too far where objects are small beside that. ``gains`` are
    nearly nothing off the object in a classifier that ignores what it has no use for, and scattered
    in one that reads all of a photo. So they are taken where at most 5 % of their strength (the sum
    of squares) lies outside of the foreground of ``features`` (docs/measured/boxes.md). In a file
    without ``gains`` the map is ``features``.
    """

    name = "object"
    help = "features, or gains where they lie together"

    def made_of(self, outputs: Sequence[str]) -> tuple[str, ...]:
        """``features``, and ``gains`` where the file has them."""
        needed = Features().made_of(outputs)
        return (*needed, Gains.name) if Gains.name in outputs else needed

    def of_run(self, runner: Runner, outputs: Outputs, values: Floats | Pixels) -> Floats:
        """The chosen maps, float32 [N,K,h,w] on the grid of ``gains``."""
        features = outputs[Features.name]
        if Gains.name not in outputs.maps:
            return features
        gains = outputs[Gains.name]
        coarse = enlarged(features, *gains.shape[-2:])
        made = np.empty_like(gains)
        for place in np.ndindex(*gains.shape[:2]):
            together = scattered(features=coarse[place], gains=gains[place]) <= _SCATTERED
            made[place] = gains[place] if together else coarse[place]
        return made


def scattered(features: Floats, gains: Floats) -> float:
    """The share of the strength of ``gains`` outside of the foreground of ``features``, 0..1.

    Args:
        features, gains: float32 [h,w] on one grid.

    Returns:
        1 where there are no gains.
    """
    from .evidence import evidence, otsu_threshold  # OpenCV, 0.2 s

    ground = evidence(features, POWER, SMOOTHING)
    strength = np.square(evidence(gains, POWER, SMOOTHING).astype(np.float64))
    total = float(strength.sum())
    return float(strength[ground <= otsu_threshold(ground)].sum()) / total if total > 0 else 1.0
