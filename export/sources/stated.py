"""What lies beside an ONNX file, and what its input's type says, of its preprocessing.

Hugging Face keeps ``preprocessor_config.json`` and ``config.json`` with a model; Optimum and
transformers.js write the ONNX file beside them or into a folder ``onnx``.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal

import onnx_ir as ir

from .classifier import Preprocessing

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
    images = [
        v for v in model.graph.inputs if len(v.shape or ()) > 2 or len(model.graph.inputs) == 1
    ]
    if images and images[0].dtype in _PIXELS:
        centre = _PIXELS[images[0].dtype]
        says = dataclasses.replace(says, range="0-255", mean=(centre,), std=(1.0,))
    return dataclasses.replace(says, labels=labels or says.labels)


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
    """What a Hugging Face model's ``config.json`` and image processor say.

    An image processor computes ``(pixel * rescale_factor - offset - image_mean) / image_std``.
    """
    crop = _size(how.get("crop_size")) if how.get("do_center_crop") else None
    resized = _size(how.get("size"))
    size = crop or resized or _size(config.get("image_size"))
    fraction = how.get("crop_pct")
    shorter = isinstance(how.get("size"), int) or "shortest_edge" in (how.get("size") or ())
    if crop and resized and shorter:
        fraction = crop[0] / resized[0]
    by = how.get("resample")
    resample: Literal["bilinear", "bicubic"] | None = None
    if by is not None:
        resample = "bilinear" if by == 2 else "bicubic"
    says = Preprocessing(
        size=size,
        crop_fraction=float(fraction) if fraction and 0 < fraction <= 1 else None,
        interpolation=resample,
        labels=_labels(config.get("id2label")),
    )
    mean, std = how.get("image_mean"), how.get("image_std")
    if not how or (how.get("do_normalize", True) and (mean is None or std is None)):
        return says
    if not how.get("do_normalize", True):
        mean, std = [0.0], [1.0]
    mean, std = _numbers(mean), _numbers(std)
    if not mean or not std or len(mean) != len(std) or min(std) <= 0:
        return says
    if not how.get("do_rescale", True):
        return dataclasses.replace(says, range="0-255", mean=tuple(mean), std=tuple(std))
    unit = 255 * float(how.get("rescale_factor") or 1 / 255)
    offset = 1.0 if how.get("rescale_offset") else 0.0
    if abs(unit - 1) < 1e-4 and not offset:
        unit = 1.0
    return dataclasses.replace(
        says,
        range="0-1",
        mean=tuple((m + offset) / unit for m in mean),
        std=tuple(s / unit for s in std),
    )


def _read(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    """A JSON object that has one of these keys; empty where it is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and any(key in found for key in keys) else {}


def _size(given: Any) -> tuple[int, int] | None:
    """Height and width of any of the ways to write them."""
    if isinstance(given, dict):
        edge = given.get("shortest_edge") or given.get("longest_edge")
        given = [given.get("height", edge), given.get("width", edge)]
    elif isinstance(given, int):
        given = [given, given]
    if not isinstance(given, list) or len(given) != 2:
        return None
    right = all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in given)
    return (given[0], given[1]) if right else None


def _numbers(given: Any) -> list[float]:
    values = given if isinstance(given, list) else [given]
    right = all(isinstance(v, int | float) for v in values)
    return [float(v) for v in values] if right else []


def _labels(by_index: Any) -> tuple[str, ...] | None:
    """Names by class number, unless they only number the classes."""
    if not isinstance(by_index, dict) or not by_index:
        return None
    names = [by_index.get(str(i)) for i in range(len(by_index))]
    if any(not isinstance(name, str) for name in names):
        return None
    numbered = all(name == f"LABEL_{i}" for i, name in enumerate(names))
    return None if numbered else tuple(str(name) for name in names)


__all__ = ["beside", "hugging_face", "stated"]
