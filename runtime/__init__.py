"""Run Backlit files: class scores, saliency maps and object boxes, through ONNX Runtime.

``Session`` opens a file. Nothing heavy is imported until a name is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .results import Localization, Results, Saliency
    from .session import Session

__all__ = ["Localization", "Results", "Saliency", "Session"]

_HOME = dict.fromkeys(("Localization", "Results", "Saliency"), ".results") | {"Session": ".session"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
