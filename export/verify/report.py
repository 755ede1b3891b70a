"""A failed verification as a file: what a bug report needs."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...runtime.contract import Contract
from ..options import ExportOptions

if TYPE_CHECKING:
    from .verify import Parity

_PACKAGES = ("onnx", "onnx-ir", "onnxruntime", "onnxruntime-gpu", "numpy", "torch")


def failed_paths(path: Path) -> tuple[Path, Path]:
    """Where the file and its report go: ``NAME.failed.onnx`` and ``NAME.failed.json``."""
    name = path.with_name(f"{path.stem}.failed{path.suffix or '.onnx'}")
    return name, name.with_suffix(".json")


def report(parity: Parity, contract: Contract, asked: ExportOptions) -> str:
    """Versions, options, the metadata, and how far each output was off, as JSON."""
    found: dict[str, Any] = {
        "backlit": contract.tool.rpartition(" ")[2],  # what the guard knows it by
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "options": dataclasses.asdict(asked),
        "metadata": dataclasses.asdict(dataclasses.replace(contract, labels=None)),
        "compared": [dataclasses.asdict(one) for one in parity.compared],
    }
    return json.dumps(found, indent=1, default=str, ensure_ascii=False)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
