"""Labelled images in the formats that people have: ILSVRC, wsolevaluation, Pascal VOC, COCO."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ...errors import DatasetError
from .base import Box, Dataset, Example
from .classes import map_classes
from .format import Asked, Format
from .table import FORMATS

__all__ = ["FORMATS", "Box", "Dataset", "DatasetError", "Example", "read"]


def read(
    path: str | os.PathLike[str],
    labels: Sequence[str] | None,
    classes: int,
    *,
    images: str | os.PathLike[str] | None = None,
    class_map: str | os.PathLike[str] | None = None,
    synsets: str | os.PathLike[str] | None = None,
    format: str | None = None,  # noqa: A002 # the word people use
    difficult: bool = False,
) -> Dataset:
    """Read the labels of a data set, with the classifier's class indices.

    Args:
        path: what recognises the format: for ILSVRC the folder of ``LOC_val_solution.csv`` or the
            csv itself; for wsolevaluation the folder of ``image_ids.txt``; for VOC the folder of
            ``Annotations`` or one of its ``ImageSets/Main/*.txt``; for COCO the JSON file, or a
            folder with one.
        labels: of the classifier; None if it has none.
        classes: how many the classifier has.
        images: the folder of the pictures; None: the format's usual places.
        class_map: a CSV or JSON file of the data set's classes and the classifier's indices or
            labels; None: by index for ILSVRC (1000 classes) and wsolevaluation, else by name.
        synsets: ``LOC_synset_mapping.txt``; None: beside the csv or up to two folders up.
        format: one of `FORMATS`; None: by what lies there.
        difficult: keep VOC's difficult objects and COCO's crowds.

    Returns:
        The data set. Images that are not there, and classes that the classifier does not have, are
        left out; `Dataset.notes` say so.

    Raises:
        DatasetError: not recognised, incomplete, malformed (with file and line), or not one image
            shows a class of the classifier.
    """
    folder = None if images is None else Path(images)
    if folder is not None and not folder.is_dir():
        raise DatasetError(
            f"{folder} is not a folder.", "give the pictures' folder as --image-folder."
        )
    found, file = _recognise(Path(path), format)
    asked = Asked(folder, None if synsets is None else Path(synsets), difficult)
    table = None if class_map is None else Path(class_map)
    return map_classes(found.read(file, asked), labels, classes, table)


def _recognise(path: Path, form: str | None) -> tuple[Format, Path]:
    """The format, and the file or folder that its reader takes."""
    if form is not None and form not in FORMATS:
        raise DatasetError(
            f"{form!r} is not a format of data sets.", f"choose one of: {', '.join(FORMATS)}."
        )
    if not path.exists():
        raise DatasetError(f"{path} does not exist.", "give a data set's folder or file.")
    for row in FORMATS.values() if form is None else (FORMATS[form],):
        found = row.find(path)
        if len(found) == 1:
            return row, found[0]
        if found:
            raise DatasetError(
                f"{path} has several: {', '.join(str(file) for file in found)}.",
                "give the one to read.",
            )
    inside = sorted(path.iterdir()) if path.is_dir() else []
    near = [
        child
        for child in inside
        if child.is_dir() and any(row.find(child) for row in FORMATS.values())
    ]
    hint = f"did you mean {' or '.join(str(child) for child in near[:3])}? " if near else ""
    raise DatasetError(
        f"{path} is not a data set{'' if form is None else f' in the format {form}'}.",
        f"{hint}give one of: {', '.join(row.looks for row in FORMATS.values())}.",
    )
