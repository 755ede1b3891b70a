"""How far a half-precision file is from the float32 one, on labelled images."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from backlit.export.graph.weights import detach
from backlit.export.graph.weights import session as session_of
from backlit.export.precision.rounding import rounded
from backlit.runtime import Session
from backlit.runtime.boxes.geometry import iou
from backlit.runtime.boxes.localize import localize_maps
from backlit.runtime.boxes.recipes import fitted
from backlit.runtime.images.load import load
from backlit.runtime.images.prepare import prepare

BATCH = 8


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Gradients of two files for the best class of the first.

    Attributes:
        cosines: one per image.
        broken: images whose map holds inf or nan, or is all zero where float32's is not.
        scores: largest difference, over the largest score.
        ranks: rank correlations of the saliency maps, one per image.
        boxes: share of the images whose box is the same, at an IoU of 0.9 or more.
    """

    cosines: np.ndarray[Any, Any]
    broken: int
    scores: float
    ranks: np.ndarray[Any, Any]
    boxes: float


def compare(shared: Path, single: Path, half: Path, images: list[Any], kernels: bool) -> Agreement:
    """Run both files, made with ``maps="gradient"``.

    Args:
        kernels: run the half-precision file as ONNX Runtime's CPU provider does, which rounds
            between some nodes only; else with every tensor rounded, as on a GPU.
    """
    plain = Session(single, "cpu", threads=1)
    runs: Any = Session(half, "cpu", threads=1) if kernels else None
    model = detach(rounded(ir.load(half)))
    engine = None if kernels else session_of(model, optimise=False)
    cosines, broken, off, largest = [], 0, 0.0, 0.0
    ranks, same, recipe = [], [], fitted("default", plain.contract)
    for start in range(0, len(images), BATCH):
        part = images[start : start + BATCH]
        views = [prepare(load(shared / i["file"]), plain.contract.image).views for i in part]
        batch = np.concatenate(views)
        expected = plain.run(batch, np.full((len(part), 1), -1))
        if engine is None:
            found = runs.run(batch, expected.classes)
            gradient, scores = found["gradient"], found.scores
        else:
            feed = {"image": batch, "class_index": expected.classes}
            gradient, scores = engine.run(["gradient", "scores"], feed)
        a, b = (
            g.reshape(len(part), -1).astype(np.float64) for g in (expected["gradient"], gradient)
        )
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        for pixels, *maps in zip(batch, expected["gradient"], gradient, strict=True):
            x, y = (np.abs(m[0]).max(0) for m in maps)  # of the one class: [H,W]
            ranks.append(_rank_correlation(x, y))
            (first, _), (second, _) = localize_maps(pixels, np.stack([x, y]), recipe)
            same.append(iou(first, second) >= 0.9 if first or second else True)
        cosines.append((a * b).sum(1) / np.where(lengths == 0, np.nan, lengths))
        lost = (a != 0).any(1) & ~(b != 0).any(1)
        broken += int((~np.isfinite(b).all(1) | lost).sum())
        off = max(off, float(np.abs(scores - expected.scores).max()))
        largest = max(largest, float(np.abs(expected.scores).max()))
    return Agreement(
        np.concatenate(cosines), broken, off / largest, np.array(ranks), float(np.mean(same))
    )


def _rank_correlation(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    """Spearman's; equal numbers in the order that they come in."""
    x, y = (np.argsort(np.argsort(v.ravel(), kind="stable")) for v in (a, b))
    return float(np.corrcoef(x, y)[0, 1])


def dev_images(shared: Path) -> list[Any]:
    """The images of the dev split, in the manifest's order."""
    manifest = json.loads((shared / "manifest.json").read_text())
    return [i for i in manifest["images"] if i["split"] == "dev"]
