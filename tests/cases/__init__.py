"""The table of rule cases: for every operator with a rule, models that exercise it.

Each module holds the cases of the module of that name in ``backlit.export.rules``.
"""

import importlib
import pkgutil

from .case import Array, Case, case

TABLES: dict[str, list[Case]] = {
    found.name: importlib.import_module(f".{found.name}", __name__).CASES
    for found in pkgutil.iter_modules(__path__)
    if found.name != "case"
}
CASES = [case for table in TABLES.values() for case in table]

__all__ = ["CASES", "TABLES", "Array", "Case", "case"]
