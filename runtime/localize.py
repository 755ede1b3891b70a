"""Object boxes from saliency maps (paper, section 3.2).

A map becomes evidence (compressed, blurred), evidence becomes seeds, seeds and the image's colours
become a mask by graph cut, and the mask's largest connected component gives the box. How exactly
is a `Recipe`; `RECIPES` holds what measures best on real photos under ``default``, the paper's own
under ``paper``, and two to compare with.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from . import grabcut
from .contract import Contract
from .errors import OptionError
from .explain import Kind, map_name, offers
from .grabcut import Mask

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels; x1 and y1 exclusive."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a saliency map becomes a box.

    Attributes:
        name: key in `RECIPES`.
        saliency: which of a file's maps it starts from.
        otherwise: name of the recipe that takes its place where a file has no such map.
        crops: how many views the saliency is averaged over: 1 the image, 2 the image and its
            mirror image, 10 the paper's crops.
        power: exponent on the saliency before the blur; below 1 tames single spikes.
        smoothing: standard deviation of the blur as a share of the image side.
        seeds: ``quantile``, by rank, or ``otsu``, by level around Otsu's threshold.
        foreground: where certain foreground begins: a quantile, or for ``otsu`` the share of the
            way from the threshold up to the maximum.
        background: where certain background ends: a quantile, or for ``otsu`` the share of the
            threshold.
        middle: what the pixels between start as; ``otsu`` starts each on its side.
        iterations: rounds of GrabCut; 0 fits the colour models to the seeds alone and cuts once.
        engine: ``grabcut``, or ``threshold``: no cut, the foreground is what lies above Otsu's
            threshold.
        side: longer side, in pixels, of the image that is cut; None is the frame itself.
    """

    name: str
    saliency: Kind = "features"
    otherwise: str | None = None
    crops: int = 1
    power: float = 0.7
    smoothing: float = 0.03
    seeds: Literal["quantile", "otsu"] = "otsu"
    foreground: float = 0.3
    background: float = 0.6
    middle: grabcut.Middle = "background"
    iterations: int = 0
    engine: Literal["grabcut", "threshold"] = "grabcut"
    side: int | None = 64

    def evidence(self, saliency: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """What the seeds are taken from: `grabcut.evidence` of a map, float32 [h,w] in 0..1."""
        return grabcut.evidence(saliency, self.power, self.smoothing)


_PIXELS = Recipe(
    name="pixels",
    saliency="gradient",
    crops=2,
    power=0.4,
    smoothing=0.05,
    foreground=0.5,
    background=0.8,
    iterations=1,
)
_BARE = Recipe(
    name="",
    saliency="gradient",
    power=1.0,
    smoothing=0.0,
    seeds="quantile",
    foreground=0.95,
    background=0.30,
    side=None,
)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        # The class's own defaults: round numbers from a flat optimum on photos, checked on small
        # objects off the centre, where a nearly full box is no good (models/BOXES.md).
        Recipe(name="default", otherwise="pixels"),
        # The best of the image's own gradient.
        _PIXELS,
        # Section 3.2 as written, on the 10-crop average of section 3.
        dataclasses.replace(_BARE, name="paper", crops=10, iterations=0),
        # What a tutorial does: one raw gradient, cv2.grabCut from a mask, its usual 5 iterations.
        dataclasses.replace(_BARE, name="textbook", iterations=5),
        Recipe(name="threshold", otherwise="pixels-threshold", engine="threshold"),
        dataclasses.replace(_PIXELS, name="pixels-threshold", engine="threshold"),
    )
}
"""Every recipe by name."""


@dataclasses.dataclass(frozen=True, eq=False)
class Localization:
    """The objects found in one image, one per explained class.

    Attributes:
        image: the image's path, None if it was given as pixels.
        width: of the original image in pixels.
        height: of the original image in pixels.
        classes: int64 [K], class indices.
        labels: K class names; None where the file names none.
        scores: float32 [K], unnormalised class scores.
        boxes: K boxes in pixels of the original image; None where nothing was found.
        masks: bool [K,height,width].
        saliency: float32 [K,fh,fw], the maps the boxes came from, in pixels of the frame.
        recipe: name of the recipe.
    """

    image: str | None
    width: int
    height: int
    classes: npt.NDArray[np.int64]
    labels: tuple[str | None, ...]
    scores: npt.NDArray[np.float32]
    boxes: tuple[Box | None, ...]
    masks: Mask
    saliency: npt.NDArray[np.float32]
    recipe: str


def get_recipe(recipe: str | Recipe) -> Recipe:
    """The recipe of that name; a `Recipe` is returned as it is.

    Raises:
        OptionError: no recipe has that name.
    """
    if isinstance(recipe, Recipe):
        return recipe
    if recipe not in RECIPES:
        raise OptionError(
            f"there is no recipe {recipe!r}.", f"choose one of: {', '.join(RECIPES)}."
        )
    return RECIPES[recipe]


def fitted(recipe: str | Recipe, contract: Contract) -> Recipe:
    """The recipe, or the one that takes its place for a file without the map it starts from.

    Raises:
        OptionError: no recipe has that name, or nothing takes its place.
    """
    chosen = get_recipe(recipe)
    if chosen.otherwise is not None and not offers(chosen.saliency, contract):
        return fitted(chosen.otherwise, contract)
    map_name(chosen.saliency, contract)  # or its error
    return chosen


def localize_maps(
    frame: npt.NDArray[np.uint8], maps: npt.NDArray[np.float32], recipe: Recipe
) -> list[tuple[Box | None, Mask]]:
    """Find one object per saliency map of an image.

    Args:
        frame: uint8 [fh,fw,3] RGB, or [fh,fw,1] or [fh,fw] grey: the pixels the classifier saw.
        maps: float32 [K,fh,fw]. NaN and infinity count as no evidence.
        recipe: how.

    Returns:
        K pairs of the box in pixels of the frame and the mask bool [fh,fw], one connected
        component. A map without contrast (constant, all zero) has no box and an empty mask.

    Raises:
        OptionError: frame and maps differ in size.
    """
    if maps.ndim != 3 or frame.ndim not in (2, 3) or maps.shape[1:] != frame.shape[:2]:
        raise OptionError(
            f"maps of shape {list(maps.shape)} do not lie over a frame of {list(frame.shape)}.",
            "give maps [K,fh,fw] and the frame [fh,fw,3] they were computed on.",
        )
    masks = [largest_component(_segment(frame, saliency, recipe)) for saliency in maps]
    return [(mask_box(mask), mask) for mask in masks]


def largest_component(mask: Mask) -> Mask:
    """The largest 8-connected component of a mask, bool [h,w]; the first of equals."""
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=8
    )
    if count < 2:
        return np.zeros(mask.shape, np.bool_)
    largest: Mask = labels == 1 + int(statistics[1:, cv2.CC_STAT_AREA].argmax())
    return largest


def mask_box(mask: Mask) -> Box | None:
    """The tightest box around the true pixels of a mask [h,w]; None if there are none."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def iou(a: Box | None, b: Box | None) -> float:
    """Intersection over union of two boxes, 0..1; 0 if either is None or has no area."""
    if a is None or b is None:
        return 0.0
    overlap = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap
    return overlap / both if overlap > 0 else 0.0


def centred_box(width: int, height: int, fraction: float = 0.8) -> Box:
    """The box that needs no classifier, to measure others by: ``fraction`` of each side, centred.

    Raises:
        OptionError: fraction is not in (0, 1].
    """
    if not 0 < fraction <= 1:
        raise OptionError(f"fraction={fraction} is not a share of the side.", "use 0 < f <= 1.")
    wide, high = max(1, round(width * fraction)), max(1, round(height * fraction))
    x0, y0 = (width - wide) // 2, (height - high) // 2
    return x0, y0, x0 + wide, y0 + high


def _segment(
    frame: npt.NDArray[np.uint8], saliency: npt.NDArray[np.float32], recipe: Recipe
) -> Mask:
    """The mask before its largest component is taken, bool [fh,fw]."""
    values = recipe.evidence(saliency)
    if not values.any():
        return np.zeros(values.shape, np.bool_)
    if recipe.engine == "threshold":
        above: Mask = values > grabcut.otsu_threshold(values)
        return above
    small, coarse = grabcut.shrink(frame, values, recipe.side)
    if recipe.seeds == "otsu":
        trimap = grabcut.otsu_seeds(coarse, recipe.foreground, recipe.background)
    else:
        trimap = grabcut.quantile_seeds(coarse, recipe.foreground, recipe.background, recipe.middle)
    return grabcut.enlarge(grabcut.cut(small, trimap, recipe.iterations), *values.shape)
