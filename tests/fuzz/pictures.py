"""Damaged pictures, given to the commands that read them, alone and among sound ones."""

from __future__ import annotations

import functools
import random
import tempfile
from pathlib import Path

from backlit.runtime.contract import Normalisation
from PIL import Image
from support.bad_pictures import mutant
from support.linear_file import write_linear_file

from .kind import Kind

_COMMANDS = (
    ["saliency", "F", "P"],
    ["saliency", "F", "P", "good.png", "--crops", "10"],
    ["localize", "F", "P", "-o", "out"],
    ["localize", "F", "P", "-o", "out", "--no-pictures", "--masks", "--format", "voc"],
    ["saliency", "F", "good.png", "P", "-o", "out", "--scale", "run", "--sheet", "all.png"],
    ["saliency", "B", "P"],
)


def make(rng: random.Random, folder: Path) -> list[str]:
    """One picture, damaged, and a command that reads it."""
    for name, data in _files().items():
        (folder / name).write_bytes(data)
    (folder / "P").write_bytes(mutant(rng))
    Image.radial_gradient("L").resize((40, 30)).save(folder / "good.png")
    return list(rng.choice(_COMMANDS))


@functools.cache
def _files() -> dict[str, bytes]:
    """A file for pictures, whose resize rule crops, and one for four bands."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_linear_file(folder / "F", height=24, width=24, classes=3, resize="crop")
        bands = Normalisation(mean=(0.0,) * 4, std=(1.0,) * 4)
        write_linear_file(
            folder / "B", height=24, width=24, channels=4, colour="bands", normalisation=bands
        )
        return {letter: (folder / letter).read_bytes() for letter in "FB"}


KIND = Kind("pictures", 10_000, make)
