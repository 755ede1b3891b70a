"""Export: a trained classifier in, one ONNX file with its own gradient out.

``backlit.export`` is this package, and the function that it is named for: the package can be
called, with the arguments and the result of `backlit.export.export`.
"""

from __future__ import annotations

import sys
import types
from typing import Any

from .build import ExportOptions, ExportReport, differentiate, export

__all__ = ["ExportOptions", "ExportReport", "differentiate", "export"]


class _Callable(types.ModuleType):
    """A module that is called as the function in it."""

    def __call__(self, *args: Any, **options: Any) -> ExportReport:
        return export(*args, **options)


sys.modules[__name__].__class__ = _Callable
