"""Damaged and hostile data sets, given to ``backlit evaluate``."""

from __future__ import annotations

import copy
import functools
import json
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from PIL import Image
from support.linear_file import write_linear_file

from .damage import FLOATS, INTEGERS, TEXTS, damaged, long_numbers, value
from .kind import Kind

_LABELS = ("cat", "dog", "owl")


def make(rng: random.Random, folder: Path) -> list[str]:
    """A data set of two pictures, wrong in one place or several."""
    for file in _prepared().iterdir():
        shutil.copy(file, folder)
    path = rng.choice((_coco, _voc, _wsolevaluation, _ilsvrc))(rng, folder)
    arguments = ["evaluate", "F.onnx", path, "-o", "out", "--threads", "1"]
    if rng.random() < 0.2:
        table = rng.choice(("cat,0\ndog,1\n", '{"cat": [0, "dog"], "dog": 1}'))
        name = "table.json" if table.startswith("{") else "table.csv"
        (folder / name).write_bytes(_maybe_damaged(rng, table))
        arguments += ["--class-table", name]
    return arguments


@functools.cache
def _prepared() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="backlit-fuzz-"))
    write_linear_file(folder / "F.onnx", classes=3, labels=_LABELS)
    for name in ("a.jpg", "b.jpg"):
        Image.radial_gradient("L").resize((40, 30)).convert("RGB").save(folder / name)
    return folder


def _text(rng: random.Random, usual: object, often: float = 0.06) -> str:
    """What is usual there, or seldom something else."""
    if rng.random() > often:
        return str(usual)
    return str(rng.choice((*TEXTS[:16], *INTEGERS, *FLOATS, "9" * 5000, "1_0", "٣", "²", '"', ",")))


def _maybe_damaged(rng: random.Random, text: str) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    way = rng.random()
    if way < 0.1:
        return damaged(rng, data)
    return text.encode("utf-16", "replace") if way < 0.12 else data


def _coco(rng: random.Random, folder: Path) -> str:
    document: dict[str, Any] = {
        "images": [
            {"id": i, "file_name": name, "width": 40, "height": 30}
            for i, name in enumerate(("a.jpg", "b.jpg"))
        ],
        "annotations": [
            {"id": i, "image_id": i, "category_id": i, "bbox": [2, 3, 20, 10], "iscrowd": 0}
            for i in range(2)
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(_LABELS)],
    }
    inside: Any = document
    while isinstance(inside, dict | list) and inside:
        key = rng.choice(list(inside) if isinstance(inside, dict) else range(len(inside)))
        if rng.random() < 0.3 or not isinstance(inside[key], dict | list):
            inside[key] = rng.choice(
                (value(rng), "../a.jpg", "/etc/passwd", "/dev/zero", copy.deepcopy(inside))
            )
            break
        inside = inside[key]
    with long_numbers():
        text = json.dumps(document)
    if rng.random() < 0.05:
        text = "[" * 100_000
    (folder / "set.json").write_bytes(_maybe_damaged(rng, text))
    return "set.json"


def _voc(rng: random.Random, folder: Path) -> str:
    for inner in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / inner).mkdir(parents=True)
    names = [_text(rng, stem, 0.04) for stem in "ab"]
    (folder / "ImageSets/Main/val.txt").write_bytes(_maybe_damaged(rng, "\n".join(names)))
    for stem in "ab":
        shutil.copy(folder / f"{stem}.jpg", folder / "JPEGImages")
        edges = "".join(
            f"<{edge}>{escape(_text(rng, number))}</{edge}>"
            for edge, number in (("xmin", 2), ("ymin", 3), ("xmax", 20), ("ymax", 10))
        )
        body = (
            f"<annotation><filename>{escape(_text(rng, stem + '.jpg'))}</filename>"
            f"<size><width>{escape(_text(rng, 40))}</width><height>30</height></size>"
            f"<object><name>{escape(_text(rng, 'cat'))}</name><bndbox>{edges}</bndbox></object>"
            "</annotation>"
        )
        way = rng.random()
        if way < 0.04:
            body = "<a>" * 20_000 + "</a>" * 20_000
        elif way < 0.08:
            body = '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + body.replace(
                "cat", "&e;"
            )
        elif way < 0.12:
            body = f'<?xml version="1.0" encoding="{rng.choice(("utf-7", "x", "utf-16"))}"?>{body}'
        (folder / f"Annotations/{stem}.xml").write_bytes(_maybe_damaged(rng, body))
    return rng.choice((".", "ImageSets/Main/val.txt"))


def _wsolevaluation(rng: random.Random, folder: Path) -> str:
    tables: dict[str, list[tuple[object, ...]]] = {
        "image_ids.txt": [(f"{n}.jpg",) for n in "ab"],
        "class_labels.txt": [("a.jpg", 0), ("b.jpg", 1)],
        "image_sizes.txt": [("a.jpg", 40, 30), ("b.jpg", 40, 30)],
        "localization.txt": [("a.jpg", 2, 3, 20, 10), ("b.jpg", 2, 3, 20, 10)],
    }
    for name, rows in tables.items():
        text = "\n".join(",".join(_text(rng, cell, 0.03) for cell in row) for row in rows)
        (folder / name).write_bytes(_maybe_damaged(rng, text))
    return "."


def _ilsvrc(rng: random.Random, folder: Path) -> str:
    synsets = "\n".join(f"n0000000{i} {name}" for i, name in enumerate(_LABELS))
    (folder / "LOC_synset_mapping.txt").write_bytes(_maybe_damaged(rng, synsets))
    rows = ["ImageId,PredictionString"]
    for index, stem in enumerate("ab"):
        words = (f"n0000000{index}", 2, 3, 20, 10)
        rows.append(f"{_text(rng, stem)},{' '.join(_text(rng, word, 0.04) for word in words)}")
    if rng.random() < 0.05:
        rows.append('c,"' + "x" * 200_000)
    (folder / "LOC_val_solution.csv").write_bytes(_maybe_damaged(rng, "\n".join(rows)))
    return "LOC_val_solution.csv"


KIND = Kind("data sets", 1000, make)
