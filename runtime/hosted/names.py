"""Names of models in servers."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import OptionError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

NOTHING = (-1, -1, -1, -1)
"""The box where nothing was found."""


def name_of(path: str) -> str:
    """The name of a file's model, if no other is given: my_model of my_model.backlit.onnx."""
    stem = Path(path).name.removesuffix(".onnx").removesuffix(".backlit")
    return re.sub(r"[^A-Za-z0-9._-]", "_", stem).lstrip("._-")[:100] or "model"


def check_name(name: str) -> str:
    """The name itself.

    Raises:
        OptionError: it cannot be that of a folder and of a model in an address.
    """
    if not _NAME.fullmatch(name):
        raise OptionError(
            f"{name!r} is no name of a model.", "give letters, digits, dots and dashes."
        )
    return name
