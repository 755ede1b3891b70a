"""The pointing game of some maps: is the highest pixel on an object of the class?

Zhang, Lin, Brandt, Shen and Sclaroff 2016, "Top-down Neural Attention by Excitation Backprop"
(arXiv 1608.00507, section 4.1), for every pair of an image and a class whose boxes are known.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from ...runtime.arrays import Floats
from ...runtime.evaluation import metrics
from .sample import Sample

SIDE = 500
"""Longer side, in pixels, of the photos that the tolerance is meant for (VOC, ILSVRC)."""

CENTRE = "centre"


@dataclasses.dataclass(frozen=True)
class Pointing:
    """Rounds of the game.

    Attributes:
        classes: [n], the class of each round.
        hits: by map, and for the image's `CENTRE`, bool [n].
    """

    classes: tuple[int, ...]
    hits: Mapping[str, tuple[bool, ...]]

    def accuracy(self, name: str) -> float:
        """Mean over classes of the share of hits, as in the paper."""
        return metrics.pointing_game(self.hits[name], self.classes)

    def interval(self, name: str, seed: int = 0) -> tuple[float, float]:
        """95 % bootstrap interval of the accuracy."""
        return metrics.bootstrap(metrics.pointing_game, self.hits[name], self.classes, seed=seed)


def play(
    samples: Sequence[Sample], maps: Sequence[Mapping[str, Mapping[int, Floats]]]
) -> Pointing | None:
    """Play it.

    Args:
        samples: images; those without boxes have no round.
        maps: for each image by name, by true class: float32 [H,W] of the view's pixels.

    Returns:
        The rounds; None if no image has boxes.
    """
    classes: list[int] = []
    hits: dict[str, list[bool]] = {CENTRE: []}
    for sample, by_name in zip(samples, maps, strict=True):
        width, height = sample.size
        for index, boxes in sample.boxes.items():
            classes.append(index)
            reach = tolerance(sample.size)
            centre = width / 2, height / 2
            hits[CENTRE].append(metrics.pointing_hit(centre, boxes, reach))
            for name, by_class in by_name.items():
                point = highest(sample, by_class[index])
                hits.setdefault(name, []).append(metrics.pointing_hit(point, boxes, reach))
    if not classes:
        return None
    return Pointing(tuple(classes), {name: tuple(found) for name, found in hits.items()})


def highest(sample: Sample, saliency: Floats) -> tuple[float, float] | None:
    """A map's highest pixel (x, y) in the pixels that the boxes are given in; None for a flat map.

    Args:
        sample: the image.
        saliency: float32 [H,W] of the view's pixels.
    """
    found = metrics.peak(saliency)
    if found is None:
        return None
    prepared, (width, height) = sample.prepared, sample.size
    x = (found[0] + prepared.left) / prepared.scale_x * width / prepared.width
    y = (found[1] + prepared.top) / prepared.scale_y * height / prepared.height
    return x, y


def tolerance(size: tuple[int, int]) -> float:
    """Pixels from a box within which a point still hits: the paper's 15, in small images fewer.

    Where a data set was reduced, 15 pixels would be a larger part of the image than was meant.
    """
    return metrics.POINTING_TOLERANCE * min(1.0, max(size) / SIDE)
