"""Small labelled data sets of drawn pictures, and a classifier that looks where it must."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from backlit.runtime.cli import group as cli
from click.testing import CliRunner, Result
from PIL import Image

from support.linear_file import Linear, write_linear_file

Box = tuple[int, int, int, int]

LABELS = ("cat", "dog", "hen", "fox", "owl", "elk")
SIDE = 32
PLACES = [(1, 1), (12, 2), (2, 12), (12, 12), (7, 7), (9, 1)]
"""Where each class's weights are, and so its saliency: x and y of a square of `EXTENT` pixels."""
EXTENT = 18
RECIPE = "pixels"
"""What the default recipe is for this classifier, which has no feature maps."""


def write_classifier(path: Path) -> Linear:
    rng = np.random.default_rng(3)
    weight = np.zeros((len(LABELS), 3, SIDE, SIDE), np.float32)
    for index, (x, y) in enumerate(PLACES):
        weight[index, :, y : y + EXTENT, x : x + EXTENT] = rng.uniform(
            0.01, 0.03, (3, EXTENT, EXTENT)
        )
    return write_linear_file(path, len(LABELS), SIDE, SIDE, labels=LABELS, weight=weight)


def draw(rng: np.random.Generator, place: int, width: int, height: int) -> tuple[Image.Image, Box]:
    """A bright blot at the class's place, on a dark ground; its box in pixels of the picture."""
    x, y = np.array(PLACES[place]) * (width / SIDE, height / SIDE) + rng.integers(-3, 4, 2)
    x0, y0 = max(0, round(x)), max(0, round(y))
    x1 = min(width, x0 + round(rng.uniform(0.5, 1.3) * EXTENT * width / SIDE))
    y1 = min(height, y0 + round(rng.uniform(0.5, 1.3) * EXTENT * height / SIDE))
    pixels = rng.integers(0, 60, (height, width, 3), dtype=np.uint8)
    pixels[y0:y1, x0:x1] = rng.integers(160, 256, (y1 - y0, x1 - x0, 3), dtype=np.uint8)
    return Image.fromarray(pixels), (x0, y0, x1, y1)


def write_wsolevaluation(folder: Path, count: int, seed: int = 0) -> None:
    """One true class per image; its metadata says the last pixel inclusively."""
    rng = np.random.default_rng(seed)
    ids, labels, boxes, sizes = [], [], [], []
    (folder / "val").mkdir(parents=True)
    for number in range(count):
        place, size = int(rng.integers(len(PLACES))), (int(rng.integers(40, 70)), 48)
        picture, (x0, y0, x1, y1) = draw(rng, place, *size)
        name = f"val/{number:03d}.png"
        picture.save(folder / name)
        ids.append(name)
        labels.append(f"{name},{place}")
        boxes.append(f"{name},{x0},{y0},{x1 - 1},{y1 - 1}")
        sizes.append(f"{name},{size[0]},{size[1]}")
    for file, rows in (
        ("image_ids", ids),
        ("class_labels", labels),
        ("localization", boxes),
        ("image_sizes", sizes),
    ):
        (folder / f"{file}.txt").write_text("".join(f"{row}\n" for row in rows))


def write_voc(folder: Path, places: Sequence[Sequence[int]], seed: int = 1) -> None:
    """One image for each list of classes; VOC counts pixels from 1, and the last one in."""
    rng = np.random.default_rng(seed)
    for part in ("Annotations", "JPEGImages"):
        (folder / part).mkdir(parents=True)
    for number, shown in enumerate(places):
        root = ElementTree.Element("annotation")
        ElementTree.SubElement(root, "filename").text = f"{number:03d}.png"
        size = ElementTree.SubElement(root, "size")
        for name, value in (("width", 60), ("height", 48), ("depth", 3)):
            ElementTree.SubElement(size, name).text = str(value)
        for place in shown:
            picture, box = draw(rng, place, 60, 48)
            thing = ElementTree.SubElement(root, "object")
            ElementTree.SubElement(thing, "name").text = LABELS[place]
            ElementTree.SubElement(thing, "difficult").text = "0"
            bounds = ElementTree.SubElement(thing, "bndbox")
            ends = (box[0] + 1, box[1] + 1, box[2], box[3])
            for name, value in zip(("xmin", "ymin", "xmax", "ymax"), ends, strict=True):
                ElementTree.SubElement(bounds, name).text = str(value)
        picture.save(folder / "JPEGImages" / f"{number:03d}.png")
        ElementTree.ElementTree(root).write(folder / "Annotations" / f"{number:03d}.xml")


def evaluate(*args: object) -> Result:
    """Run ``backlit evaluate``."""
    return CliRunner().invoke(cli.main, ["evaluate", *map(str, args)])


def result_of(*args: object, code: int = 0) -> dict[str, Any]:
    """What it prints."""
    done = evaluate(*args)
    assert done.exit_code == code, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def table_of(folder: Path) -> list[dict[str, str]]:
    """The rows of images.csv."""
    with (folder / "images.csv").open(newline="") as file:
        return list(csv.DictReader(file))
