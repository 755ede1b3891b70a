"""SmoothGrad (Smilkov et al. 2017, arXiv 1706.03825)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..arrays import Floats, Index, Pixels
from .kind import ManyRuns, option, signed_gradient
from .points import graph_values, shown, weighted_sum
from .saliency import PixelSaliency

if TYPE_CHECKING:
    from ..backend.outputs import Outputs
    from ..backend.runner import Runner


@dataclasses.dataclass(frozen=True)
class SmoothGrad(ManyRuns):
    """Saliency averaged over noisy copies of the image: the map ``smoothgrad``.

    Smilkov et al. 2017, arXiv 1706.03825.

    Examples:
        >>> import backlit
        >>> session = backlit.Session("tiny.backlit.onnx")
        >>> (seen,) = session.saliency("mug.jpg", map=backlit.SmoothGrad(samples=8, noise=0.1))
        >>> seen.map, seen.maps.shape, seen.maps.dtype
        ('smoothgrad', (1, 96, 96), dtype('float32'))

    Attributes:
        samples: noisy copies.
        noise: standard deviation of the Gaussian noise as a share of the image's value range, its
            maximum minus its minimum (the paper's noise level; 0.1 to 0.2 there).
        signed: average the gradients with their signs, as the paper's formula does with the
            bare gradient, and take the maximum over channels of the average's magnitude; needs a
            file with ``gradient``. Without, the class saliency, which is such a maximum already, is
            averaged.
        seed: of the noise. Every image and view gets the same, whatever it is batched with.

    Raises:
        OptionError: an option is out of range.
    """

    name = "smoothgrad"
    help = "saliency averaged over noisy copies of the image (SmoothGrad)"

    samples: int = option(50, "noisy copies of the image.", least=1)
    noise: float = option(
        0.15,
        "the noise's standard deviation, as a share of the image's value range; 0.1 to 0.2 is "
        "usual.",
        least=0,
    )
    signed: bool = option(
        False, "average gradients with their signs instead of saliency maps; needs a file with "
        "gradient.",
    )  # fmt: skip
    seed: int = option(0, "of the noise.", least=0)

    def made_of(self, outputs: Sequence[str]) -> tuple[str, ...]:
        """``gradient`` for a signed average, else what `PixelSaliency` is made of."""
        if self.signed:
            return signed_gradient("SmoothGrad of signed gradients", outputs)
        return PixelSaliency().made_of(outputs)

    def of_views(self, runner: Runner, views: Pixels, index: Index, batch: int) -> Floats:
        """The average, score per unit of the graph's ``image`` values."""
        x = graph_values(runner, views)
        axes = tuple(range(1, x.ndim))
        spread = x.max(axes, keepdims=True).astype(np.float32) - x.min(axes, keepdims=True)
        deviation = np.float32(self.noise) * spread

        def copies() -> Iterator[tuple[float, Floats | Pixels]]:
            for number in range(self.samples):
                random = np.random.default_rng([self.seed, number])
                noise = random.standard_normal(x.shape[1:], np.float32)
                yield 1 / self.samples, shown(x + deviation * noise, x.dtype)

        def measure(outputs: Outputs, _: list[int]) -> Floats:
            return outputs["gradient"] if self.signed else outputs.saliency

        channels = (runner.contract.image.channels,) if self.signed else ()
        mean = weighted_sum(runner, index, batch, copies(), measure, channels)
        return (np.abs(mean).max(2) if self.signed else mean).astype(np.float32)
