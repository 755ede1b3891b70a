"""Real trained classifiers, where they are here: their names and their preprocessing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("BACKLIT_SHARED", ROOT.parent / "shared"))
"""What is shared beside the repository; its ``data`` holds classifiers and labelled images."""

NAMES = [
    "squeezenet1_1_logits_fp32",
    "squeezenet1_0_227_deepcomp",
    "mobilenetv1_0.25_224_bn",
    "shufflenetv2_x1.0_deq",
    "mobilenetv2_1.0_224_deq",
]


QUICK = {"mobilenetv1_0.25_224_bn", "shufflenetv2_x1.0_deq"}
"""Those that `make test` runs; `make slow` runs all."""


def entry(shared: Path, name: str) -> dict[str, Any]:
    manifest = json.loads((shared / "manifest.json").read_text())
    found: dict[str, Any] = next(m for m in manifest["models"] if Path(m["file"]).stem == name)
    return found


def options(model: dict[str, Any]) -> dict[str, Any]:
    """The manifest's preprocessing as export options."""
    how = model["preprocess"]
    bgr = how["colour"] == "BGR"
    return {"mean": how["mean"], "std": how["std"], "range": how["range"], "bgr": bgr}
