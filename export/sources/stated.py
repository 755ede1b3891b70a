"""What lies beside an ONNX file, and what its input's type says, of its preprocessing.

Hugging Face keeps ``preprocessor_config.json`` and ``config.json`` with a model; Optimum and
transformers.js write the ONNX file beside them or into a folder ``onnx``. Ultralytics writes names
and size into the file's own metadata.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import json
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import onnx_ir as ir

from .classifier import Preprocessing
from .processors import of_config, preprocessing

_PIXELS = {  # integer images hold pixels; signed bytes hold them less 128
    ir.DataType.UINT8: 0.0, ir.DataType.INT8: 128.0, ir.DataType.INT16: 0.0,
    ir.DataType.UINT16: 0.0, ir.DataType.INT32: 0.0, ir.DataType.UINT32: 0.0,
    ir.DataType.INT64: 0.0, ir.DataType.UINT64: 0.0,
}  # fmt: skip


def stated(
    model: ir.Model, path: Path | None = None, labels: tuple[str, ...] | None = None
) -> Preprocessing:
    """What is known of a model's input before anybody says more.

    Args:
        model: as read.
        path: of its file; None: it was in memory.
        labels: those that the graph itself holds.
    """
    says = Preprocessing() if path is None else beside(path)
    says = inside(model.metadata_props, says)
    images = [
        v for v in model.graph.inputs if len(v.shape or ()) > 2 or len(model.graph.inputs) == 1
    ]
    if images and images[0].dtype in _PIXELS:
        centre = _PIXELS[images[0].dtype]
        says = dataclasses.replace(says, range="0-255", mean=(centre,), std=(1.0,))
    return dataclasses.replace(says, labels=labels or says.labels)


def inside(metadata: Mapping[str, str], says: Preprocessing) -> Preprocessing:
    """What Ultralytics' metadata say, as YOLOv5 writes them too; and what was said without them."""
    names, size = (_literal(metadata.get(key, "")) for key in ("names", "imgsz"))
    if isinstance(names, dict):
        names = [names[key] for key in sorted(names)] if _are(names, int) else None
    if isinstance(names, list) and names and _are(names, str):
        says = dataclasses.replace(says, labels=tuple(names))
        if metadata.get("author") == "Ultralytics":  # its networks take pixels over 255
            says = dataclasses.replace(says, range="0-1", mean=(0.0,), std=(1.0,))
        if isinstance(size, list) and len(size) == 2 and _are(size, int):
            says = dataclasses.replace(says, size=(size[0], size[1]))
    return says


def _literal(text: str) -> Any:
    """A Python literal, as ``str`` writes one; None where it is damaged."""
    with contextlib.suppress(ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return ast.literal_eval(text)
    return None


def _are(found: Iterable[Any], kind: type) -> bool:
    return all(isinstance(one, kind) for one in found)


def beside(path: Path) -> Preprocessing:
    """What Hugging Face's files beside an ONNX file say; nothing where there are none."""
    folders = [path.parent, *([path.parent.parent] if path.parent.name == "onnx" else [])]
    config: dict[str, Any] = {}
    how: dict[str, Any] = {}
    for folder in reversed(folders):
        config |= _read(folder / "config.json", ("model_type", "architectures", "id2label"))
        how |= _read(folder / "preprocessor_config.json", ("image_mean", "size", "do_normalize"))
    return hugging_face(config, how)


def hugging_face(config: dict[str, Any], how: dict[str, Any]) -> Preprocessing:
    """What a Hugging Face model's ``config.json`` and image processor say; nothing if damaged."""
    named = types.SimpleNamespace(**config)
    with contextlib.suppress(TypeError, ValueError, ArithmeticError, AttributeError):
        return preprocessing(how or None, named)
    with contextlib.suppress(TypeError, ValueError, ArithmeticError, AttributeError):
        return of_config(named)
    return Preprocessing()


def _read(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    """A JSON object that has one of these keys; empty where it is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and any(key in found for key in keys) else {}


__all__ = ["beside", "hugging_face", "inside", "stated"]
