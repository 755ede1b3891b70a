"""What the wheel check asks of an installed Backlit, from inside its environment.

release.wheel hands this file's text to that environment's Python, with a JSON object: the version,
the modules that its extras bring and those that they do not, the extra that the exporter's errors
should name, and the checkout that nothing may come from. What is wrong is one line on stderr; on
stdout is the path of a sample picture.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

EXPORTER = ("export", "differentiate", "ExportOptions", "ExportReport")
"""Public names that need onnx."""


def main() -> None:
    """Ask; exits with one line if something is wrong."""
    asked = json.loads(sys.argv[1])
    for name in asked["brings"]:
        if importlib.util.find_spec(name) is None:
            sys.exit(f"the extra does not bring {name}")
    for name in asked["lacks"]:
        if importlib.util.find_spec(name) is not None:
            sys.exit(f"the extra brings {name}, which it should not")

    import backlit

    if backlit.__version__ != asked["version"]:
        sys.exit(f"version {backlit.__version__} instead of {asked['version']}")
    from backlit.runtime.errors import BacklitError

    missing = asked["missing"]
    for name in backlit.__all__:
        try:
            getattr(backlit, name)
        except BacklitError as error:
            if name not in EXPORTER or f"pip install 'backlit[{missing}]'" not in error.fix:
                sys.exit(f"backlit.{name}: {' '.join(str(error).split())}")
        except ImportError as error:
            sys.exit(f"backlit.{name} does not say which extra is missing: {error}")
        else:
            if missing and name in EXPORTER:
                sys.exit(f"backlit.{name} is there without the extra {missing}")
    if not missing and not callable(backlit.export):
        sys.exit("backlit.export cannot be called")
    from backlit import models

    sample = models.samples() / "07_mug.jpg"
    for path in (models.tiny_convnet(), models.labels(), sample):
        if not path.exists():
            sys.exit(f"the wheel lacks {path.name}")
    _from_environment(asked["checkout"])
    print(sample)


def _from_environment(checkout: str) -> None:
    """Everything that was imported lies in the environment, nothing in the checkout."""
    inside = Path(sys.prefix).resolve()
    for name, module in list(sys.modules.items()):
        where = getattr(module, "__file__", None)
        if where is None:
            continue
        path = Path(where).resolve()
        if name.partition(".")[0] == "backlit" and not path.is_relative_to(inside):
            sys.exit(f"{name} comes from {path}, not from {inside}")
        if path.is_relative_to(checkout):
            sys.exit(f"{name} comes from the checkout: {path}")


if __name__ == "__main__":
    main()
