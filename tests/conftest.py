"""Shared fixtures: where the labelled images and real classifiers are, if they are here."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real classifiers and labelled images; tests that need it skip without."""
    default = Path(__file__).parents[2] / "shared"
    folder = Path(os.environ.get("BACKLIT_SHARED", default)) / "data"
    if not (folder / "manifest.json").is_file():
        pytest.skip(
            "no shared data: set BACKLIT_SHARED to the folder that holds data/manifest.json"
        )
    return folder
