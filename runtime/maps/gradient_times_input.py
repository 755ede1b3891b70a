"""Gradient times input (Shrikumar et al. 2016, arXiv 1605.01713)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..arrays import Floats, Pixels
from .kind import OneRun, signed_gradient
from .points import planes

if TYPE_CHECKING:
    from ..backend.outputs import Outputs
    from ..backend.runner import Runner


@dataclasses.dataclass(frozen=True)
class GradientTimesInput(OneRun):
    """The sum over channels of ``gradient * value``, with the graph's own ``image`` values.

    In units of the score, with signs.
    """

    name = "gradxinput"
    help = "the gradient of each pixel times its value"
    has_signs = True

    def made_of(self, outputs: Sequence[str]) -> tuple[str, ...]:
        """``gradient``."""
        return signed_gradient("gradient times input", outputs)

    def of_run(self, runner: Runner, outputs: Outputs, values: Floats | Pixels) -> Floats:
        """The sum over channels of gradient times value."""
        pixels = planes(runner, values.astype(np.float32))[:, None]
        return np.asarray((outputs["gradient"] * pixels).sum(2))
