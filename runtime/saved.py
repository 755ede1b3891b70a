"""What results are saved as, and what the files are known by."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from .arrays import NPY
from .drawing import encode
from .errors import unwritable
from .guard import Mark

JSON: Mark = re.compile(
    rb'\A\[?\{"image": (null|"[^\n]*?"), ("video_frame": \d+, )?'
    rb'("width": \d+, "height": \d+, "(classes|results)": \[|"error": ")|\A\[\]\n\Z'
)
"""Of results as JSON: alone, in a list, as lines."""

MARKS: dict[str, Mark] = {
    **encode.MARKS,
    ".json": JSON,
    ".npz": re.compile(rb"\x07\x00backlit\Z"),
    ".npy": NPY,
}
"""By the suffix of the file."""


def npz(arrays: dict[str, Any]) -> bytes:
    """Arrays as a compressed archive of NumPy, with a comment that says whose it is."""
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    with zipfile.ZipFile(file, "a") as archive:
        archive.comment = b"backlit"
    return file.getvalue()


def make_parent(target: Path) -> None:
    """Make the folder of a file.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(target, error) from error
