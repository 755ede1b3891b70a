"""Readers of the data sets of objects: Pascal VOC's XML and COCO's JSON."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from itertools import chain, repeat
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ...errors import DatasetError
from .base import (
    Box,
    Example,
    Reading,
    find_images,
    inclusive_box,
    lines,
    malformed,
    missing_images,
    read_bytes,
    read_text,
)

_SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG", ".bmp", ".webp")


def read_voc(root: Path, images: Path | None, image_set: Path | None, difficult: bool) -> Reading:
    """Pascal VOC (Everingham et al. 2010; the devkit's documentation, section 8).

    ``Annotations/NAME.xml`` holds the objects of ``JPEGImages/NAME.jpg``: class, ``difficult``
    and ``bndbox`` in pixels that count from 1, the last included.

    Args:
        root: the folder of ``Annotations``.
        images: the folder of the pictures; None: ``JPEGImages``.
        image_set: a list of names, such as ``ImageSets/Main/test.txt``; None:
            ``ImageSets/Main/val.txt`` if it is there, else every annotation.
        difficult: keep objects that are marked difficult, which VOC's evaluation ignores.

    Raises:
        DatasetError: a file is missing or malformed.
    """
    annotations = root / "Annotations"
    default = root / "ImageSets" / "Main" / "val.txt"
    image_set = image_set or (default if default.is_file() else None)
    if image_set:
        stems = _image_set(image_set, annotations)
    else:
        stems = sorted(
            file.relative_to(annotations).with_suffix("").as_posix()
            for file in annotations.rglob("*.xml")
        )
    if not stems:
        raise DatasetError(
            f"{image_set or annotations} names no image.", "give a set that has some."
        )
    stems = list(dict.fromkeys(stems))
    indices: dict[str, int] = {}
    objects: dict[str, tuple[tuple[int, int] | None, str, dict[int, tuple[Box, ...]]]] = {}
    for stem in stems:
        objects[stem] = _read_annotation(annotations / f"{stem}.xml", indices, difficult)
    folders = [images] if images else [root / "JPEGImages", root / "images", annotations, root]
    files = find_images(stems, folders, _SUFFIXES)
    # Tools other than VOC's own may name the picture unlike the annotation.
    named = [stem for stem in stems if stem not in files and objects[stem][1]]
    others = find_images([objects[stem][1] for stem in named], folders) if named else {}
    files |= {stem: others[objects[stem][1]] for stem in named if objects[stem][1] in others}
    notes = missing_images(stems, files, folders)
    examples = [
        Example(stem, files[stem], objects[stem][0], objects[stem][2])
        for stem in stems
        if stem in files
    ]
    return Reading("VOC", examples, tuple(indices), notes)


def _image_set(path: Path, annotations: Path) -> list[str]:
    """The names in a list of ImageSets/Main."""
    names = []
    for _, line in lines(path):
        # The lists of one class have a second column: 1, 0 (difficult), or -1 (not in the image).
        name, _, flag = line.rpartition(" ")
        if flag not in ("1", "0", "-1") or (annotations / f"{line}.xml").is_file():
            names.append(line)
        elif flag != "-1":
            names.append(name.strip())
    return names


def _read_annotation(
    path: Path, indices: dict[str, int], difficult: bool
) -> tuple[tuple[int, int] | None, str, dict[int, tuple[Box, ...]]]:
    """Size, file name and boxes of one annotation; new class names are added to ``indices``."""
    data = read_bytes(path)
    try:
        tree = ElementTree.fromstring(data)  # noqa: S314 # expat limits what entities expand to
    except ElementTree.ParseError as error:
        raise malformed(
            path, error.position[0], f"not XML ({error}).", "write the annotation again."
        ) from error
    except ValueError as error:  # an encoding that expat does not know
        raise malformed(path, 1, f"{error}.", "save it as UTF-8.") from error
    places = [data.count(b"\n", 0, tag.start()) + 1 for tag in re.finditer(rb"<object\b", data)]
    size: tuple[int, int] | None = None
    sides = [tree.findtext(f"size/{side}", "").strip() for side in ("width", "height")]
    if all(side.isdecimal() and int(side) for side in sides):
        size = int(sides[0]), int(sides[1])
    boxes: dict[int, tuple[Box, ...]] = {}
    for item, place in zip(tree.findall("object"), chain(places, repeat(None)), strict=False):
        name = item.findtext("name", "").strip()
        if not name:
            raise malformed(path, place, "an object without <name>.", "name its class.")
        index = indices.setdefault(name, len(indices))
        if item.findtext("difficult", "0").strip() == "1" and not difficult:
            continue
        box = item.find("bndbox")
        if box is None:
            raise malformed(path, place, f"a {name} without <bndbox>.", "give its box.")
        edges = [box.findtext(edge, "").strip() for edge in ("xmin", "ymin", "xmax", "ymax")]
        boxes[index] = (*boxes.get(index, ()), inclusive_box(edges, 1, path, place))
    return size, tree.findtext("filename", "").strip(), boxes


def read_coco(path: Path, images: Path | None, crowd: bool) -> Reading:
    """COCO's object detection format (Lin et al. 2014; cocodataset.org, "Data format").

    Args:
        path: the JSON file: ``images``, ``annotations`` with ``bbox`` [x, y, width, height] in
            pixels from the image's upper left corner, and ``categories``.
        images: the folder of the pictures; None: the usual ones, such as ``val2017`` beside
            ``annotations``.
        crowd: keep the boxes around crowds (``iscrowd``), which COCO's evaluation ignores.

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
        sized = isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0
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
        if item.get("iscrowd") and not crowd:
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
    folders = [images] if images else _image_folders(path)
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
    try:
        document = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise malformed(
            path, error.lineno, f"not JSON ({error.msg}).", "write it again."
        ) from error
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
        or not all(isinstance(edge, int | float) and math.isfinite(edge) for edge in value)
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
