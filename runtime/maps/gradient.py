"""The score's gradient with its signs, one value for each pixel."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..arrays import Floats, Pixels
from .kind import OneRun, signed_gradient

if TYPE_CHECKING:
    from ..backend.outputs import Outputs
    from ..backend.runner import Runner


@dataclasses.dataclass(frozen=True)
class Gradient(OneRun):
    """The sum over channels of ``d score / d image``: what brightening a pixel does to the score.

    A pixel's value is what the score gains, to first order, when all channels of the pixel grow by
    one unit of the graph's ``image`` values: one grey level of a uint8 file.
    """

    name = "gradient"
    help = "what the score gains where a pixel gets one unit brighter in all channels"
    has_signs = True

    def made_of(self, outputs: Sequence[str]) -> tuple[str, ...]:
        """``gradient``."""
        return signed_gradient("the map gradient", outputs)

    def of_run(self, runner: Runner, outputs: Outputs, values: Floats | Pixels) -> Floats:
        """The sum over channels of the file's ``gradient`` [N,K,C,H,W]."""
        return np.asarray(outputs["gradient"].sum(2))
