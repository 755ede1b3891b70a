"""Execution providers that come as plugins: packages of their own, beside any ONNX Runtime.

Their library is registered with ONNX Runtime once in a process, it finds the devices that it can
use, and a session is given one of them. (ONNX Runtime's documentation, "Plugin execution provider
libraries".)
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import threading
from collections.abc import Mapping
from typing import Any

from ..errors import OptionError, ProviderError
from .ort import build_name
from .provider import Provider

_LOCK = threading.Lock()


def here(row: Provider) -> bool:
    """Whether a provider is a plugin whose package is installed."""
    return row.plugin is not None and importlib.util.find_spec(row.plugin.module) is not None


def add(ort: Any, settings: Any, row: Provider, own: Mapping[str, str]) -> None:
    """Give a session a provider: a plugin by its device, another by its name.

    Args:
        ort: the onnxruntime module.
        settings: ONNX Runtime's SessionOptions.
        row: the provider.
        own: its options, and the one that names a device.

    Raises:
        ProviderError: the plugin finds no device, or this ONNX Runtime takes no plugins.
        OptionError: it finds no such device.
    """
    if row.plugin is None or not here(row):
        settings.add_provider(row.full, dict(own))
        return
    found = devices(ort, row)
    if not found:
        raise ProviderError(
            f"{row.plugin.package} finds no device that it can use.",
            f"it needs {row.plugin.needs}; or without it: --providers cpu.",
        )
    options, device = dict(own), found[0]
    if row.plugin.device is not None:
        option, entry = row.plugin.device
        known = {one.ep_metadata.get(entry, ""): one for one in found}
        wanted = options.pop(option, next(iter(known)))
        if wanted not in known:
            raise OptionError(
                f"{row.name}.{option}={wanted}: {row.plugin.package} finds no such device.",
                f"choose among {', '.join(known)}.",
            )
        device = known[wanted]
    settings.add_provider_for_devices([device], options)


def devices(ort: Any, row: Provider) -> list[Any]:
    """The devices that a plugin finds.

    Args:
        ort: the onnxruntime module.
        row: a plugin whose package is installed.

    Raises:
        ProviderError: this ONNX Runtime takes no plugins.
        Exception: of any kind, where the library does not load.
    """
    with _LOCK:
        _register(ort, row)
    return [one for one in ort.get_ep_devices() if one.ep_name == row.full]


@functools.cache
def _register(ort: Any, row: Provider) -> None:
    """Once: ONNX Runtime refuses a second time."""
    if row.plugin is None:
        return
    if not hasattr(ort, "register_execution_provider_library"):
        raise ProviderError(
            f"{build_name(ort)} takes no plugins; 1.24 and newer do.",
            f"pip install -U {getattr(ort, 'package_name', '') or 'onnxruntime'}.",
        )
    if any(one.ep_name == row.full for one in ort.get_ep_devices()):
        return  # somebody else has registered it
    module = importlib.import_module(row.plugin.module)
    ort.register_execution_provider_library(row.plugin.package, module.get_library_path())
