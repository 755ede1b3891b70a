"""Right boxes on many networks: trained here on drawn pictures, and real ones on labelled photos.

    python -m benchmarks.proving.run [--only PATTERN] [--count N] [--out FOLDER] [--write]

Trains the networks of `ground.CASES`, a minute or two each, exports them and the classifiers of the
shared data (the folder in BACKLIT_SHARED, else ``shared`` beside the repository), and prints for
each the share of boxes with IoU >= 0.5, the class given. Weights, files and figures are kept in the
folder, so that a stopped run goes on; ``--write`` puts the table into docs/measured/boxes.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from backlit.export import export
from backlit.runtime import Session
from backlit.runtime.boxes.geometry import Box, centred_box, iou, mask_box
from backlit.runtime.boxes.localize import largest_component
from backlit.runtime.boxes.recipes import fitted
from backlit.runtime.located import boxes_of
from backlit.runtime.maps.object import ObjectMap
from backlit.runtime.results import Saliency
from support.real import NAMES, SHARED, entry, options

from benchmarks import pages

from . import ground

MAPS = ("saliency", "features", "gains", "gradcam", "layercam")
COLUMNS = (
    "default", *MAPS, "Grad-CAM, 20 %", "best threshold", "centred", "takes gains"
)  # fmt: skip
Boxes = Sequence[Sequence[float]]


@dataclasses.dataclass(frozen=True)
class Trial:
    """A classifier, and labelled objects to find with it.

    Attributes:
        source: what is exported.
        options: of the export.
        images: what each object is in: paths or arrays.
        labels: of each object.
        truth: its boxes, in pixels; any of them is right.
        accuracy: share of pictures named right.
    """

    source: Any
    options: dict[str, Any]
    images: list[Any]
    labels: list[int]
    truth: list[Boxes]
    accuracy: float


def drawn(name: str, count: int, folder: Path) -> Trial:
    """A network of the proving ground, and pictures that it has not seen."""
    model, pictures = ground.trained(name, folder), ground.trial(name, count)
    return Trial(
        model,
        {"size": ground.CASES[name].side, "mean": [0.5] * 3, "std": [0.25] * 3},
        [pictures.images[owner] for owner in pictures.owners],
        pictures.labels.tolist(),
        [[box] for box in pictures.boxes.tolist()],
        ground.accuracy(model, pictures),
    )


def photos(name: str, count: int) -> Trial:
    """A real classifier, and the labelled photos."""
    data = SHARED / "data"
    listed = json.loads((data / "manifest.json").read_text())["images"]
    used = [one for one in listed if one.get("split") == "dev" and one["boxes"]][:count]
    model = entry(data, name)
    return Trial(
        str(data / model["file"]),
        options(model),
        [data / one["file"] for one in used],
        [one["classes"][0] for one in used],
        [one["boxes"] for one in used],
        model["accuracy"]["ilsvrc_val_227/dev"]["top1"],
    )


def overlap(box: Box | None, truth: Boxes) -> float:
    """The largest IoU of a box with any of the true ones."""
    return max(iou(box, tuple(one)) for one in truth)  # type: ignore[arg-type]


def above(found: Saliency, level: float) -> Box | None:
    """The box of the largest part of a map above a share of its maximum, in the original."""
    values = found.maps[0]
    box = mask_box(largest_component(values > level * values.max()))
    return None if box is None else found.prepared.box_to_original(box)


def measured(trial: Trial, session: Session) -> dict[str, float]:
    """Share of boxes with IoU >= 0.5, by column."""
    index = np.array(trial.labels)[:, None]
    found = {
        name: session.saliency(trial.images, index, map=name, errors="raise")
        for name in (ObjectMap.name, *MAPS)
    }

    def share(name: str, box: Callable[[Saliency], Box | None]) -> float:
        overlaps = [
            overlap(box(one), truth) for one, truth in zip(found[name], trial.truth, strict=True)
        ]
        return float(np.mean(np.array(overlaps) >= 0.5))

    def cut(recipe: str) -> Callable[[Saliency], Box | None]:
        how = fitted(recipe, session.contract)
        return lambda one: boxes_of(one, how, masks=False).boxes[0]

    row = {"default": share(ObjectMap.name, cut("default"))}
    for name in MAPS:
        row[name] = share(name, cut("pixels" if name == "saliency" else "default"))
    row["Grad-CAM, 20 %"] = share("gradcam", lambda one: above(one, 0.2))
    row["centred"] = share(ObjectMap.name, lambda one: centred_box(one.width, one.height))
    best = [
        max(overlap(above(one, level / 20), truth) for level in range(1, 20))
        for one, truth in zip(found[ObjectMap.name], trial.truth, strict=True)
    ]
    row["best threshold"] = float(np.mean(np.array(best) >= 0.5))
    taken = [
        np.array_equal(one.maps, other.maps)
        for one, other in zip(found[ObjectMap.name], found["gains"], strict=True)
    ]
    row["takes gains"] = float(np.mean(taken))
    return row


def table(rows: dict[str, dict[str, float]]) -> str:
    """Markdown: a row for each network."""
    lines = [
        "| network | named right | " + " | ".join(COLUMNS) + " |",
        "|---" * (len(COLUMNS) + 2) + "|",
    ]
    for name, row in rows.items():
        cells = [f"{row[column]:.2f}" for column in ("accuracy", *COLUMNS)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="Share of right boxes on many networks.")
    parser.add_argument("--only", default="*", help="networks of that name")
    parser.add_argument("--count", type=int, default=100, help="pictures for each")
    parser.add_argument("--out", type=Path, default=Path("out/proving"), help="what is kept")
    parser.add_argument("--write", action="store_true", help="into docs/measured/boxes.md")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    kept = arguments.out / f"figures-{arguments.count}.json"
    rows: dict[str, dict[str, float]] = json.loads(kept.read_text()) if kept.exists() else {}
    trials: dict[str, Callable[[], Trial]] = {
        name: lambda name=name: drawn(name, arguments.count, arguments.out)  # type: ignore[misc]
        for name in ground.CASES
    }
    if (SHARED / "data" / "manifest.json").exists():
        trials |= {name: lambda name=name: photos(name, arguments.count) for name in NAMES}  # type: ignore[misc]
    else:
        print(f"no labelled photos: set BACKLIT_SHARED ({SHARED} has none)", file=sys.stderr)
    for name, made in trials.items():
        if name in rows or not fnmatch.fnmatch(name, arguments.only):
            continue
        trial = made()
        file = arguments.out / "network.backlit.onnx"
        export(trial.source, file, maps=MAPS, verify=False, **trial.options)
        rows[name] = {"accuracy": trial.accuracy, **measured(trial, Session(file))}
        kept.write_text(json.dumps(rows))
        print(name, rows[name], file=sys.stderr)
    rows = {name: rows[name] for name in trials if name in rows}
    print(table(rows))
    if arguments.write:
        pages.put(table(rows), "proving")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
