"""How much a command says on stderr: with -q its errors alone, with -v what it does as well."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TextIO

import click

from ..text import plain

_KEY, _WISHES = "backlit.voice", "backlit.voice.wishes"
_LOG = logging.getLogger("backlit")
_STYLES = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}
_loud: TextIO | None = None


class Voice:
    """What one run of a command says, while its block lasts.

    The package's logger ``backlit`` is heard from warnings on, by -v from its infos on, by -vv
    whole. After -q nothing but `say_error` reaches stderr.
    """

    def __init__(self, ctx: click.Context) -> None:
        self._ctx, self._stack, self._asked = ctx, contextlib.ExitStack(), ""
        self._before = _LOG.level, _LOG.propagate
        self._handler = _Lines()

    def __enter__(self) -> Self:
        """Begin to listen."""
        _LOG.addHandler(self._handler)
        _LOG.propagate = False
        _LOG.setLevel(logging.WARNING)
        self._ctx.meta[_KEY] = self
        return self

    def __exit__(self, *_: object) -> None:
        """Everything as it was before the command."""
        del self._ctx.meta[_KEY]
        self._stack.close()
        _LOG.removeHandler(self._handler)
        _LOG.setLevel(self._before[0])
        _LOG.propagate = self._before[1]

    def obey(self) -> None:
        """Do what the options before the command's name asked for."""
        for do, value in self._ctx.meta.pop(_WISHES, []):
            do(self, value)

    def louder(self, times: int) -> None:
        """-v, so many times."""
        self._once("-v")
        _LOG.setLevel(logging.INFO if times < 2 else logging.DEBUG)

    def hush(self) -> None:
        """-q."""
        global _loud
        self._once("-q")
        if _loud is None:
            _loud = sys.stderr
            self._stack.callback(_speak_again)
            nowhere = self._stack.enter_context(Path(os.devnull).open("w"))  # noqa: SIM115
            self._stack.enter_context(contextlib.redirect_stderr(nowhere))
        _LOG.setLevel(logging.ERROR)

    def _once(self, option: str) -> None:
        if self._asked not in ("", option):
            raise click.UsageError("-v and -q contradict each other: give one of them.")
        self._asked = option


class _Lines(logging.Handler):
    """Records as lines on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname
        name = click.style(f"{level.lower()}:", fg=_STYLES.get(level), bold=level in _STYLES)
        click.echo(f"{name} {plain(self.format(record))}", err=True)


def say_error(text: str) -> None:
    """A line on stderr, after -q too."""
    click.echo(text, file=_loud, err=True)


def options(hidden: bool = False) -> list[click.Option]:
    """-v and -q; they are options of the group, and each command takes them as well."""

    def told(do: Callable[[Voice, Any], None]) -> Callable[..., None]:
        def callback(ctx: click.Context, _: click.Parameter, value: Any) -> None:
            if not value or ctx.resilient_parsing:
                return
            active = ctx.meta.get(_KEY)
            if active is None:  # the group's own options are read before it runs
                ctx.meta.setdefault(_WISHES, []).append((do, value))
            else:
                do(active, value)

        return callback

    return [
        click.Option(
            ["-v", "--verbose"], count=True, expose_value=False, hidden=hidden,
            callback=told(lambda one, times: one.louder(times)),
            help="Say what is done, on stderr; -vv in every detail.",
        ),
        click.Option(
            ["-q", "--quiet"], is_flag=True, expose_value=False, hidden=hidden,
            callback=told(lambda one, _: one.hush()),
            help="Say nothing on stderr but errors.",
        ),
    ]  # fmt: skip


def _speak_again() -> None:
    global _loud
    _loud = None
