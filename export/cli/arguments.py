"""Kinds of arguments that several exporting commands take."""

from __future__ import annotations

import re
from typing import Any

import click


class Numbers(click.ParamType[Any]):
    """One number per channel: ``0.485,0.456,0.406``."""

    name = "NUMBERS"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, ...]:
        """Parse; a usage error where it is not numbers."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(v) for v in value.split(","))
        except ValueError:
            self.fail(
                f"{value!r} is not numbers with commas, such as 0.485,0.456,0.406", param, ctx
            )


class Size(click.ParamType[Any]):
    """``224`` or ``224x320``: height and width in pixels."""

    name = "SIZE"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        """Parse; a usage error where it is no size."""
        if isinstance(value, tuple):
            return value
        found = re.fullmatch(r"(\d+)(?:x(\d+))?", value)
        if found is None or int(found[1]) < 1:
            self.fail(f"{value!r} is no size, such as 224 or 224x320 (height x width)", param, ctx)
        return int(found[1]), int(found[2] or found[1])


class NamedValue(click.ParamType[Any]):
    """``NAME=VALUE``: a number, ``true`` or ``false``, or numbers with commas."""

    name = "NAME=VALUE"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, Any]:
        """Parse; a usage error where it is no number."""
        if isinstance(value, tuple):
            return value
        name, _, text = value.rpartition("=")
        words = {"true": 1.0, "false": 0.0}
        try:
            numbers = [words.get(v.lower(), v) for v in text.split(",")]
            found = [float(v) for v in numbers]
        except ValueError:
            found = []
        if not name or not found:
            self.fail(f"{value!r} is not like NAME=1 or NAME=224,224", param, ctx)
        return name, found[0] if len(found) == 1 else found


class SpacedNumbers(click.Command):
    """A command that also takes ``--mean 0.5 0.5 0.5``, as people write it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Join the numbers that follow --mean and --std."""
        joined: list[str] = []
        for arg in args:
            number = re.fullmatch(r"-?(\d+\.?\d*|\.\d+)(e-?\d+)?", arg)
            if number and len(joined) > 1 and joined[-2] in ("--mean", "--std"):
                joined[-1] += f",{arg}"
            else:
                joined.append(arg)
        return super().parse_args(ctx, joined)


constants_option = click.option(
    "--constant", "constants", type=NamedValue(), multiple=True, metavar="NAME=VALUE",
    callback=lambda ctx, parameter, value: dict(value) or None,
    help="A number for another input of an ONNX model. Repeatable.",
)  # fmt: skip


__all__ = ["NamedValue", "Numbers", "Size", "SpacedNumbers", "constants_option"]
