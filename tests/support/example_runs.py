"""What the tests of the examples share."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any, Literal

import onnx
import pytest
from backlit.export import export
from backlit.runtime.contract import KEY

from backlit import models

EXAMPLES = Path(__file__).parents[2] / "examples"
BRIGHTEST = (252, 255, 164)
RULES = [
    ("stretch", "bilinear", 3),
    ("stretch", "bicubic", 1),
    ("crop", "bilinear", 1),
    ("crop", "bicubic", 3),
]


def finished(command: list[Any], **more: Any) -> subprocess.CompletedProcess[str]:
    command = [str(part) for part in command]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, **more)


def need(tool: str) -> str:
    path = shutil.which(tool)
    return path or pytest.skip(f"no {tool}")


def stamp(model: Path, text: str) -> None:
    graph = onnx.load(model)
    onnx.helper.set_model_props(graph, {KEY: text})
    onnx.save(graph, model)


def export_embedded(file: Path) -> Path:
    """The embedded classifier as a Backlit file, one label of which is a JSON reader's trial."""
    how = models.PREPROCESSING
    labels = models.labels().read_text(encoding="utf-8").split("\n")[:-1]
    labels[7] = 'mug "é" \\ \u00a0 😀'
    scaled: Literal["0-1", "0-255"] = "0-1" if how.range == "0-1" else "0-255"
    export(models.tiny_convnet(), file, mean=how.mean, std=how.std, range=scaled, labels=labels)
    return file
