"""What a kind of map is: the classes that the kinds derive from, and how their options are said.

A kind is a frozen dataclass in a file of its own, with one row in `kinds.KINDS`. Its fields, made
with `option`, are its options: the same in Python (``SmoothGrad(samples=25)``) and on the command
line (``--map smoothgrad --samples 25``).
"""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from ..arrays import Floats, Index, Pixels
from ..errors import OptionError, no_map

if TYPE_CHECKING:
    from ..backend.outputs import Outputs
    from ..backend.runner import Runner


@dataclasses.dataclass(frozen=True)
class Kind(abc.ABC):
    """A kind of map. A kind derives from `OneRun`, `FileMap` or `ManyRuns`.

    Attributes:
        name: of the kind, as ``--map`` and ``map=`` take it.
        help: what it shows, in half a line of the help.
        has_signs: values have signs: what is below 0 takes from the score. Boxes and scales of
            pictures go by the magnitude.

    Raises:
        OptionError: an option is out of range.
    """

    name: ClassVar[str]
    help: ClassVar[str]
    has_signs: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check(field, getattr(self, field.name))

    @property
    def colormap(self) -> str:
        """The colours that its maps are drawn in, of `drawing.colormaps.NAMES`."""
        return "blue-orange" if self.has_signs else "inferno"

    @abc.abstractmethod
    def made_of(self, outputs: Sequence[str]) -> tuple[str, ...]:
        """The outputs of a file that the map is made of.

        Args:
            outputs: names of the maps that the file returns.

        Raises:
            OptionError: the file does not return what it takes.
        """

    def settings(self) -> dict[str, Any]:
        """Its name and options as JSON values, for what is written about a run."""
        return {"name": self.name, **dataclasses.asdict(self)}


class OneRun(Kind):
    """A kind that is computed from one run of the file on the image."""

    @abc.abstractmethod
    def of_run(self, runner: Runner, outputs: Outputs, values: Floats | Pixels) -> Floats:
        """The maps of N images and K classes each.

        Args:
            runner: the open file.
            outputs: of the run.
            values: what was run, as the graph takes it (`points.graph_values`).

        Returns:
            float32 [N,K,h,w]; a coarse map is enlarged to the image's pixels later.
        """


class FileMap(OneRun):
    """A kind that is an output of the file, of the same name, as it is."""

    def made_of(self, outputs: Sequence[str]) -> tuple[str, ...]:
        """Its own name."""
        if self.name not in outputs:
            raise no_map(self.name, outputs)
        return (self.name,)

    def of_run(self, runner: Runner, outputs: Outputs, values: Floats | Pixels) -> Floats:
        """The output."""
        return outputs[self.name]


class ManyRuns(Kind):
    """A kind that takes many runs of the file for one image, at points around or before it."""

    @abc.abstractmethod
    def of_views(self, runner: Runner, views: Pixels, index: Index, batch: int) -> Floats:
        """The maps of V views.

        Args:
            runner: the open file.
            views: uint8 [V,H,W,C].
            index: int64 [V,K], classes >= 0; a rank would change its meaning from point to point.
            batch: points per run; points of several views fill one.

        Returns:
            float32 [V,K,H,W].
        """


def option(
    default: bool | int | float | str,
    help: str,  # noqa: A002  the word of click
    *,
    least: float | None = None,
    choices: Sequence[str] = (),
) -> Any:
    """A field of a kind that is an option of the commands, too: ``noise`` is ``--noise``.

    Args:
        default: its type is the option's: bool, int, float or str.
        help: for the command line.
        least: the least value of a number.
        choices: the values of a str.
    """
    return dataclasses.field(
        default=default, metadata={"help": help, "least": least, "choices": tuple(choices)}
    )


def signed_gradient(what: str, outputs: Sequence[str]) -> tuple[str, ...]:
    """``gradient``, or the error of a kind that is made of gradients with their signs.

    Raises:
        OptionError: the file returns none.
    """
    if "gradient" not in outputs:
        raise OptionError(
            f"{what} needs the gradient with its signs, which the file does not return; "
            f"it has: {', '.join(outputs)}.",
            "export it with --maps saliency,features,gradient.",
        )
    return ("gradient",)


def _check(field: dataclasses.Field[Any], value: Any) -> None:
    choices, least = field.metadata["choices"], field.metadata["least"]
    if choices and value not in choices:
        raise OptionError(
            f"there is no {field.name} {value!r}.", f"choose one of: {', '.join(choices)}."
        )
    if least is not None and not least <= value < math.inf:
        raise OptionError(f"{field.name}={value} is out of range.", f"give {least:g} or more.")
