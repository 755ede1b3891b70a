"""The kinds of maps."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from ..contract import Contract
from ..errors import OptionError, no_map
from .attribution import IntegratedGradients, Many, SmoothGrad

Kind = (
    Literal["gradient", "features", "gradcam", "layercam", "smoothgrad", "ig", "gradxinput"] | Many
)
"""How a map is made. ``gradient`` is the paper's saliency, max over channels of its abs;
``features``, ``gradcam`` and ``layercam`` are maps of the file as they are; ``smoothgrad`` and
``ig`` are `SmoothGrad` and `IntegratedGradients` with their defaults; ``gradxinput`` is gradient
times input. ``ig`` and ``gradxinput`` are in units of the score and have signs: a pixel's value,
the sum over its channels, is what it adds to the score. Boxes go by the magnitude."""


def method(kind: Kind) -> Kind:
    """A kind, with the options of the methods that have some."""
    if kind == "smoothgrad":
        return SmoothGrad()
    return IntegratedGradients() if kind == "ig" else kind


def signed(kind: Kind) -> bool:
    """Whether the maps of a kind have signs: below 0 is what takes from the score."""
    how = method(kind)
    return how == "gradxinput" or isinstance(how, IntegratedGradients)


def map_name(kind: Kind, contract: Contract) -> str:
    """The output of a file that a kind of map is made of.

    Raises:
        OptionError: the file has none.
    """
    names = [made.name for made in contract.maps]
    how = method(kind)
    if isinstance(how, SmoothGrad):
        if how.signed:
            return _signed("SmoothGrad of signed gradients", names)
        how = "gradient"
    if isinstance(how, IntegratedGradients):
        return _signed("Integrated Gradients", names)
    if how == "gradxinput":
        return _signed("gradient times input", names)
    name = how if how != "gradient" or "saliency" not in names else "saliency"
    if name not in names:
        raise no_map("saliency" if how == "gradient" else how, names)
    return name


def offers(kind: Kind, contract: Contract) -> bool:
    """Whether a file has the output that a kind of map is made of."""
    try:
        map_name(kind, contract)
    except OptionError:
        return False
    return True


def _signed(what: str, names: Collection[str]) -> str:
    if "gradient" not in names:
        raise OptionError(
            f"{what} needs the gradient with its signs, which the file does not return; "
            f"it has: {', '.join(names)}.",
            "export it with --output saliency,features,gradient.",
        )
    return "gradient"
