"""``--map`` and the options of the kinds of maps, made from the table of kinds."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import click

from ..errors import OptionError
from ..maps.kind import Kind
from ..maps.kinds import KINDS

Function = TypeVar("Function", bound=Callable[..., Any])


def map_options(default: str) -> Callable[[Function], Function]:
    """``--map`` and the options of all kinds; the command takes ``kind``, a `Kind` or None.

    Args:
        default: for the help.
    """
    listed = "; ".join(f"{name}: {kind.help}" for name, kind in KINDS.items())
    choice = click.option(
        "--map",
        "name",
        type=click.Choice(list(KINDS)),
        metavar="MAP",
        help=f"Which map.  {listed}.  [default: {default}]",
    )
    owners = _owners()
    options = [choice, *(_option(name, fields) for name, fields in owners.items())]

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def command(*args: Any, name: str | None, **rest: Any) -> Any:
            own = {key: rest.pop(key) for key in owners}
            given = {key: value for key, value in own.items() if value is not None}
            return function(*args, kind=_kind(name, given, owners), **rest)

        made = cast(Function, command)
        for option in reversed(options):
            made = option(made)
        return made

    return decorate


Fields = dict[str, "dataclasses.Field[Any]"]


def _owners() -> dict[str, Fields]:
    """Option -> the kinds that have it, each with its field."""
    owners: dict[str, Fields] = {}
    for name, kind in KINDS.items():
        for field in dataclasses.fields(kind):
            owners.setdefault(field.name, {})[name] = field
    return owners


def _option(name: str, fields: Fields) -> Callable[[Function], Function]:
    """The option of that name, of one kind or of several.

    Raises:
        ValueError: several kinds have it, and it is not the same thing there.
    """
    first, *others = fields.values()
    for other in others:
        if (other.default, other.metadata["choices"]) != (first.default, first.metadata["choices"]):
            raise ValueError(f"--{name} differs between the kinds {', '.join(fields)}")
    helped = "; ".join(f"{kind}: {field.metadata['help']}" for kind, field in fields.items())
    flag = "--" + name.replace("_", "-")
    if isinstance(first.default, bool):
        return click.option(flag, name, is_flag=True, default=None, help=helped)
    choices = first.metadata["choices"]
    return click.option(
        flag,
        name,
        type=click.Choice(choices) if choices else type(first.default),
        help=f"{helped}  [default: {first.default}]",
    )


def _kind(name: str | None, given: dict[str, Any], owners: dict[str, Fields]) -> Kind | None:
    """The kind of map that the options say; None where --map is not given.

    Raises:
        OptionError: an option of another kind was given, or has no sane value.
    """
    for key in given:
        if name not in owners[key]:
            flag = "--" + key.replace("_", "-")
            raise OptionError(
                f"{flag} is an option of {' and '.join(owners[key])}, and --map is "
                f"{name or 'not given'}.",
                f"add --map {next(iter(owners[key]))}, or leave {flag} out.",
            )
    return None if name is None else KINDS[name](**given)
