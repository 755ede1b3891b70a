"""From a data set's classes to the classifier's."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...errors import DatasetError
from .base import MOST_CLASSES, Box, Dataset, Example, Reading, malformed, read_json, rows, whole

Found = dict[int, tuple[int, ...]]
"""Category index to the classifier's classes."""


def map_classes(
    reading: Reading, labels: Sequence[str] | None, classes: int, class_map: Path | None
) -> Dataset:
    """A data set whose boxes have the classifier's class indices.

    Categories without a class are left out with their boxes, and with the images that then have
    none; a note names them.

    Args:
        reading: with the data set's own indices.
        labels: of the classifier; None if it has none.
        classes: how many the classifier has.
        class_map: a file, see `read_class_map`; None: ILSVRC's and wsolevaluation's indices are the
            classifier's, other categories are looked up among the labels.

    Raises:
        DatasetError: no image is left, or classes do not fit.
    """
    found = _find(reading, labels, classes, class_map)
    examples: list[Example] = []
    for example in reading.examples:
        boxes: dict[int, tuple[Box, ...]] = {}
        for category, there in example.boxes.items():
            if category in found:
                index = found[category][0]
                boxes[index] = (*boxes.get(index, ()), *there)
        if boxes:
            examples.append(dataclasses.replace(example, boxes=boxes))
    unmatched = [n for index, n in enumerate(reading.categories) if index not in found]
    left_out = len(reading.examples) - len(examples)
    if not examples:
        raise DatasetError(
            f"none of the {len(reading.examples)} images shows a class of the classifier: "
            f"{_listed(unmatched) or 'they have no labels'}.",
            "say which of its classes they are with --class-table FILE "
            "(lines of: data set's class,classifier's index or label).",
        )
    notes = reading.notes
    if unmatched:
        notes = (
            *notes,
            f"classes that the classifier does not have: {len(unmatched)} of "
            f"{len(reading.categories)}, {_listed(unmatched)}.",
        )
    if left_out:
        notes = (
            *notes,
            f"images that show no class of its: {left_out} of {len(reading.examples)}.",
        )
    groups: dict[int, tuple[int, ...]] = {}
    for members in found.values():
        if len(members) > 1:
            groups[members[0]] = tuple(dict.fromkeys((*groups.get(members[0], ()), *members)))
    return Dataset(reading.name, examples, reading.categories, notes, groups)


def _find(
    reading: Reading, labels: Sequence[str] | None, classes: int, class_map: Path | None
) -> Found:
    if class_map:
        return read_class_map(class_map, reading, labels, classes)
    if reading.name == "wsolevaluation":
        if len(reading.categories) > classes:
            raise DatasetError(
                f"the data set has class {len(reading.categories) - 1}, the classifier has "
                f"{classes} classes.",
                "give the data set the classifier was trained on, or --class-table FILE.",
            )
        return {index: (index,) for index in range(len(reading.categories))}
    if reading.name == "ILSVRC" and classes == len(reading.categories):
        return {index: (index,) for index in range(classes)}
    if labels is None:
        raise DatasetError(
            f"the classifier has no labels to find the classes of {reading.name} by.",
            "export it with --labels FILE, or give --class-table FILE.",
        )
    table = _label_table(labels)
    found: Found = {}
    for index, name in enumerate(reading.categories):
        aliases = reading.aliases[index] if reading.aliases else ()
        index_of = next(
            (m for n in (*aliases, name) if (m := _look_up(n, table)) is not None), None
        )
        if index_of is not None:
            found[index] = (index_of,)
    return found


def _simple(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").split())


def _label_table(labels: Sequence[str]) -> list[dict[str, int | None]]:
    """Whole labels, then each name of labels such as "tench, Tinca tinca"; None: ambiguous."""
    whole: dict[str, int | None] = {}
    parts: dict[str, int | None] = {}
    for index, label in enumerate(labels):
        wnid, _, rest = label.partition(" ")
        names = [label, *([wnid, rest] if wnid[1:].isdecimal() and wnid[:1] == "n" else [])]
        for table, keys in ((whole, names), (parts, names[-1].split(","))):
            for key in {_simple(key) for key in keys} - {""}:
                table[key] = None if key in table else index
    return [whole, parts]


def _look_up(name: str, tables: list[dict[str, int | None]]) -> int | None:
    for table in tables:
        if (index := table.get(_simple(name))) is not None:
            return index
    return None


def read_class_map(
    path: Path, reading: Reading, labels: Sequence[str] | None, classes: int
) -> Found:
    """A class map: which of the classifier's classes each of the data set's categories is.

    CSV: a line per category, its name and then one or more of the classifier's indices or labels.
    JSON: an object, name to an index, a label, or a list of them.

    Raises:
        DatasetError: malformed, or it names a category or class that does not exist.
    """
    names: dict[str, int] = {}
    for index, name in enumerate(reading.categories):
        for alias in (name, *(reading.aliases[index] if reading.aliases else ())):
            names.setdefault(_simple(alias), index)
    tables = _label_table(labels or ())
    found: Found = {}
    for line, name, values in _entries(path):
        category = names.get(_simple(name))
        if category is None:
            raise malformed(
                path,
                line,
                f"the data set has no class {name!r}.",
                f"its classes are: {_listed(list(reading.categories))}.",
            )
        members = []
        for value in values:
            number = whole(value, MOST_CLASSES)
            index_of = _look_up(value, tables) if number is None else number
            if index_of is None or index_of >= classes:
                raise malformed(
                    path,
                    line,
                    f"the classifier has no class {value!r}.",
                    f"give an index from 0 to {classes - 1}, or a label.",
                )
            members.append(index_of)
        if not members:
            raise malformed(path, line, f"no class for {name!r}.", "give at least one.")
        found[category] = tuple(dict.fromkeys((*found.get(category, ()), *members)))
    return found


def _entries(path: Path) -> list[tuple[int | None, str, list[str]]]:
    if path.suffix.lower() != ".json":
        return [
            (number, row[0].strip(), [cell.strip() for cell in row[1:] if cell.strip()])
            for number, row in rows(path, skipinitialspace=True)
            if any(cell.strip() for cell in row)
        ]
    document = read_json(path)
    if not isinstance(document, Mapping):
        raise malformed(path, None, "not a JSON object.", "give {name: [index or label, ...]}.")
    return [
        (None, name, [str(v) for v in (value if isinstance(value, list) else [value])])
        for name, value in document.items()
    ]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
