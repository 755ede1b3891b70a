"""Options that the commands for services share: ``serve``, ``triton`` and ``mlserver``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from ..maps.kinds import KINDS

Function = TypeVar("Function", bound=Callable[..., Any])

recipe_option = click.option(
    "--recipe", default="default", show_default=True, help="How a map becomes a box: see localize."
)
name_option = click.option(
    "--name", help="Of the model that clients ask for.  [default: the file's]"
)
most_classes_option = click.option(
    "--max-top",
    type=click.IntRange(1, 1000),
    metavar="K",
    default=10,
    show_default=True,
    help="Classes of a request.",
)


def kind_option(which: str) -> Callable[[Function], Function]:
    """``--map``, a name that the command takes as ``kind``; ``which`` ends the help's sentence."""
    return click.option(
        "--map",
        "kind",
        type=click.Choice(list(KINDS)),
        metavar="MAP",
        help=f"Which map boxes start from{which}.  [default: what the recipe wants]",
    )
