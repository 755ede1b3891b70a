"""``ilsvrc``: ILSVRC as Kaggle ships it."""

from __future__ import annotations

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
    rows,
)
from .format import Asked, Format

SYNSETS = "LOC_synset_mapping.txt"
_SYNSET = re.compile(r"n\d{8}")


def find(path: Path) -> list[Path]:
    """The csv itself, or that of a folder."""
    if path.is_file():
        return [path] if path.suffix.lower() == ".csv" else []
    return [file for file in [path / "LOC_val_solution.csv"] if file.is_file()]


def read(table: Path, asked: Asked) -> Reading:
    """ILSVRC, as the Kaggle competition "ImageNet Object Localization Challenge" ships it.

    ``LOC_val_solution.csv`` has a header ``ImageId,PredictionString`` and per image the wnid and
    the box ``x0 y0 x1 y1`` of every object, in whole pixels that count from 0, the last included.

    Args:
        table: the csv.
        asked: ``images``, the folder of ``ImageId.JPEG``; None: beside the csv or in
            ``ILSVRC/Data/CLS-LOC/val``. ``synsets``, ``LOC_synset_mapping.txt``, whose line numbers
            from 0 are the category indices; None: beside the csv or up to two folders up.

    Raises:
        DatasetError: a file is missing or malformed.
    """
    synsets = asked.synsets or _find_synsets(table)
    wnids, names = _read_synsets(synsets)
    indices = {wnid: index for index, wnid in enumerate(wnids)}
    labels: dict[str, dict[int, tuple[Box, ...]]] = {}
    for number, row in rows(table):
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
    folders = [asked.images] if asked.images else folders
    files = find_images(list(labels), folders, (".JPEG", ".jpeg", ".jpg", ".JPG", ".png"))
    note = missing_images(list(labels), files, folders)
    examples = [
        Example(name, files[name], None, boxes) for name, boxes in labels.items() if name in files
    ]
    aliases = tuple((wnid, *name.split(",")) for wnid, name in zip(wnids, names, strict=True))
    return Reading("ILSVRC", examples, names, note, aliases)


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


FORMAT = Format("ilsvrc", "ILSVRC (a folder with LOC_val_solution.csv)", find, read)
