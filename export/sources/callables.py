"""Classifiers that Python code makes: ``package.module:callable`` and ``path/file.py:callable``."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
import warnings
from pathlib import Path
from typing import Any

from ...runtime.errors import BacklitWarning, ModelError
from .classifier import Classifier
from .modules import from_object
from .packages import import_or_fix
from .probe import first_line

_GIVE = "give package.module:callable or file.py:callable, importable from here and callable "


def from_callable(text: str, weights: str | None) -> Classifier:
    """A function or class of a module or file, called without arguments; or a module object.

    The current folder, and a file's own, are where imports are looked for first, as for
    ``python -m``.

    Raises:
        ModelError: it cannot be imported or called, or returns no classifier.
    """
    import_or_fix("torch", "pip install torch")
    place, _, attribute = text.rpartition(":")
    found = _attribute(_module(place, text), attribute, text)
    made = found
    if callable(found) and not _is_classifier(found):
        try:
            made = found()
        except (Exception, SystemExit) as error:
            raise ModelError(
                f"{text} cannot be called: {first_line(error)}",
                f"{_GIVE}without arguments.",
            ) from error
        if weights is None and isinstance(found, type) and _is_classifier(made):
            warnings.warn(
                f"{text} is a class and no weights were given: unless it loads its own, they are "
                "random. Give --weights FILE (or --weights random, if that is meant).",
                BacklitWarning,
                stacklevel=4,
            )
    return from_object(made, text, weights)


def _is_classifier(found: Any) -> bool:
    import torch

    return isinstance(found, torch.nn.Module | torch.export.ExportedProgram)


def _module(place: str, text: str) -> types.ModuleType:
    """Import a module by its name or its file."""
    path = Path(place)
    is_file = path.suffix == ".py"
    if is_file and not path.is_file():
        raise ModelError(f"{place} does not exist.", "check the path.")
    _look_in(path.resolve().parent if is_file else Path.cwd())
    try:
        return _from_file(path) if is_file else importlib.import_module(place)
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"{text} cannot be imported: {first_line(error)}", f"{_GIVE}without arguments."
        ) from error


def _look_in(folder: Path) -> None:
    """Imports look into a folder first; it stays so, for what is imported in a forward pass."""
    importlib.invalidate_caches()
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _from_file(path: Path) -> types.ModuleType:
    name = path.stem
    known = sys.modules.get(name)
    if known is not None and _same(getattr(known, "__file__", None), path):
        return known
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    if known is None:  # dataclasses and pickle look a class's module up by its name
        sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        if known is None:
            del sys.modules[name]
        raise
    return module


def _same(file: str | None, path: Path) -> bool:
    return file is not None and Path(file).resolve() == path.resolve()


def _attribute(module: types.ModuleType, attribute: str, text: str) -> Any:
    """What a dotted name in a module is.

    Raises:
        ModelError: nothing; names the classes of the module that would do.
    """
    found: Any = module
    try:
        for part in attribute.split("."):
            found = getattr(found, part)
    except AttributeError as error:
        raise ModelError(
            f"{text} cannot be found: {module.__name__} has no {attribute!r}.", _choices(module)
        ) from error
    return found


def _choices(module: types.ModuleType) -> str:
    own = [
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", None) == module.__name__ and callable(value)
    ]
    if not own:
        return "name a function or class of it that makes the classifier."
    return f"name one of what it defines: {', '.join(own[:8])}{', ...' if len(own) > 8 else ''}."
