"""Waiting for what other threads and processes do."""

from __future__ import annotations

import time
from collections.abc import Callable

HANGS = 120.0  # seconds after which nothing is coming; no test measures time with it


def until(true: Callable[[], object], what: str = "what was waited for") -> None:
    """Wait for something to be true.

    Raises:
        TimeoutError: it never is.
    """
    end = time.monotonic() + HANGS
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} has not come in {HANGS:.0f} s.")
        time.sleep(0.02)
