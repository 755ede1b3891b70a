"""Boxes in the formats that other programs read, from the lines of ``localize``.

All take the lines one by one and hold none of them. Coordinates are pixels of the upright original.
"""

from __future__ import annotations

import csv
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

from ..files import folder, whole_file
from .names import Names

Line = dict[str, Any]

COLUMNS = (
    *("image", "width", "height", "class", "label", "score", "x0", "y0", "x1", "y1"),
    *("recipe", "error"),
)
"""Of the CSV table."""

_COCO_NAME = re.compile(r"(?:COCO_\w+_)?(\d+)", re.ASCII)
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def jsonl(lines: Iterable[Line]) -> Iterator[str]:
    """JSON Lines: each line as it is."""
    for line in lines:
        yield json.dumps(line) + "\n"


def csv_table(lines: Iterable[Line]) -> Iterator[str]:
    """CSV (RFC 4180, but lines end in a line feed): one row for each class of each image.

    The columns are `COLUMNS`; the box is as in the lines, x1 and y1 exclusive, and empty where
    nothing was found. An image that failed has one row with its error.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for line in lines:
        size = [line["image"], line.get("width"), line.get("height")]
        for result in line.get("results", ()):
            box = result["box"] or [None] * 4
            found = [result["class"], result["label"], result["score"], *box, result["recipe"]]
            writer.writerow([*size, *found, None])
        if "error" in line:
            writer.writerow([*size, *[None] * 8, line["error"]])
        yield text.getvalue()
        text.seek(0)
        text.truncate()
    yield text.getvalue()


def coco_results(lines: Iterable[Line]) -> Iterator[str]:
    """The results format of COCO (cocodataset.org, "Results Format"): one JSON array.

    An element is ``image_id``, ``category_id``, ``bbox`` [x, y, width, height], ``score`` and,
    which readers pass over, ``category_name``. ``category_id`` is the classifier's class index.
    ``image_id`` is the number that a file is named by as in COCO (000000397133.jpg,
    COCO_val2014_000000397133.jpg), else the path as given. What was not found has no element.
    """
    comma = "[\n"
    for line in lines:
        for result in line.get("results", ()):
            if result["box"] is None:
                continue
            x0, y0, x1, y1 = result["box"]
            element = {
                "image_id": coco_image_id(line["image"]),
                "category_id": result["class"],
                "category_name": result["label"],
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "score": result["score"],
            }
            yield comma + json.dumps(element)
            comma = ",\n"
    yield "[]\n" if comma == "[\n" else "\n]\n"


def coco_image_id(image: str) -> int | str:
    """The number that COCO names an image file by; of other files the path as it is."""
    number = _COCO_NAME.fullmatch(PurePath(image).stem)
    return int(number[1]) if number else image


def voc_annotation(line: Line) -> bytes:
    """The annotation of an image in the XML of Pascal VOC (Everingham 2010, development kit).

    Pixels are counted from 1, and xmax and ymax are the last ones inside. An object without a label
    is named by its class index. ``score``, which VOC does not have, is one more field of an object.
    """
    path = PurePath(line["image"])
    root = ElementTree.Element("annotation")
    _add(root, "folder", path.parent.name)
    _add(root, "filename", path.name)
    _add(root, "path", line["image"])
    size = ElementTree.SubElement(root, "size")
    for name, value in (("width", line["width"]), ("height", line["height"]), ("depth", 3)):
        _add(size, name, value)
    _add(root, "segmented", 0)
    for result in line["results"]:
        if result["box"] is None:
            continue
        x0, y0, x1, y1 = result["box"]
        one = ElementTree.SubElement(root, "object")
        _add(one, "name", result["class"] if result["label"] is None else result["label"])
        for name, value in (("pose", "Unspecified"), ("truncated", 0), ("difficult", 0)):
            _add(one, name, value)
        if result["score"] is not None:
            _add(one, "score", result["score"])
        edges = ElementTree.SubElement(one, "bndbox")
        for name, edge in (("xmin", x0 + 1), ("ymin", y0 + 1), ("xmax", x1), ("ymax", y1)):
            _add(edges, name, edge)
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, encoding="utf-8")
    return text + b"\n"


TABLES: dict[str, Callable[[Iterable[Line]], Iterator[str]]] = {
    "jsonl": jsonl,
    "coco": coco_results,
    "csv": csv_table,
}
"""Formats that are one text, by name."""

FILES = {"coco": "coco.json", "csv": "boxes.csv"}
"""Their files; that of jsonl is the log of the run, from which they are made."""

ANNOTATIONS = "Annotations"
"""The folder for Pascal VOC's files, as VOC calls it."""


def write(kind: str, lines: Iterable[Line], target: Path, names: Names) -> None:
    """Write lines in a format, ``coco``, ``csv`` or ``voc``; every file is whole or absent.

    Args:
        kind: the format.
        lines: of all images, in order.
        target: an existing folder.
        names: a new one, which names the annotations of VOC as the images' other files.

    Raises:
        OutputError: a file cannot be written.
    """
    if kind != "voc":
        with whole_file(target / FILES[kind]) as file:
            for piece in TABLES[kind](lines):
                file.write(encoded(piece))
        return
    inside = folder(target / ANNOTATIONS)
    for line in lines:
        name = names.take(line["image"])
        if "results" in line:
            with whole_file(inside / f"{name}.xml") as file:
                file.write(voc_annotation(line))


def encoded(text: str) -> bytes:
    """UTF-8, with file names in it as the bytes that they are."""
    return text.encode("utf-8", "surrogateescape")


def save_maps(path: Path, maps: npt.NDArray[np.float32]) -> None:
    """Write maps float32 [K,h,w] as a NumPy file, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    with whole_file(path) as file:
        np.save(file, maps)


def save_mask(path: Path, mask: npt.NDArray[np.bool_]) -> None:
    """Write a mask bool [h,w] as a PNG of one bit per pixel, 1 (white) inside.

    Raises:
        OutputError: it cannot be written.
    """
    from PIL import Image

    with whole_file(path) as file:
        Image.fromarray(mask).save(file, "png")


def _add(parent: ElementTree.Element, name: str, value: Any) -> None:
    ElementTree.SubElement(parent, name).text = _NOT_XML.sub("?", str(value))
