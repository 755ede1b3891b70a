"""Shared fixtures: where the labelled images and real classifiers are, if they are here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))  # support, cases
sys.path.append(str(ROOT))  # benchmarks; last, because the folder backlit is not the whole package

from support.real import SHARED  # noqa: E402


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real classifiers and labelled images; tests that need it skip without."""
    folder = SHARED / "data"
    if not (folder / "manifest.json").is_file():
        pytest.skip(
            "no shared data: set BACKLIT_SHARED to the folder that holds data/manifest.json"
        )
    return folder
