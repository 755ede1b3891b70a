"""How many boxes are right on real photos: every recipe, two real classifiers, the class given.

    python tests/dev_boxes.py [--limit N] [--recipes default,threshold]

Exports SqueezeNet 1.1 and MobileNetV2, runs ``Session.localize`` on the dev images of the shared
data (the folder in BACKLIT_SHARED, else ``shared`` beside the repository) and prints a table.

A box is right at a threshold if its IoU with any true box of the image reaches it. Boxes are
compared in the listed 227x227 files, where the true boxes are given: their last pixel counts in,
so their right and lower ends move out by one pixel of the photo they were drawn on. The photos are
an easy, squashed sample: the figures compare recipes with each other and with nothing else.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from backlit.export import export
from backlit.runtime import Session
from backlit.runtime.localize import RECIPES, Box, centred_box, get_recipe, iou, localize_maps

MODELS = {
    "SqueezeNet 1.1": "models/squeezenet1_1_logits_fp32.onnx",
    "MobileNetV2": "models/mobilenetv2_1.0_224_deq.onnx",
}
THRESHOLDS = (0.3, 0.5, 0.7)
TIMED = 32
"""Images on which the step from map to box is timed alone."""

Truth = list[tuple[float, float, float, float]]


def shared_data() -> Path:
    root = Path(__file__).resolve().parents[1]
    return Path(os.environ.get("BACKLIT_SHARED", root.parent / "shared")) / "data"


def true_boxes(entry: dict) -> Truth:
    """The true boxes in pixels of the listed file, right and lower ends exclusive."""
    across, down = np.array([entry["width"], entry["height"]]) / entry["orig_size"]
    return [(x0, y0, x1 + across, y1 + down) for x0, y0, x1, y1 in entry["boxes"]]


def shares(boxes: list[Box | None], truths: list[Truth]) -> tuple[float, float]:
    """Share of boxes with IoU >= 0.5, and the mean of the shares over all thresholds."""
    best = np.array(
        [max(iou(box, true) for true in truth) for box, truth in zip(boxes, truths, strict=True)]
    )
    hits = {threshold: float((best >= threshold).mean()) for threshold in THRESHOLDS}
    return hits[0.5], float(np.mean(list(hits.values())))


def export_classifier(data: Path, entry: dict, path: Path) -> None:
    preprocess = entry["preprocess"]
    export(
        str(data / entry["file"]),
        path,
        mean=preprocess["mean"],
        std=preprocess["std"],
        range=preprocess["range"],
        bgr=preprocess["colour"] == "BGR",
        check=False,  # the gradient is verified elsewhere; here its boxes are counted
    )


def row(name: str, right: float, mean: float, whole: str = "", box: str = "") -> str:
    return f"  {name:<14}{right:>10.3f}{mean:>16.3f}{whole:>12}{box:>12}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Share of right boxes on the dev images.")
    parser.add_argument("--limit", type=int, help="only the first so many images")
    parser.add_argument("--recipes", default=",".join(RECIPES), help="which, by comma")
    arguments = parser.parse_args()
    recipes = [get_recipe(name) for name in arguments.recipes.split(",")]
    data = shared_data()
    if not (data / "manifest.json").exists():
        print(
            f"no labelled images: {data} has no manifest.json; set BACKLIT_SHARED", file=sys.stderr
        )
        return 1
    manifest = json.loads((data / "manifest.json").read_text())
    entries = [entry for entry in manifest["images"] if entry["split"] == "dev"][: arguments.limit]
    by_file = {entry["file"]: entry for entry in manifest["models"]}
    truths = [true_boxes(entry) for entry in entries]
    images = [data / entry["file"] for entry in entries]
    classes = np.array([entry["classes"][:1] for entry in entries])
    centred = shares([centred_box(e["width"], e["height"]) for e in entries], truths)
    for title, file in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.backlit.onnx"
            export_classifier(data, by_file[file], path)
            session = Session(path)
            print(f"\n{title}, {len(images)} images, class given, {session.provider}")
            print("  recipe          IoU>=0.5  mean .3/.5/.7    ms/image      ms/box")
            for recipe in recipes:
                started = time.perf_counter()
                found = session.localize(images, classes=classes, recipe=recipe.name)
                whole = (time.perf_counter() - started) / len(images)
                maps = session.saliency(images[:TIMED], classes[:TIMED], crops=recipe.crops)
                started = time.perf_counter()
                for one in maps:
                    localize_maps(one.prepared.frame, one.maps, recipe)
                alone = (time.perf_counter() - started) / len(maps)
                result = shares([one.boxes[0] for one in found], truths)
                print(
                    row(recipe.name, *result, f"{1e3 * whole:.1f}", f"{1e3 * alone:.1f}"),
                    flush=True,
                )
            print(row("centred box", *centred), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
