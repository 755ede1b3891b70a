"""Completeness of Integrated Gradients by the number of steps: does the sum converge to the score?

Sundararajan, Taly and Yan 2017 (arXiv 1703.01365, section 3, axiom of completeness): over the path
from a baseline to the image the gradient adds up to what the score gains. It holds of every true
gradient and of no other map, so it checks the gradient end to end, on real images, without a
reference; that the error falls with the steps tells a coarse path from a wrong gradient.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ...runtime.arrays import Doubles
from ...runtime.maps.integrated_gradients import (
    Baseline,
    IntegratedGradients,
    baseline_values,
    completeness,
)
from ...runtime.maps.points import graph_values

if TYPE_CHECKING:
    from ...runtime.backend.runner import Runner


STEPS = (5, 10, 20, 40, 80)
BASELINE: Baseline = "black"


@dataclasses.dataclass(frozen=True, eq=False)
class Completeness:
    """Sums of attributions and what they should be.

    Attributes:
        gain: float64 [N], score(image) - score(baseline).
        sums: by number of steps, float64 [N].
        plain: float64 [N], the same of one gradient, that at the image itself: what the integral
            is better than.
    """

    gain: Doubles
    sums: Mapping[int, Doubles]
    plain: Doubles

    def errors(self, sums: Doubles) -> Doubles:
        """Distance of each image's sum from its gain, as a share of the gain: float64 [N]."""
        errors: Doubles = np.abs(sums - self.gain) / np.maximum(np.abs(self.gain), 1e-12)
        return errors


def measure(
    runner: Runner,
    views: npt.NDArray[np.uint8],
    classes: npt.NDArray[np.int64],
    steps: Sequence[int] = STEPS,
    batch: int = 8,
    done: Callable[[], None] = lambda: None,
) -> Completeness:
    """Integrate along the path from black with more and more steps.

    Args:
        runner: an open file with ``gradient``.
        views: uint8 [N,H,W,C].
        classes: int64 [N].
        steps: numbers of points on the path.
        batch: points per run.
        done: called after each image at each number of steps.

    Raises:
        OptionError: the file has no ``gradient``, or another rule of ReLU than the gradient's.
    """
    gain, plain = np.empty(len(views)), np.empty(len(views))
    sums = {count: np.empty(len(views)) for count in steps}
    for n in range(len(views)):
        view, index = views[n : n + 1], classes[n : n + 1, None]
        for count in steps:
            method = IntegratedGradients(count, BASELINE)
            found, gained = completeness(runner, view, index, method, batch)
            sums[count][n], gain[n] = found[0, 0], gained[0, 0]
            done()
        values = graph_values(runner, view)
        way = values.astype(np.float64) - baseline_values(runner, view, BASELINE)
        if runner.contract.image.layout == "NHWC":
            way = way.transpose(0, 3, 1, 2)
        plain[n] = (runner.run(values, index)["gradient"][:, 0] * way).sum()
    return Completeness(gain, sums, plain)
