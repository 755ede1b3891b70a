"""Labelled images in the formats that people have: ILSVRC, wsolevaluation, Pascal VOC, COCO."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ...errors import DatasetError
from .base import Box, Dataset, Example, Reading
from .boxes import read_coco, read_voc
from .classes import map_classes
from .text import read_ilsvrc, read_wsolevaluation

__all__ = ["FORMATS", "Box", "Dataset", "DatasetError", "Example", "read"]

FORMATS = ("ilsvrc", "wsolevaluation", "voc", "coco")
"""The formats' names, in the order in which they are recognised."""


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
    reading = _read(Path(path), folder, synsets, format, difficult)
    return map_classes(reading, labels, classes, None if class_map is None else Path(class_map))


def _read(
    path: Path,
    images: Path | None,
    synsets: str | os.PathLike[str] | None,
    form: str | None,
    difficult: bool,
) -> Reading:
    if images is not None and not images.is_dir():
        raise DatasetError(
            f"{images} is not a folder.", "give the pictures' folder as --image-folder."
        )
    form, file = _recognise(path, form)
    if form == "ilsvrc":
        return read_ilsvrc(file, images, None if synsets is None else Path(synsets))
    if form == "wsolevaluation":
        return read_wsolevaluation(file, images)
    if form == "coco":
        return read_coco(file, images, difficult)
    if file.is_dir():
        return read_voc(file, images, None, difficult)
    return read_voc(file.absolute().parents[2], images, file, difficult)


def _recognise(path: Path, form: str | None) -> tuple[str, Path]:
    """The format, and the file or folder that its reader takes."""
    if form is not None and form not in FORMATS:
        raise DatasetError(
            f"{form!r} is not a format of data sets.", f"choose one of: {', '.join(FORMATS)}."
        )
    if not path.exists():
        raise DatasetError(f"{path} does not exist.", "give a data set's folder or file.")
    for name in FORMATS if form is None else (form,):
        found = _FINDERS[name](path)
        if len(found) == 1:
            return name, found[0]
        if found:
            raise DatasetError(
                f"{path} has several: {', '.join(str(file) for file in found)}.",
                "give the one to read.",
            )
    inside = sorted(path.iterdir()) if path.is_dir() else []
    near = [
        child for child in inside if child.is_dir() and any(f(child) for f in _FINDERS.values())
    ]
    hint = f"did you mean {' or '.join(str(child) for child in near[:3])}? " if near else ""
    raise DatasetError(
        f"{path} is not a data set{'' if form is None else f' in the format {form}'}.",
        f"{hint}give one of: ILSVRC (a folder with LOC_val_solution.csv), wsolevaluation (a folder "
        "with image_ids.txt, class_labels.txt, localization.txt and image_sizes.txt), Pascal VOC "
        "(a folder with Annotations/*.xml, or a list of its ImageSets/Main), COCO (a JSON file, or "
        "a folder with annotations/instances_val*.json).",
    )


def _ilsvrc(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix.lower() == ".csv" else []
    return [file for file in [path / "LOC_val_solution.csv"] if file.is_file()]


def _wsolevaluation(path: Path) -> list[Path]:
    return [path] if (path / "image_ids.txt").is_file() else []


def _voc(path: Path) -> list[Path]:
    if path.is_file():
        above = path.absolute().parents
        listed = path.suffix == ".txt" and len(above) > 2 and (above[2] / "Annotations").is_dir()
        return [path] if listed else []
    # Where names ignore case, COCO's folder of JSON files has this name too.
    return [path] if any((path / "Annotations").rglob("*.xml")) else []


def _coco(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix.lower() == ".json" else []
    found = (
        sorted(path.glob(pattern))
        for pattern in (
            "annotations/instances_val*.json",
            "instances_val*.json",
            "_annotations.coco.json",
            "annotations/*.json",
            "*.json",
        )
    )
    return next((files for files in found if files), [])


_FINDERS = {"ilsvrc": _ilsvrc, "wsolevaluation": _wsolevaluation, "voc": _voc, "coco": _coco}
