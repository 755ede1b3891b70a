"""``jsonl``: JSON Lines, what is printed and logged anyway."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from .format import Line, Table


def jsonl(lines: Iterable[Line]) -> Iterator[str]:
    """JSON Lines: each line as it is."""
    for line in lines:
        yield json.dumps(line) + "\n"


FORMAT = Table("jsonl", "boxes.jsonl, which is written anyway", "", jsonl)
