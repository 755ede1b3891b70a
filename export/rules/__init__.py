"""Backward rules, one short function per operator; importing this package registers them all."""

import importlib
import pkgutil

for _found in pkgutil.iter_modules(__path__):
    importlib.import_module(f".{_found.name}", __name__)
