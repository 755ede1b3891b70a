"""The table of the kinds of maps. A new kind is a file beside this one and a row here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import OptionError
from .features import Features
from .gains import Gains
from .gradcam import GradCAM
from .gradient import Gradient
from .gradient_times_input import GradientTimesInput
from .integrated_gradients import IntegratedGradients
from .kind import Kind
from .layercam import LayerCAM
from .object import ObjectMap
from .saliency import PixelSaliency
from .smoothgrad import SmoothGrad

if TYPE_CHECKING:
    from ..contract import Contract

KINDS: dict[str, type[Kind]] = {
    "saliency": PixelSaliency,
    "gradient": Gradient,
    "features": Features,
    "gains": Gains,
    "gradcam": GradCAM,
    "layercam": LayerCAM,
    "object": ObjectMap,
    "smoothgrad": SmoothGrad,
    "ig": IntegratedGradients,
    "gradxinput": GradientTimesInput,
}
"""Every kind of map by name, as ``--map`` and ``map=`` take it.

The commands' options, their help, the panels of pictures and the error messages are made from this
table.

Examples:
    >>> import backlit
    >>> list(backlit.KINDS)[:7]
    ['saliency', 'gradient', 'features', 'gains', 'gradcam', 'layercam', 'object']
    >>> list(backlit.KINDS)[7:]
    ['smoothgrad', 'ig', 'gradxinput']
    >>> backlit.KINDS["smoothgrad"](samples=8)
    SmoothGrad(samples=8, noise=0.15, signed=False, seed=0)
"""

AnyKind = str | Kind
"""A kind of map: its name, or itself with its options (``SmoothGrad(samples=25)``)."""


def get_kind(kind: AnyKind) -> Kind:
    """The kind of that name with its defaults; a `Kind` is returned as it is.

    Raises:
        OptionError: no kind has that name.
    """
    if isinstance(kind, Kind):
        return kind
    if kind not in KINDS:
        raise OptionError(f"there is no map {kind!r}.", f"choose one of: {', '.join(KINDS)}.")
    return KINDS[kind]()


def file_outputs(kind: AnyKind, contract: Contract) -> Sequence[str]:
    """The outputs of a file that a kind of map is made of.

    Raises:
        OptionError: no kind has that name, or the file lacks what it is made of.
    """
    return get_kind(kind).made_of(_outputs(contract))


def offers(kind: AnyKind, contract: Contract) -> bool:
    """Whether a file has the outputs that a kind of map is made of.

    Raises:
        OptionError: no kind has that name.
    """
    chosen = get_kind(kind)
    try:
        chosen.made_of(_outputs(contract))
    except OptionError:
        return False
    return True


def _outputs(contract: Contract) -> Sequence[str]:
    return [made.name for made in contract.maps]
