"""Maps of many gradients: SmoothGrad and Integrated Gradients; and gradient times input.

The same file, run at many points around or before an image; points of several images fill a batch.
All derivatives are with respect to the graph's own ``image`` values: pixels 0..255 of a uint8 file,
the classifier's input of a float32 file. What a uint8 file is shown are pixels: points between them
are rounded to the nearest, and noise ends at 0 and 255. A float32 file has neither limit. At 200
steps rounding costs trained classifiers 1 to 2 % of completeness in the median; dithering does no
better.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from ..backend.interface import normalise
from ..errors import OptionError

if TYPE_CHECKING:
    from ..backend.outputs import Outputs
    from ..backend.runner import Runner

Floats = npt.NDArray[np.float32]
Sums = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
Baseline = Literal["black", "mean", "blur"]

# Standard deviation of the blurred baseline, of the shorter side: details go, colours stay.
_BLUR = 0.1


@dataclasses.dataclass(frozen=True)
class SmoothGrad:
    """Saliency averaged over noisy copies of the image (Smilkov et al. 2017, arXiv 1706.03825).

    Attributes:
        samples: noisy copies.
        noise: standard deviation of the Gaussian noise as a share of the image's value range, its
            maximum minus its minimum (the paper's noise level; 0.1 to 0.2 there).
        signed: average the gradients with their signs, as the paper's formula does with the bare
            gradient, and take the maximum over channels of the average's magnitude; needs a file
            with ``gradient``. Without, the class saliency, which is such a maximum already, is
            averaged.
        seed: of the noise. Every image and view gets the same, whatever it is batched with.
    """

    samples: int = 50
    noise: float = 0.15
    signed: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        _at_least("samples", self.samples, 1)
        _at_least("seed", self.seed, 0)
        if not 0 <= self.noise < math.inf:
            raise OptionError(
                f"noise={self.noise} is not a share of the value range.",
                "give 0 or more; 0.1 to 0.2 is usual.",
            )


@dataclasses.dataclass(frozen=True)
class IntegratedGradients:
    """Gradients along the straight path from a baseline (Sundararajan et al. 2017, 1703.01365).

    The attributions of a class add up to what its score gains from the baseline to the image
    (completeness, section 3), as far as the steps resolve the path; `completeness` measures it.

    Attributes:
        steps: points on the path, those of Gauss-Legendre quadrature.
        baseline: ``black``, pixels 0; ``mean``, the colour that the classifier's normalisation
            subtracts, where its input is 0 (black, for a classifier without one); or ``blur``, the
            image itself under a Gaussian of a tenth of its shorter side. What equals the baseline
            has no attribution: nothing black has, with ``black``.
    """

    steps: int = 50
    baseline: Baseline = "black"

    def __post_init__(self) -> None:
        _at_least("steps", self.steps, 1)
        if self.baseline not in get_args(Baseline):
            raise OptionError(
                f"there is no baseline {self.baseline!r}.",
                f"choose one of: {', '.join(get_args(Baseline))}.",
            )


Many = SmoothGrad | IntegratedGradients
"""The methods that take many points, with their options."""


def maps(
    runner: Runner, views: npt.NDArray[np.uint8], index: Index, method: Many, batch: int
) -> Floats:
    """Maps of some views: `smoothgrad`, or `integrated_gradients`.

    Returns:
        float32 [V,K,H,W].
    """
    if isinstance(method, SmoothGrad):
        return smoothgrad(runner, views, index, method, batch)
    return integrated_gradients(runner, views, index, method, batch).astype(np.float32)


def smoothgrad(
    runner: Runner, views: npt.NDArray[np.uint8], index: Index, method: SmoothGrad, batch: int
) -> Floats:
    """SmoothGrad maps of some views.

    Args:
        runner: an open file with ``saliency`` or ``gradient``.
        views: uint8 [V,H,W,C].
        index: int64 [V,K], classes >= 0; a rank would change its meaning from copy to copy.
        method: how many copies, and how noisy.
        batch: copies per run.

    Returns:
        float32 [V,K,H,W], score per unit of the graph's ``image`` values.
    """
    x = graph_values(runner, views)
    axes = tuple(range(1, x.ndim))
    spread = x.max(axes, keepdims=True).astype(np.float32) - x.min(axes, keepdims=True)
    deviation = np.float32(method.noise) * spread

    def copies() -> Iterator[tuple[float, npt.NDArray[Any]]]:
        for number in range(method.samples):
            random = np.random.default_rng([method.seed, number])
            noise = random.standard_normal(x.shape[1:], np.float32)
            yield 1 / method.samples, _shown(x + deviation * noise, x.dtype)

    def measure(outputs: Outputs, _: list[int]) -> Floats:
        return outputs["gradient"] if method.signed else outputs.saliency

    channels = (runner.contract.image.channels,) if method.signed else ()
    mean = _weighted(runner, index, batch, copies(), measure, channels)
    return (np.abs(mean).max(2) if method.signed else mean).astype(np.float32)


def integrated_gradients(
    runner: Runner,
    views: npt.NDArray[np.uint8],
    index: Index,
    method: IntegratedGradients,
    batch: int,
) -> Sums:
    """Integrated Gradients of some views, with their signs.

    Args:
        runner: an open file with ``gradient``.
        views: uint8 [V,H,W,C].
        index: int64 [V,K], classes >= 0.
        method: how many steps, and from where.
        batch: points per run.

    Returns:
        float64 [V,K,H,W], in units of the score: the sum over channels of
        ``(x - baseline) * mean gradient`` on the path, so that a pixel's value is what it adds.

    Raises:
        OptionError: the file's rule of ReLU is not the gradient's, so that nothing adds up.
    """
    if (rule := runner.contract.relu) != "gradient":
        raise OptionError(
            f"{runner.path} returns {rule} maps, and Integrated Gradients are made of gradients.",
            "export the classifier without --relu.",
        )
    x = graph_values(runner, views).astype(np.float32)
    start = baseline_values(runner, views, method.baseline).astype(np.float32)
    way = x - start
    planes = _planes(runner, way)[:, None]
    nodes, weights = np.polynomial.legendre.leggauss(method.steps)  # on -1..1

    def path() -> Iterator[tuple[float, npt.NDArray[Any]]]:
        for node, weight in zip(nodes, weights, strict=True):
            point = start + np.float32((node + 1) / 2) * way
            yield weight / 2, _shown(point, np.dtype(runner.contract.image.dtype))

    return _weighted(
        runner, index, batch, path(),
        lambda outputs, rows: np.asarray((outputs["gradient"] * planes[rows]).sum(2)),
    )  # fmt: skip


def completeness(
    runner: Runner,
    views: npt.NDArray[np.uint8],
    index: Index,
    method: IntegratedGradients,
    batch: int,
) -> tuple[Sums, Sums]:
    """What the Integrated Gradients of some views add up to, and what they should.

    Arguments as in `integrated_gradients`.

    Returns:
        float64 [V,K] each: the sum over pixels, and score(image) - score(baseline).
    """
    found = integrated_gradients(runner, views, index, method, batch).sum((2, 3))

    def score(values: npt.NDArray[Any]) -> Sums:
        parts = (slice(at, at + batch) for at in range(0, len(values), batch))
        scores = [runner.run(values[part], index[part]).score for part in parts]
        return np.concatenate(scores).astype(np.float64)

    gain = score(graph_values(runner, views))
    return found, gain - score(baseline_values(runner, views, method.baseline))


def gradient_times_input(runner: Runner, outputs: Outputs, values: npt.NDArray[Any]) -> Floats:
    """Gradient times input of a run, with its signs (Shrikumar et al. 2016, arXiv 1605.01713).

    Args:
        runner: an open file with ``gradient``.
        outputs: of the run.
        values: what was run, in the graph's own values (`graph_values`).

    Returns:
        float32 [N,K,H,W], in units of the score: the sum over channels of ``gradient * value``.
    """
    planes = _planes(runner, values.astype(np.float32))[:, None]
    return np.asarray((outputs["gradient"] * planes).sum(2))


def graph_values(runner: Runner, views: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    """Views uint8 [V,H,W,C] as the graph takes them: themselves, or float32 [V,C,H,W]."""
    if runner.contract.image.dtype == "uint8":
        return views
    return normalise(views, runner.contract)


def baseline_values(
    runner: Runner, views: npt.NDArray[np.uint8], baseline: Baseline
) -> npt.NDArray[Any]:
    """The baseline of each view uint8 [V,H,W,C], as the graph takes it."""
    if baseline == "black":
        return graph_values(runner, np.zeros_like(views))
    if baseline == "blur":
        return graph_values(runner, np.stack([_blurred(view) for view in views]))
    if runner.contract.image.dtype == "float32":
        return np.zeros_like(graph_values(runner, views))
    mean = np.broadcast_to(runner.contract.mean_pixel(), views.shape)
    return _shown(mean, np.dtype(np.uint8))


def _weighted(
    runner: Runner,
    index: Index,
    batch: int,
    steps: Iterable[tuple[float, npt.NDArray[Any]]],
    measure: Callable[[Outputs, list[int]], Floats],
    channels: tuple[int, ...] = (),
) -> Sums:
    """The weighted sum over steps of what is measured at each, for V views.

    Args:
        runner: an open file.
        index: int64 [V,K].
        batch: images per run, of as many steps and views as it takes.
        steps: weight and V images each; made one step at a time.
        measure: of a run, and the views that its rows belong to: [n,K,*channels,H,W].
        channels: [C] where what is measured has them.

    Returns:
        float64 [V,K,*channels,H,W].
    """
    spec = runner.contract.image
    total = np.zeros((*index.shape, *channels, spec.height, spec.width))
    rows = ((weight, *row) for weight, images in steps for row in enumerate(images))
    while part := list(itertools.islice(rows, batch)):
        weights, numbers, images = map(list, zip(*part, strict=True))
        values = measure(runner.run(np.stack(images), index[numbers]), numbers)
        for weight, number, value in zip(weights, numbers, values, strict=True):
            total[number] += weight * value
    return total


def _shown(values: npt.NDArray[np.floating], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Values as a graph takes them; those of pixels are rounded, and end at 0 and 255."""
    if dtype == np.uint8:
        values = np.clip(np.rint(values), 0, 255)
    return values.astype(dtype)


def _planes(runner: Runner, values: Floats) -> Floats:
    """Values in the graph's layout as [V,C,H,W], that of its gradient."""
    return values.transpose(0, 3, 1, 2) if runner.contract.image.layout == "NHWC" else values


def _blurred(view: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    import cv2  # 0.2 s that the other baselines do without

    blurred = cv2.GaussianBlur(view, (0, 0), _BLUR * min(view.shape[:2]))
    return np.asarray(blurred, np.uint8).reshape(view.shape)


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise OptionError(f"{name}={value} is too small.", f"give {least} or more.")
