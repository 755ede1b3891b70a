"""A progress bar on stderr, on a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..errors import BacklitError
from .group import show_error

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn


def stderr_bar(*columns: ProgressColumn) -> Progress:
    """A bar of rich on stderr that is gone in the end and leaves stdout, which is data, alone."""
    from rich.console import Console
    from rich.progress import Progress

    return Progress(
        *columns,
        console=Console(stderr=True),
        redirect_stdout=False,
        redirect_stderr=False,
        transient=True,
    )


@contextmanager
def progress(
    total: int | None, done: int = 0, lines: bool = False
) -> Iterator[tuple[Callable[[], None], Callable[[BacklitError], None]]]:
    """A step to call after each image, and a way to show an error above the bar.

    Args:
        total: how many images there are; None: nobody knows yet.
        done: how many an earlier run has done.
        lines: data goes to stdout meanwhile; on a terminal those lines are the progress.
    """
    if total in (0, 1) or not sys.stderr.isatty() or (lines and sys.stdout.isatty()):
        yield (lambda: None), show_error
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn

    with stderr_bar(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task("", total=total, completed=done)

        def show(error: BacklitError) -> None:
            text = f"error: {error.problem}\n  fix: {error.fix}"
            bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

        def step() -> None:
            bar.advance(task)

        yield step, show
