"""Readers of the data sets that are text files: ILSVRC as Kaggle ships it, and wsolevaluation."""

from __future__ import annotations

import csv
import re
from pathlib import Path

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
    read_text,
)

SYNSETS = "LOC_synset_mapping.txt"
_SYNSET = re.compile(r"n\d{8}")


def read_ilsvrc(table: Path, images: Path | None, synsets: Path | None) -> Reading:
    """ILSVRC, as the Kaggle competition "ImageNet Object Localization Challenge" ships it.

    ``LOC_val_solution.csv`` has a header ``ImageId,PredictionString`` and per image the wnid and
    the box ``x0 y0 x1 y1`` of every object, in whole pixels that count from 0, the last included.

    Args:
        table: the csv.
        images: the folder of ``ImageId.JPEG``; None: beside the csv or in
            ``ILSVRC/Data/CLS-LOC/val``.
        synsets: ``LOC_synset_mapping.txt``, whose line numbers from 0 are the category indices;
            None: beside the csv or up to two folders up.

    Raises:
        DatasetError: a file is missing or malformed.
    """
    synsets = synsets or _find_synsets(table)
    wnids, names = _read_synsets(synsets)
    indices = {wnid: index for index, wnid in enumerate(wnids)}
    labels: dict[str, dict[int, tuple[Box, ...]]] = {}
    rows = csv.reader(read_text(table).splitlines())
    for number, row in enumerate(rows, start=1):
        if not row or number == 1:
            if number == 1 and [cell.strip() for cell in row] != ["ImageId", "PredictionString"]:
                raise malformed(
                    table,
                    1,
                    f"the header is {','.join(row)!r}.",
                    "it must be ImageId,PredictionString.",
                )
            continue
        name = row[0].strip()
        if len(row) != 2 or not name:
            raise malformed(table, number, f"{len(row)} columns.", "give ImageId,PredictionString.")
        if name in labels:
            raise malformed(table, number, f"{name} is there twice.", "keep one line per image.")
        words = row[1].split()
        if not words or len(words) % 5:
            raise malformed(
                table,
                number,
                f"{len(words)} words in the PredictionString.",
                "it repeats five: wnid x0 y0 x1 y1.",
            )
        boxes: dict[int, tuple[Box, ...]] = {}
        for start in range(0, len(words), 5):
            wnid = words[start]
            if wnid not in indices:
                raise malformed(
                    table, number, f"{wnid} is not in {synsets}.", "give --synsets FILE."
                )
            box = inclusive_box(words[start + 1 : start + 5], 0, table, number)
            boxes[indices[wnid]] = (*boxes.get(indices[wnid], ()), box)
        labels[name] = boxes
    if not labels:
        raise DatasetError(f"{table} names no image.", "give a table with one line per image.")
    split = "train" if "train" in table.name else "val"
    around = [table.parent, table.parent.parent]
    layouts = [f"ILSVRC/Data/CLS-LOC/{split}", f"Data/CLS-LOC/{split}", split, "images"]
    folders = [table.parent, *(folder / layout for folder in around for layout in layouts)]
    folders = [images] if images else folders
    files = find_images(list(labels), folders, (".JPEG", ".jpeg", ".jpg", ".JPG", ".png"))
    note = missing_images(list(labels), files, folders)
    examples = [
        Example(name, files[name], None, boxes) for name, boxes in labels.items() if name in files
    ]
    aliases = tuple((wnid, *name.split(",")) for wnid, name in zip(wnids, names, strict=True))
    return Reading("ILSVRC", examples, names, note, aliases)


def read_wsolevaluation(folder: Path, images: Path | None) -> Reading:
    """The metadata of one split of clovaai/wsolevaluation (Choe et al. 2020), with boxes.

    ``image_ids.txt`` (path), ``class_labels.txt`` (path,class), ``localization.txt``
    (path,x0,y0,x1,y1) and ``image_sizes.txt`` (path,width,height). Boxes are in whole pixels of
    those sizes that count from 0, the last included (its evaluation.py adds 1 to their sides).
    What it has for OpenImages are masks instead of boxes, which are not read.

    Args:
        folder: of the four files.
        images: the folder that the paths begin in; None: ``dataset/NAME`` of a clone of the
            repository, or the folder itself.

    Raises:
        DatasetError: a file is missing or malformed.
    """
    table = folder / "image_ids.txt"
    names: dict[str, None] = {}
    for number, name in lines(table):
        if name in names:
            raise malformed(table, number, f"{name} is there twice.", "keep one line per image.")
        names[name] = None
    if not names:
        raise DatasetError(f"{table} names no image.", "give a split that has some.")
    classes: dict[str, int] = {}
    table = folder / "class_labels.txt"
    for number, (name, value) in _cells(table, "path,class"):
        if not value.isdecimal():
            raise malformed(table, number, f"{value!r} is not a class.", "give its index, from 0.")
        classes[name] = int(value)
    sizes: dict[str, tuple[int, int]] = {}
    table = folder / "image_sizes.txt"
    for number, (name, width, height) in _cells(table, "path,width,height"):
        if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
            raise malformed(
                table, number, f"{width} x {height} is not a size.", "give width and height."
            )
        sizes[name] = int(width), int(height)
    boxes: dict[str, tuple[Box, ...]] = {}
    table = folder / "localization.txt"
    for number, (name, *values) in _cells(table, "path,x0,y0,x1,y1"):
        boxes[name] = (*boxes.get(name, ()), inclusive_box(values, 0, table, number))
    for name in names:
        for where, there in (("class_labels.txt", classes), ("image_sizes.txt", sizes)):
            if name not in there:
                raise DatasetError(
                    f"{folder / where} does not have {name}, which image_ids.txt names.",
                    "complete it, or leave the image out of image_ids.txt.",
                )
    absolute = folder.absolute()
    folders = [folder, folder / "images"]
    if len(absolute.parents) > 2:  # metadata/ILSVRC/test of a clone, whose images are elsewhere
        folders.append(absolute.parents[2] / "dataset" / absolute.parent.name)
    folders = [images] if images else folders
    files = find_images(list(names), folders)
    note = missing_images(list(names), files, folders)
    examples = [
        Example(name, files[name], sizes[name], {classes[name]: boxes.get(name, ())})
        for name in names
        if name in files
    ]
    categories = tuple(str(index) for index in range(max(classes.values()) + 1))
    return Reading("wsolevaluation", examples, categories, note)


def _cells(path: Path, columns: str) -> list[tuple[int, list[str]]]:
    """Numbered lines of a table without header, split at commas."""
    width = columns.count(",") + 1
    rows = []
    for number, line in lines(path):
        # A path may hold commas; the other columns are numbers and cannot.
        row = line.rsplit(",", width - 1)
        if len(row) != width:
            problem = f"{len(row)} columns."
            fix = f"every line is {columns}."
            if line.count(",") == 2 and line.lower().rstrip(",").endswith(".png"):
                problem, fix = "masks instead of boxes.", "choose a split with boxes (CUB, ILSVRC)."
            raise malformed(path, number, problem, fix)
        rows.append((number, row))
    return rows


def _find_synsets(table: Path) -> Path:
    folders = [table.absolute().parent, *table.absolute().parents[1:3]]
    for folder in folders:
        if (folder / SYNSETS).is_file():
            return folder / SYNSETS
    raise DatasetError(
        f"{SYNSETS} is neither beside {table} nor up to two folders up.",
        f"give it as --synsets FILE; Kaggle ships it with {table.name}.",
    )


def _read_synsets(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    wnids, names = [], []
    for number, line in lines(path):
        wnid, _, name = line.partition(" ")
        if not _SYNSET.fullmatch(wnid):
            raise malformed(
                path, number, f"{wnid!r} is not a wnid.", "every line is a wnid and its names."
            )
        wnids.append(wnid)
        names.append(name.strip() or wnid)
    return tuple(wnids), tuple(names)
