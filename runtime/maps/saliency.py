"""The paper's map: class saliency (Simonyan et al. 2013, section 3.1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..arrays import Floats, Pixels
from ..errors import no_map
from .kind import OneRun

if TYPE_CHECKING:
    from ..backend.outputs import Outputs
    from ..backend.runner import Runner


@dataclasses.dataclass(frozen=True)
class PixelSaliency(OneRun):
    """``max over channels of abs(d score / d image)``: how much a pixel matters, whatever its sign.

    In units of score per unit of the graph's ``image`` values.
    """

    name = "saliency"
    help = "the paper's, the magnitude of the score's gradient, the largest of the channels"

    def made_of(self, outputs: Sequence[str]) -> tuple[str, ...]:
        """``saliency``, or ``gradient``, of which the map can be made."""
        for name in ("saliency", "gradient"):
            if name in outputs:
                return (name,)
        raise no_map("saliency", outputs)

    def of_run(self, runner: Runner, outputs: Outputs, values: Floats | Pixels) -> Floats:
        """`Outputs.saliency`."""
        return outputs.saliency
