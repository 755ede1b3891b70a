"""Which cases ``make test`` leaves to ``make slow``: large ones of a kind of which one is run."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def some_slow(values: Iterable[Any], slow: Collection[Any]) -> list[Any]:
    """The values for ``pytest.mark.parametrize``, some with the marker ``slow``, by their first."""
    made = [v if isinstance(v, tuple) else (v,) for v in values]
    marked = [pytest.param(*v, marks=[pytest.mark.slow] * (v[0] in slow)) for v in made]
    missing = [v for v in slow if not any(m.values[0] == v for m in marked)]
    if missing:
        raise ValueError(f"slow, and no case: {missing}")
    return marked
