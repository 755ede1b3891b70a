"""Insertion and deletion curves: does the score follow the pixels that a map calls important?

Petsiuk, Das and Saenko 2018, "RISE" (arXiv 1806.07421, section 4.2). Pixels are taken in the order
of a map, the highest first. Deletion replaces them in the image by the mean pixel, and the class
should soon be gone (a low area is good); insertion puts them into a blurred image, and the class
should soon be there (a high area is good). Both judge an order of pixels, so every map, every
baseline and every map of another library can be compared.

The paper's own: 224 pixels of 224x224 a step (0.4 %), here a 20th of the image, areas by the
trapezoidal rule in both; Gaussian blur of 5 pixels at 224, here the same share of the shorter side;
0 after normalisation, which is the mean pixel.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
import numpy.typing as npt

from ...runtime.arrays import Doubles, Index, Pixels
from ...runtime.contract import Contract

if TYPE_CHECKING:
    from ...runtime.backend.runner import Runner

Kind = Literal["insertion", "deletion"]

STEPS = 20
"""Steps from none to all of the pixels."""

BLUR = 5 / 224
"""Standard deviation of the blurred image, of the shorter side."""


@dataclasses.dataclass(frozen=True, eq=False)
class Curves:
    """The probability of a class over the share of pixels that were inserted or deleted.

    Attributes:
        share: float64 [S+1], from 0 to 1.
        insertion, deletion: float64 [N,S+1] probabilities, by image.
    """

    share: Doubles
    insertion: Doubles
    deletion: Doubles

    def areas(self, kind: Kind) -> Doubles:
        """Area under each image's curve: float64 [N] in 0..1."""
        curve: Doubles = getattr(self, kind)
        areas: Doubles = (np.diff(self.share) * (curve[:, 1:] + curve[:, :-1]) / 2).sum(1)
        return areas


def curves(
    runner: Runner,
    views: Pixels,
    classes: Index,
    orders: Mapping[str, Index],
    batch: int = 16,
    done: Callable[[], None] = lambda: None,
) -> dict[str, Curves]:
    """Measure orders of pixels; only scores are run.

    Args:
        runner: an open file; one opened with ``maps=()`` computes nothing but scores.
        views: uint8 [N,H,W,C].
        classes: int64 [N], the class whose probability is followed.
        orders: by name int64 [N,H*W]: all pixels of each image, the first to be moved first.
        batch: images per run.
        done: called after each image.

    Returns:
        By name.
    """
    count, pixels = len(views), views.shape[1] * views.shape[2]
    counts = np.rint(np.linspace(0, pixels, STEPS + 1)).astype(int)
    share = counts / pixels
    found = {name: np.empty((2, count, STEPS + 1)) for name in orders}
    for n, view in enumerate(views):
        ways: dict[Kind, tuple[Pixels, Pixels]] = {
            "insertion": (blurred(view), view),
            "deletion": (view, blank(view.shape, runner.contract)),
        }
        # The first and the last picture do not depend on the order: run once for all.
        for place, (start, end) in enumerate(ways.values()):
            first, last = _probabilities(runner, np.stack([start, end]), int(classes[n]), batch)
            for name, values in found.items():
                values[place, n, 0], values[place, n, -1] = first, last
                pictures = moved(start, end, orders[name][n], counts[1:-1])
                values[place, n, 1:-1] = _probabilities(runner, pictures, int(classes[n]), batch)
        done()
    return {name: Curves(share, values[0], values[1]) for name, values in found.items()}


def order(importance: npt.NDArray[np.floating], seed: int = 0) -> Index:
    """All pixels of some maps, the highest first; equals in random order.

    Args:
        importance: [N,H,W].
        seed: of the order of equals: in reading order, a map of zeros would have an opinion.

    Returns:
        int64 [N,H*W].
    """
    rng = np.random.default_rng(seed)
    rows = np.nan_to_num(importance.reshape(len(importance), -1))
    return np.stack([np.lexsort((rng.random(row.size), -row)) for row in rows])


def moved(start: Pixels, end: Pixels, places: Index, counts: npt.NDArray[np.int_]) -> Pixels:
    """Pictures on the way from one to another: uint8 [S,H,W,C].

    Args:
        start, end: uint8 [H,W,C].
        places: int64 [H*W], the pixels in the order in which they are taken from ``end``.
        counts: [S], how many pixels each picture has of ``end``.
    """
    rank = np.empty(places.size, np.int64)
    rank[places] = np.arange(places.size)
    mask = rank.reshape(start.shape[:2]) < counts[:, None, None]
    pictures: Pixels = np.where(mask[..., None], end, start)
    return pictures


def blurred(view: Pixels) -> Pixels:
    """What insertion begins with: uint8 [H,W,C]."""
    soft = cv2.GaussianBlur(view, (0, 0), BLUR * min(view.shape[:2]))
    return np.asarray(soft, np.uint8).reshape(view.shape)


def blank(shape: tuple[int, ...], contract: Contract) -> Pixels:
    """What deletion ends with: uint8 [H,W,C] of the mean pixel; black without normalisation."""
    pixel = np.clip(np.rint(contract.mean_pixel()), 0, 255).astype(np.uint8)
    return np.broadcast_to(pixel, shape).copy()


def random_order(count: int, height: int, width: int, seed: int = 0) -> Index:
    """The baseline that knows nothing, int64 [N,H*W]: another order for each image."""
    rng = np.random.default_rng([seed, 1])
    return np.stack([rng.permutation(height * width) for _ in range(count)])


def centred_order(count: int, height: int, width: int, seed: int = 0) -> Index:
    """The baseline that knows where objects mostly are: a Gaussian in the middle, [N,H*W]."""
    y, x = (np.linspace(-1, 1, n) for n in (height, width))
    gaussian = np.exp(-0.5 * (y[:, None] ** 2 + x[None] ** 2))
    return np.repeat(order(gaussian[None], seed), count, axis=0)


def probabilities(scores: npt.NDArray[np.floating], contract: Contract) -> Doubles:
    """What a classifier's scores [N,classes] mean: softmax, or each its sigmoid."""
    values = scores.astype(np.float64)
    if contract.score.independent:
        single: Doubles = 1 / (1 + np.exp(-values))
        return single
    raised = np.exp(values - values.max(1, keepdims=True))
    shares: Doubles = raised / raised.sum(1, keepdims=True)
    return shares


def _probabilities(runner: Runner, pictures: Pixels, index: int, batch: int) -> Doubles:
    """The probability of one class in some pictures: float64 [n]."""
    parts = [pictures[at : at + batch] for at in range(0, len(pictures), batch)]
    scores = [runner.run(part, np.full((len(part), 1), index)).scores for part in parts]
    found: Doubles = probabilities(np.concatenate(scores), runner.contract)[:, index]
    return found
