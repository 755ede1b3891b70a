"""The options of pictures."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from ..drawing import colormaps
from ..errors import OptionError
from ..maps.kind import Kind
from ..maps.kinds import KINDS

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclasses.dataclass(frozen=True)
class Asked:
    """What the options say about pictures.

    Attributes:
        pictures: draw them; None: if there is a folder.
        panels: what they show; None: what the command shows.
        colormap: of all maps; None: what each kind of map wants.
        scale: ``image``, ``run``, or the end of the scale.
        suffix: of their files.
        sheet: file for a sheet of the run's pictures.
    """

    pictures: bool | None
    panels: tuple[str, ...] | None
    colormap: str | None
    scale: str | float
    suffix: str
    sheet: str | None

    def need_folder(self) -> dict[str, bool | None]:
        """The options that make no sense without one, and whether they were given."""
        return {
            "--pictures": self.pictures,
            "--panels": self.panels is not None,
            "--colormap": self.colormap is not None,
            "--scale": self.scale != "image",
            "--picture-format": self.suffix != "png",
            "--sheet": self.sheet is not None,
        }

    def beside(self) -> list[Path]:
        """Folders other than the run's that files are written into."""
        return [] if self.sheet is None else [Path(self.sheet).parent]

    def settings(self) -> dict[str, Any]:
        """How pictures look, for the settings of a run; JSON."""
        return {
            "panels": self.panels and ",".join(self.panels),
            "colormap": self.colormap,
            "scale": self.scale,
            "picture format": self.suffix,
        }

    def kinds(self, main: Kind | None) -> dict[str, Kind]:
        """The maps to make by name: the main one first, then those of other panels.

        Args:
            main: None: the first that is a panel, else ``saliency``.
        """
        named = [name for name in self.panels or () if name in KINDS]
        shown = main or KINDS[(named or ["saliency"])[0]]()
        return {shown.name: shown} | {name: KINDS[name]() for name in named if name != shown.name}


def picture_options(panels: str, names: tuple[str, ...]) -> Callable[[Function], Function]:
    """The options of pictures; the command takes ``asked``.

    Args:
        panels: the default, for the help.
        names: the panels there are.
    """
    signed = [name for name, kind in KINDS.items() if kind.has_signs]
    options = [
        click.option(
            "--pictures/--no-pictures",
            default=None,
            help="Draw NAME.backlit.png of each image, which takes several times as long as "
            "finding its boxes.  [default: draw, with -o]",
        ),
        click.option(
            "--panels",
            metavar="LIST",
            help=f"What a picture shows, side by side: {', '.join(names)}. map is the map that "
            f"the command makes, overlay that map over the image, as opaque as it is strong.  "
            f"[default: {panels}]",
        ),
        click.option(
            "--colormap",
            type=click.Choice(colormaps.NAMES),
            help="Colours of maps, perceptually even and safe for the colour-blind. blue-orange "
            "shows signs: orange adds to the score, blue takes from it, white is 0.  "
            f"[default: inferno; blue-orange for {', '.join(signed)}]",
        ),
        click.option(
            "--scale",
            metavar="image|run|NUMBER",
            default="image",
            help="What the last colour stands for: of each map its own 99 % quantile; of all maps "
            "of the run the greatest one (drawn at the end, from NAME.npy); or a number. With the "
            "last two a bar shows the scale.  [default: image]",
        ),
        click.option(
            "--picture-format",
            type=click.Choice(["png", "svg"]),
            default="png",
            show_default=True,
            help="svg has text, boxes and contours as vectors.",
        ),
        click.option(
            "--sheet",
            type=click.Path(),
            metavar="FILE",
            help="Also put the pictures of the run, the first 60, on one sheet: a file with the "
            "suffix of the picture format.",
        ),
    ]

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def command(
            *args: Any,
            pictures: bool | None,
            panels: str | None,
            colormap: str | None,
            scale: str,
            picture_format: str,
            sheet: str | None,
            **rest: Any,
        ) -> Any:
            chosen = None if panels is None else _panels(panels, names)
            if sheet is not None and pictures is False:
                raise OptionError(
                    "--sheet is a sheet of pictures, and --no-pictures draws none.",
                    "leave one of them out.",
                )
            if sheet is not None and not sheet.lower().endswith(f".{picture_format}"):
                raise OptionError(
                    f"--sheet {sheet} is no .{picture_format} file.",
                    f"name it .{picture_format}, or choose another --picture-format.",
                )
            asked = Asked(pictures, chosen, colormap, _scale(scale), picture_format, sheet)
            return function(*args, asked=asked, **rest)

        made = cast(Function, command)
        for option in reversed(options):
            made = option(made)
        return made

    return decorate


def _panels(text: str, names: tuple[str, ...]) -> tuple[str, ...]:
    chosen = tuple(part.strip() for part in text.split(","))
    for name in chosen:
        if name not in names:
            raise OptionError(
                f"--panels {text}: there is no panel {name!r}.",
                f"choose from: {', '.join(names)}.",
            )
    return chosen


def _scale(text: str) -> str | float:
    if text in ("image", "run"):
        return text
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise OptionError(
            f"--scale {text} is neither image nor run nor a number above 0.",
            "give one of them; the bars of a run with --scale run show a number that fits.",
        )
    return number
