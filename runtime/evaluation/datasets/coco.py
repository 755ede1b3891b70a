"""``coco``: COCO's JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import DatasetError
from .base import (
    FARTHEST,
    Box,
    Example,
    Reading,
    find_images,
    malformed,
    missing_images,
    read_json,
)
from .format import Asked, Format

_PATTERNS = (
    "annotations/instances_val*.json",
    "instances_val*.json",
    "_annotations.coco.json",
    "annotations/*.json",
    "*.json",
)


def find(path: Path) -> list[Path]:
    """The JSON file, or those of the first pattern that a folder has."""
    if path.is_file():
        return [path] if path.suffix.lower() == ".json" else []
    found = (sorted(path.glob(pattern)) for pattern in _PATTERNS)
    return next((files for files in found if files), [])


def read(path: Path, asked: Asked) -> Reading:
    """COCO's object detection format (Lin et al. 2014; cocodataset.org, "Data format").

    Args:
        path: the JSON file: ``images``, ``annotations`` with ``bbox`` [x, y, width, height] in
            pixels from the image's upper left corner, and ``categories``.
        asked: ``images``, the folder of the pictures; None: the usual ones, such as ``val2017``
            beside ``annotations``. ``difficult``: keep the boxes around crowds (``iscrowd``), which
            COCO's evaluation ignores.

    Raises:
        DatasetError: a file is missing or malformed.
    """
    document = _read_json(path)
    indices: dict[Any, int] = {}
    names: list[str] = []
    for number, item in enumerate(document["categories"]):
        identity, name = _fields(path, "categories", number, item, "id", "name")
        indices[identity] = len(names)
        names.append(str(name))
    pictures: dict[Any, tuple[str, tuple[int, int] | None]] = {}
    for number, item in enumerate(document["images"]):
        identity, file = _fields(path, "images", number, item, "id", "file_name")
        if identity in pictures:
            raise malformed(path, None, f"images[{number}]: id {identity} twice.", "number them.")
        width, height = item.get("width"), item.get("height")
        sized = all(isinstance(side, int) and 0 < side <= FARTHEST for side in (width, height))
        pictures[identity] = str(file), (width, height) if sized else None
    if not pictures:
        raise DatasetError(f"{path} names no image.", "give a set that has some.")
    boxes: dict[Any, dict[int, tuple[Box, ...]]] = {identity: {} for identity in pictures}
    empty = 0
    for number, item in enumerate(document["annotations"]):
        where = f"annotations[{number}]"
        picture, category = _fields(path, "annotations", number, item, "image_id", "category_id")
        if picture not in pictures:
            raise malformed(
                path, None, f"{where}: there is no image {picture}.", "correct its image_id."
            )
        if category not in indices:
            raise malformed(
                path, None, f"{where}: there is no category {category}.", "correct category_id."
            )
        if item.get("iscrowd") and not asked.difficult:
            continue
        there = boxes[picture]
        there.setdefault(indices[category], ())
        if item.get("bbox") is None:  # the image is labelled only
            continue
        box = _box(path, where, item["bbox"])
        if box[0] == box[2] or box[1] == box[3]:  # COCO itself has some
            empty += 1
            continue
        there[indices[category]] = (*there[indices[category]], box)
    files_by_name = [name for name, _ in pictures.values()]
    if len(set(files_by_name)) != len(files_by_name):
        twice = next(name for name in files_by_name if files_by_name.count(name) > 1)
        raise malformed(path, None, f"two images are {twice}.", "keep one entry per file.")
    folders = [asked.images] if asked.images else _image_folders(path)
    files = find_images(files_by_name, folders)
    notes = missing_images(files_by_name, files, folders)
    if empty:
        notes = (*notes, f"boxes without area, left out: {empty}.")
    examples = [
        Example(name, files[name], size, boxes[identity])
        for identity, (name, size) in pictures.items()
        if name in files
    ]
    return Reading("COCO", examples, tuple(names), notes)


def _read_json(path: Path) -> dict[str, list[Any]]:
    document = read_json(path)
    for key in ("images", "annotations", "categories"):
        if not isinstance(document, dict) or not isinstance(document.get(key), list):
            raise malformed(
                path, None, f"no list {key!r}.", "COCO's has images, annotations and categories."
            )
    return document  # type: ignore[no-any-return]


def _fields(path: Path, key: str, number: int, item: Any, *fields: str) -> list[Any]:
    """Values of an entry's fields, numbers or texts."""
    values = [item.get(field) if isinstance(item, Mapping) else None for field in fields]
    for field, value in zip(fields, values, strict=True):
        if not isinstance(value, int | str):
            raise malformed(
                path, None, f"{key}[{number}] has no {field!r}.", f"give it: {', '.join(fields)}."
            )
    return values


def _box(path: Path, where: str, value: Any) -> Box:
    numbers = isinstance(value, list) and len(value) == 4
    if (
        not numbers
        or not all(isinstance(edge, int | float) and abs(edge) <= FARTHEST for edge in value)
        or min(value[2:]) < 0
    ):
        raise malformed(
            path, None, f"{where}: bbox {value!r} is not a box.", "give [x, y, width, height]."
        )
    x, y, width, height = (float(edge) for edge in value)
    return x, y, x + width, y + height


def _image_folders(path: Path) -> list[Path]:
    """Where the pictures of annotations/instances_val2017.json and of other layouts lie."""
    folder = path.parent
    split = path.stem.rpartition("_")[2]
    folders = [folder]
    for base in (folder, folder.parent):
        folders += [base / split, base / "images" / split, base / "images", base / "data"]
    return [*folders, folder.parent]


FORMAT = Format(
    "coco",
    "COCO (a JSON file, or a folder with annotations/instances_val*.json)",
    find,
    read,
)
