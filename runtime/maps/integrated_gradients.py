"""Integrated Gradients (Sundararajan et al. 2017, arXiv 1703.01365)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from ..arrays import Doubles, Floats, Index, Pixels
from ..errors import OptionError
from .kind import ManyRuns, option, signed_gradient
from .points import graph_values, planes, shown, weighted_sum

if TYPE_CHECKING:
    from ..backend.runner import Runner

Baseline = Literal["black", "mean", "blur"]

# Standard deviation of the blurred baseline, of the shorter side: details go, colours stay.
_BLUR = 0.1


@dataclasses.dataclass(frozen=True)
class IntegratedGradients(ManyRuns):
    """Gradients along the straight path from a baseline to the image, in units of the score.

    The attributions of a class add up to what its score gains from the baseline to the image
    (completeness, section 3), as far as the steps resolve the path; `completeness` measures it.
    The map ``ig``. Sundararajan et al. 2017, arXiv 1703.01365.

    Examples:
        >>> import backlit
        >>> asked = {"maps": "gradient", "verify": False}
        >>> report = backlit.export("tiny_convnet.onnx", "signed.onnx", **asked)
        >>> session = backlit.Session("signed.onnx")
        >>> (seen,) = session.saliency("mug.jpg", map=backlit.IntegratedGradients(steps=16))
        >>> seen.maps.shape, bool((seen.maps < 0).any())  # it has signs
        ((1, 96, 96), True)

    Attributes:
        steps: points on the path, those of Gauss-Legendre quadrature.
        baseline: ``black``, pixels 0; ``mean``, the colour that the classifier's normalisation
            subtracts, where its input is 0 (black, for a classifier without one); or ``blur``, the
            image itself under a Gaussian of a tenth of its shorter side. What equals the baseline
            has no attribution: nothing black has, with ``black``.

    Raises:
        OptionError: an option is out of range.
    """

    name = "ig"
    help = "what each pixel adds to the score on a path to the image (Integrated Gradients)"
    has_signs = True

    steps: int = option(50, "points on the path.", least=1)
    baseline: Baseline = option(  # noqa: RUF009  a field of the dataclass
        "black",
        "the path's begin: black, the classifier's mean colour, or the image blurred.",
        choices=get_args(Baseline),
    )

    def made_of(self, outputs: Sequence[str]) -> tuple[str, ...]:
        """``gradient``."""
        return signed_gradient("Integrated Gradients", outputs)

    def of_views(self, runner: Runner, views: Pixels, index: Index, batch: int) -> Floats:
        """`integrated_gradients` in float32."""
        return integrated_gradients(runner, views, index, self, batch).astype(np.float32)


def integrated_gradients(
    runner: Runner, views: Pixels, index: Index, method: IntegratedGradients, batch: int
) -> Doubles:
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
    pixels = planes(runner, way)[:, None]
    nodes, weights = np.polynomial.legendre.leggauss(method.steps)  # on -1..1

    def path() -> Iterator[tuple[float, Floats | Pixels]]:
        for node, weight in zip(nodes, weights, strict=True):
            point = start + np.float32((node + 1) / 2) * way
            yield weight / 2, shown(point, runner.contract.image.dtype)

    return weighted_sum(
        runner, index, batch, path(),
        lambda outputs, rows: np.asarray((outputs["gradient"] * pixels[rows]).sum(2)),
    )  # fmt: skip


def completeness(
    runner: Runner, views: Pixels, index: Index, method: IntegratedGradients, batch: int
) -> tuple[Doubles, Doubles]:
    """What the Integrated Gradients of some views add up to, and what they should.

    Arguments as in `integrated_gradients`.

    Returns:
        float64 [V,K] each: the sum over pixels, and score(image) - score(baseline).
    """
    found = integrated_gradients(runner, views, index, method, batch).sum((2, 3))

    def score(values: npt.NDArray[Any]) -> Doubles:
        parts = (slice(at, at + batch) for at in range(0, len(values), batch))
        scores = [runner.run(values[part], index[part]).score for part in parts]
        return np.concatenate(scores).astype(np.float64)

    gain = score(graph_values(runner, views))
    return found, gain - score(baseline_values(runner, views, method.baseline))


def baseline_values(runner: Runner, views: Pixels, baseline: Baseline) -> Floats | Pixels:
    """The baseline of each view uint8 [V,H,W,C], as the graph takes it."""
    if baseline == "black":
        return graph_values(runner, np.zeros_like(views))
    if baseline == "blur":
        return graph_values(runner, np.stack([_blurred(view) for view in views]))
    if runner.contract.image.dtype == "float32":
        return np.zeros_like(graph_values(runner, views))
    mean = np.broadcast_to(runner.contract.mean_pixel(), views.shape)
    return shown(mean, np.uint8)


def _blurred(view: Pixels) -> Pixels:
    import cv2  # 0.2 s that the other baselines do without

    blurred = cv2.GaussianBlur(view, (0, 0), _BLUR * min(view.shape[:2]))
    return np.asarray(blurred, np.uint8).reshape(view.shape)
