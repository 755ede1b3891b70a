"""How a map becomes a box: the recipes, by name."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

from ..arrays import Floats
from ..contract import Contract
from ..errors import OptionError
from ..maps.kinds import AnyKind, file_outputs, get_kind, offers
from ..maps.object import POWER, SMOOTHING

if TYPE_CHECKING:
    from .grabcut import Middle


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a map becomes a box.

    Examples:
        >>> import backlit, dataclasses
        >>> recipe = backlit.RECIPES["default"]
        >>> coarser = dataclasses.replace(recipe, name="coarser", smoothing=0.06)
        >>> session = backlit.Session("tiny.backlit.onnx")
        >>> (found,) = session.localize("mug.jpg", recipe=coarser)
        >>> found.recipe
        'coarser'

    Attributes:
        name: key in `RECIPES`.
        map: the kind of map that it starts from: a name, or a kind with its options.
        otherwise: name of the recipe that takes its place where a file has no such map.
        crops: how many views the map is averaged over: 1 the image, 2 the image and its
            mirror image, 10 the paper's crops.
        power: exponent on the map before the blur; below 1 tames single spikes.
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
    map: AnyKind = "object"
    otherwise: str | None = None
    crops: int = 1
    power: float = POWER
    smoothing: float = SMOOTHING
    seeds: Literal["quantile", "otsu"] = "otsu"
    foreground: float = 0.3
    background: float = 0.6
    middle: Middle = "background"
    iterations: int = 0
    engine: Literal["grabcut", "threshold"] = "grabcut"
    side: int | None = 64

    def evidence(self, values: Floats) -> Floats:
        """What the seeds are taken from: `evidence` of a map, float32 [h,w] in 0..1."""
        from ..maps.evidence import evidence  # OpenCV, 0.2 s; a recipe is also a name in a list

        return evidence(values, self.power, self.smoothing)

    def starting_from(self, map: AnyKind | None) -> Recipe:  # noqa: A002  the option's name
        """The same recipe with another kind of map to start from; None leaves it as it is.

        No other recipe takes its place where a file lacks the map.

        Raises:
            OptionError: no kind of map has that name.
        """
        if map is None:
            return self
        return dataclasses.replace(self, map=get_kind(map), otherwise=None)

    def settings(self) -> dict[str, Any]:
        """Its fields as JSON values, for what is written about a run."""
        return {**dataclasses.asdict(self), "map": get_kind(self.map).settings()}


_PIXELS = Recipe(
    name="pixels",
    map="saliency",
    crops=2,
    power=0.4,
    smoothing=0.05,
    foreground=0.5,
    background=0.8,
    iterations=1,
)


_BARE = Recipe(
    name="",
    map="saliency",
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
        # objects off the centre, where a nearly full box is no good (docs/measured/boxes.md).
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
"""Every recipe by name.

Examples:
    >>> import backlit
    >>> list(backlit.RECIPES)
    ['default', 'pixels', 'paper', 'textbook', 'threshold', 'pixels-threshold']
"""


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
    if chosen.otherwise is not None and not offers(chosen.map, contract):
        return fitted(chosen.otherwise, contract)
    file_outputs(chosen.map, contract)  # or its error
    return chosen


def needed(recipe: str | Recipe, contract: Contract) -> list[str]:
    """The outputs of a file that its boxes are made of.

    Raises:
        OptionError: no recipe has that name, or nothing takes its place.
    """
    return list(file_outputs(fitted(recipe, contract).map, contract))
