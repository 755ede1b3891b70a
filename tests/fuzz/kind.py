"""What a kind of hostile input is."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Kind:
    """A row of the table of kinds.

    Attributes:
        name: as ``--only`` takes it.
        many: how many ``make fuzz`` tries.
        make: writes the files of one case into an empty folder, and returns the arguments of
            ``backlit``, which is run in that folder.
    """

    name: str
    many: int
    make: Callable[[random.Random, Path], list[str]]

    def case(self, seed: int, folder: Path) -> list[str]:
        """The case of that number; the same on every machine."""
        return self.make(random.Random(f"{self.name} {seed}"), folder)
