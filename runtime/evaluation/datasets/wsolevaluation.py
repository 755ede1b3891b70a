"""``wsolevaluation``: the metadata of clovaai/wsolevaluation."""

from __future__ import annotations

from pathlib import Path

from ...errors import DatasetError
from .base import (
    FARTHEST,
    MOST_CLASSES,
    Box,
    Example,
    Reading,
    find_images,
    inclusive_box,
    lines,
    malformed,
    missing_images,
    whole,
)
from .format import Asked, Format


def find(path: Path) -> list[Path]:
    """A folder of the four files."""
    return [path] if (path / "image_ids.txt").is_file() else []


def read(folder: Path, asked: Asked) -> Reading:
    """The metadata of one split of clovaai/wsolevaluation (Choe et al. 2020), with boxes.

    ``image_ids.txt`` (path), ``class_labels.txt`` (path,class), ``localization.txt``
    (path,x0,y0,x1,y1) and ``image_sizes.txt`` (path,width,height). Boxes are in whole pixels of
    those sizes that count from 0, the last included (its evaluation.py adds 1 to their sides).
    What it has for OpenImages are masks instead of boxes, which are not read.

    Args:
        folder: of the four files.
        asked: ``images``, the folder that the paths begin in; None: ``dataset/NAME`` of a clone of
            the repository, or the folder itself.

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
        if (index := whole(value, MOST_CLASSES)) is None:
            raise malformed(table, number, f"{value!r} is not a class.", "give its index, from 0.")
        classes[name] = index
    sizes: dict[str, tuple[int, int]] = {}
    table = folder / "image_sizes.txt"
    for number, (name, width, height) in _cells(table, "path,width,height"):
        size = whole(width, int(FARTHEST)), whole(height, int(FARTHEST))
        if not size[0] or not size[1]:
            raise malformed(
                table, number, f"{width} x {height} is not a size.", "give width and height."
            )
        sizes[name] = size[0], size[1]
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
    folders = [asked.images] if asked.images else folders
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


FORMAT = Format(
    "wsolevaluation",
    "wsolevaluation (a folder with image_ids.txt, class_labels.txt, localization.txt and "
    "image_sizes.txt)",
    find,
    read,
)
