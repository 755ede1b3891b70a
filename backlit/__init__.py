"""Where does a trained image classifier look? One ONNX file that says so.

Examples:
    >>> import backlit
    >>> report = backlit.export("tiny_convnet.onnx", "tiny.backlit.onnx", verify=False)
    >>> session = backlit.Session("tiny.backlit.onnx")
    >>> (found,) = session.localize("mug.jpg")
    >>> found.boxes[0] is not None
    True

Every name is imported when it is first used, so ``import backlit`` costs next to nothing.
``export`` and ``differentiate`` need the extra of that name: ``pip install 'backlit[export]'``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .export.build import ExportOptions, ExportReport, differentiate, export
    from .runtime.boxes.recipes import RECIPES, Recipe
    from .runtime.errors import (
        BacklitError,
        BacklitWarning,
        ClassError,
        ContractError,
        DatasetError,
        ImageError,
        ModelError,
        OptionError,
        OutputError,
        ProviderError,
        UnsupportedOperatorError,
        VerificationError,
    )
    from .runtime.maps.integrated_gradients import IntegratedGradients
    from .runtime.maps.kinds import KINDS
    from .runtime.maps.smoothgrad import SmoothGrad
    from .runtime.output.pandas_table import to_pandas
    from .runtime.results import Localization, Results, Saliency
    from .runtime.session import Session

    __version__: str

__all__ = [
    "KINDS",
    "RECIPES",
    "BacklitError",
    "BacklitWarning",
    "ClassError",
    "ContractError",
    "DatasetError",
    "ExportOptions",
    "ExportReport",
    "ImageError",
    "IntegratedGradients",
    "Localization",
    "ModelError",
    "OptionError",
    "OutputError",
    "ProviderError",
    "Recipe",
    "Results",
    "Saliency",
    "Session",
    "SmoothGrad",
    "UnsupportedOperatorError",
    "VerificationError",
    "__version__",
    "differentiate",
    "export",
    "to_pandas",
]

_HOMES = {
    ".export": ("ExportOptions", "ExportReport", "differentiate"),
    ".runtime.boxes.recipes": ("RECIPES", "Recipe"),
    ".runtime.maps.integrated_gradients": ("IntegratedGradients",),
    ".runtime.maps.kinds": ("KINDS",),
    ".runtime.maps.smoothgrad": ("SmoothGrad",),
    ".runtime.output.pandas_table": ("to_pandas",),
    ".runtime.results": ("Localization", "Results", "Saliency"),
    ".runtime.session": ("Session",),
    ".runtime.errors": tuple(name for name in __all__ if name.endswith(("Error", "Warning"))),
}
"""Module of each name. ``export`` is the package of that name, which can be called."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("backlit")
    elif name == "export":
        value = _exporter()
    else:
        home = next((module for module, names in _HOMES.items() if name in names), None)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = _exporter() if home == ".export" else importlib.import_module(home, __name__)
        value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _exporter() -> Any:
    """The package that exports, if what it needs is installed."""
    try:
        return importlib.import_module(".export", __name__)
    except ModuleNotFoundError as error:
        from .runtime.errors import no_exporter

        raise no_exporter("backlit.export", error) from error
