"""What the commands of this half show while they work."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console


@contextlib.contextmanager
def status(console: Console, text: str = "") -> Iterator[Callable[[str], None]]:
    """A spinner where there is a terminal, silence elsewhere; yields what changes its text."""
    if not console.is_terminal:
        yield lambda text: None
        return
    with console.status(text) as shown:
        yield lambda text: shown.update(text)
