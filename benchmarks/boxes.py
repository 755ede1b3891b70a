"""How many boxes are right on real photos: recipes, the textbook's and a blind box.

    python -m benchmarks.boxes [--limit N] [--write] [--restart]

Exports SqueezeNet 1.1 and MobileNetV2, runs ``backlit evaluate`` on the ILSVRC photos of the shared
data (the folder in BACKLIT_SHARED, else ``shared`` beside the repository) once per recipe, into
out/boxes, and prints a table; ``--write`` puts it into docs/boxes.md. A stopped run goes on.
The photos are an easy, squashed sample, and the default was tuned on them: the figures compare
recipes with each other and with nothing else.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from backlit.export import export
from support.real import SHARED

from benchmarks import pages

MODELS = {
    "SqueezeNet 1.1": "models/squeezenet1_1_logits_fp32.onnx",
    "MobileNetV2": "models/mobilenetv2_1.0_224_deq.onnx",
}
RECIPE_NAMES = ("default", "threshold", "pixels", "paper")  # textbook comes beside the default
COLUMNS = {
    "IoU >= 0.5": "gt_known_iou_0.5",
    "mean": "gt_known_mean",
    "MaxBoxAccV2": "max_box_acc_v2",
    "top-5 error": "top5_localization_error",
}
OUT = Path("out/boxes")
Metrics = dict[str, dict[str, dict[str, Any]]]
"""Name -> what it is of -> value and interval."""


def shared_data() -> Path:
    return SHARED / "data"


def export_classifier(data: Path, entry: dict[str, Any], path: Path) -> None:
    preprocess = entry["preprocess"]
    export(
        str(data / entry["file"]),
        path,
        mean=preprocess["mean"],
        std=preprocess["std"],
        range=preprocess["range"],
        bgr=preprocess["colour"] == "BGR",
        verify=False,  # the gradient is verified elsewhere; here its boxes are counted
    )


def evaluated(file: Path, data: Path, recipe: str, limit: int | None) -> Metrics:
    """The metrics of a recipe."""
    command = [
        *(sys.executable, "-m", "backlit.runtime", "evaluate", str(file)),
        *(str(data / "images" / "ilsvrc_val_227"), "-o", str(OUT / file.stem / recipe), "--resume"),
        *("--recipe", recipe, "--baselines", "all" if recipe == "default" else "none"),
        *(("--limit", str(limit)) if limit else ()),
    ]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    metrics: Metrics = json.loads(done.stdout)["metrics"]
    return metrics


def table(found: dict[str, dict[str, Metrics]]) -> str:
    """Markdown: a row per recipe; per classifier the columns above."""
    titles = [f"{name}: {column}" for name in found for column in COLUMNS]
    rows = ["| | " + " | ".join(titles) + " |", "|---" * (len(titles) + 1) + "|"]
    rules = {f"`{name}`": (name, name) for name in RECIPE_NAMES} | {
        "`textbook`": ("default", "textbook"),
        "a fixed centred box": ("default", "centred"),
    }
    for title, (recipe, of) in rules.items():
        cells = [
            f"{by_recipe[recipe][metric][of]['value']:.3f}"
            for by_recipe in found.values()
            for metric in COLUMNS.values()
        ]
        rows.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description="Share of right boxes on labelled photos.")
    parser.add_argument("--limit", type=int, help="only the first so many images")
    parser.add_argument("--write", action="store_true", help="put the table into docs/boxes.md")
    parser.add_argument("--restart", action="store_true", help="drop what earlier runs left")
    arguments = parser.parse_args()
    if arguments.restart:
        shutil.rmtree(OUT, ignore_errors=True)
    data = shared_data()
    if not (data / "manifest.json").exists():
        print(
            f"no labelled images: {data} has no manifest.json; set BACKLIT_SHARED", file=sys.stderr
        )
        return 1
    entries = {e["file"]: e for e in json.loads((data / "manifest.json").read_text())["models"]}
    OUT.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[str, Metrics]] = {}
    for title, name in MODELS.items():
        file = OUT / f"{Path(name).stem}.backlit.onnx"
        if not file.exists():  # the log of an evaluation belongs to one file
            export_classifier(data, entries[name], file)
        found[title] = {
            recipe: evaluated(file, data, recipe, arguments.limit) for recipe in RECIPE_NAMES
        }
    print(table(found))
    if arguments.write:
        pages.put(table(found), "boxes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
