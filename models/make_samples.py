"""Draw the sample pictures again: `python -m backlit.models.make_samples`.

One picture per class, in several sizes and shapes, from seeds the training never draws, taken one
after the other. `boxes.json` beside them lists their true boxes.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import cv2
import numpy as np

from . import samples
from .draw import Scene, draw
from .shapes import LABELS

SEED = 7
# Height and width; the classes take turns.
SIZES = ((240, 320), (320, 240), (240, 360), (300, 300), (240, 380))


def scene(index: int) -> Scene:
    """Sample picture `index`, of class ``index % 12``; larger than the classifier's input."""
    height, width = SIZES[index % len(SIZES)]
    rng = np.random.default_rng([SEED, index])
    return draw(rng, height, width, label=index % len(LABELS))


def write(folder: Path, count: int = len(LABELS)) -> list[dict[str, object]]:
    """Write the pictures as JPEG, and their true boxes as `boxes.json`; returns what it lists."""
    folder.mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, object]] = []
    for index in range(count):
        drawn = scene(index)
        name = f"{index:02d}_{LABELS[drawn.label]}.jpg"
        quality = [cv2.IMWRITE_JPEG_QUALITY, 88]
        encoded = cv2.imencode(".jpg", cv2.cvtColor(drawn.image, cv2.COLOR_RGB2BGR), quality)[1]
        (folder / name).write_bytes(encoded.tobytes())
        entries.append({"file": name, "label": LABELS[drawn.label], "box": list(drawn.box)})
    lines = ",\n  ".join(json.dumps(entry) for entry in entries)
    (folder / "boxes.json").write_text(f"[\n  {lines}\n]\n", "utf-8")
    return entries


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-o",
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=samples(),
    help="Folder to write to (default: the package's own).",
)
def main(out: Path) -> None:
    """Draw the sample pictures and boxes.json."""
    entries = write(out)
    click.echo(f"{len(entries)} pictures in {out}", err=True)


if __name__ == "__main__":
    main()
