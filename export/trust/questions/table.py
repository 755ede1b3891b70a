"""The table of questions. A new one is a module beside this one and a row here."""

from __future__ import annotations

from ..question import Question
from .completeness import Completeness
from .parity import Parity
from .perturbation import Perturbation
from .pointing_game import PointingGame
from .sanity import Sanity

QUESTIONS: list[Question] = [
    Parity(), Completeness(), Sanity(), Perturbation(), PointingGame()
]  # fmt: skip
"""In the order of the report."""
