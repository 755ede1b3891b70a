"""Packages that only some sources need."""

from __future__ import annotations

import importlib
from typing import Any

from ...runtime.errors import ModelError


def import_or_fix(name: str, fix: str) -> Any:
    """Import an optional package.

    Raises:
        ModelError: it is missing (says ``fix``), or does not belong to this torch.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ModelError(f"this source needs {name}: {error}", fix) from error
    except Exception as error:  # a torchvision built for another torch fails in its own way
        raise ModelError(
            f"{name} is installed but cannot be imported: {error}",
            f"install the {name} that belongs to this torch, or give an ONNX file.",
        ) from error
