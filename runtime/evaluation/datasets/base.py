"""What a data set is once it is read, and what its readers share."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import DatasetError
from ...files import special

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels; x1 and y1 exclusive."""

FARTHEST = 1e7
"""Pixels from an image's corner, which no box is beyond."""
MOST_CLASSES = 1_000_000


@dataclasses.dataclass(frozen=True)
class Example:
    """One labelled image.

    Attributes:
        name: unique in the data set.
        path: of the image file.
        size: (width, height) in pixels in which the boxes are given; None: the image's own.
        boxes: class index to true boxes. A class without boxes is a label only.
    """

    name: str
    path: Path
    size: tuple[int, int] | None
    boxes: Mapping[int, tuple[Box, ...]]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Labelled images, without their pixels.

    Attributes:
        name: ``ILSVRC``, ``wsolevaluation``, ``VOC`` or ``COCO``.
        examples: the images, in the data set's order.
        categories: names of the data set's own classes.
        notes: sentences on what was left out and why; empty if nothing was.
        groups: only where one category stands for several of the classifier's classes (``dog``
            for every breed): the class that `Example.boxes` has, to all of them.
    """

    name: str
    examples: Sequence[Example]
    categories: tuple[str, ...]
    notes: tuple[str, ...] = ()
    groups: Mapping[int, tuple[int, ...]] = dataclasses.field(default_factory=dict)

    def members(self, index: int) -> tuple[int, ...]:
        """The classifier's classes that are right where `Example.boxes` has this one."""
        return self.groups.get(index, (index,))


@dataclasses.dataclass(frozen=True)
class Reading:
    """What a reader returns: boxes by category index, before classes are mapped.

    Attributes:
        name, examples, categories, notes: as in `Dataset`.
        aliases: other names of each category, to look it up by; empty for none.
    """

    name: str
    examples: list[Example]
    categories: tuple[str, ...]
    notes: tuple[str, ...] = ()
    aliases: tuple[tuple[str, ...], ...] = ()


def read_bytes(path: Path) -> bytes:
    """A whole file.

    Raises:
        DatasetError: missing or not readable.
    """
    if special(path):
        raise DatasetError(f"{path} is a pipe or a device.", "copy it into a file first.")
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DatasetError(f"{path} is missing.", "complete the data set.") from error
    except OSError as error:
        raise DatasetError(
            f"{path} cannot be read: {error.strerror or error}.", "check its rights."
        ) from error


def read_text(path: Path) -> str:
    """A text file, UTF-8 with or without a byte order mark, any line ends.

    Raises:
        DatasetError: missing, not readable, or not UTF-8.
    """
    try:
        return read_bytes(path).decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{path} is not UTF-8 text (byte {error.start}).", "save it as UTF-8."
        ) from error


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        DatasetError: missing, not readable, not JSON, or too deep.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise malformed(
            path, error.lineno, f"not JSON ({error.msg}).", "write it again."
        ) from error
    except RecursionError as error:
        raise malformed(path, None, "nested too deeply.", "write it again.") from error
    except ValueError as error:  # a number of thousands of digits
        raise malformed(path, None, f"not JSON ({error}).", "write it again.") from error


def rows(path: Path, **how: Any) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV file, with their numbers from 1; ``how`` as csv.reader takes it.

    Raises:
        DatasetError: missing, not readable, not UTF-8, or no CSV.
    """
    number = 0
    try:
        for number, row in enumerate(csv.reader(read_text(path).splitlines(), **how), start=1):
            yield number, row
    except csv.Error as error:
        raise malformed(path, number + 1, f"not CSV ({error}).", "write it again.") from error


def whole(text: str, most: int) -> int | None:
    """A whole number from 0 to ``most``; None if the text is none."""
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(most))):
        return None
    return number if (number := int(text)) <= most else None


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file that are not blank, stripped, with their numbers from 1."""
    # Not splitlines(), which also splits at form feeds and other separators.
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield number, line.strip()


def malformed(path: Path, line: int | None, problem: str, fix: str) -> DatasetError:
    """The error for one place in a file."""
    return DatasetError(f"{path}{'' if line is None else f', line {line}'}: {problem}", fix)


def inclusive_box(values: Sequence[str], first: int, path: Path, line: int | None) -> Box:
    """A box from the texts of its first and last pixels, as (x0, y0, x1, y1), x1, y1 exclusive.

    Args:
        values: four numbers: x and y of the first pixel, x and y of the last.
        first: what the first pixel of an image is counted as.
        path: of the file, for messages.
        line: in the file.

    Raises:
        DatasetError: not numbers, or the last pixel lies before the first.
    """
    try:
        x0, y0, x1, y1 = (float(value) for value in values)
    except ValueError as error:
        raise malformed(
            path, line, f"{' '.join(values)!r} is not a box.", "a box is four numbers x0 y0 x1 y1."
        ) from error
    if not all(abs(edge) <= FARTHEST for edge in (x0, y0, x1, y1)) or x1 < x0 or y1 < y0:
        raise malformed(
            path,
            line,
            f"the box {' '.join(values)} ends before it begins, or lies nowhere.",
            "a box is x0 y0 x1 y1 with x0 <= x1 and y0 <= y1.",
        )
    # Tools that count from 0 write files that say they count from 1; no box begins outside.
    return max(x0 - first, 0.0), max(y0 - first, 0.0), x1 - first + 1, y1 - first + 1


def stays(name: str) -> bool:
    """Whether a relative path leads to what lies below."""
    return not name.startswith(("/", "\\")) and ".." not in name.split("/") and "\0" not in name


def find_images(
    names: Sequence[str], folders: Sequence[Path], suffixes: Sequence[str] = ("",)
) -> dict[str, Path]:
    """Where the images of a data set lie.

    The first folder is taken that has any of the names: as they are, without their first
    subfolders, or one folder deeper (ImageNet's folder per class). Nothing outside of a folder is
    looked at: of an absolute name, or one with ``..``, what follows may lie in it.

    Args:
        names: relative paths with ``/``.
        folders: where they may lie, best first.
        suffixes: tried in this order after each name.

    Returns:
        The names found, with their files.
    """
    parts = [name.split("/") for name in names]
    depth = max(map(len, parts), default=0)
    for folder in dict.fromkeys(folders):
        for cut in range(depth + 1):
            keys = ["/".join(part[min(cut, len(part) - 1) :]) for part in parts]
            if len(set(keys)) < len(keys):  # only the subfolders tell these images apart
                break
            if cut < depth:
                subfolders = {key.rpartition("/")[0] for key in keys if stays(key)}
                files = _files(folder, subfolders)
            else:
                deeper = _files(folder, _entries(folder))
                files = {key.rpartition("/")[2]: file for key, file in deeper.items()}
            found = {
                name: Path(files[key + suffix])
                for suffix in reversed(suffixes)
                for name, key in zip(names, keys, strict=True)
                if key + suffix in files
            }
            if found:
                return found
    return {}


def _files(folder: Path, subfolders: Iterable[str]) -> dict[str, str]:
    """What lies in some subfolders, by path from the folder; far faster than file by file."""
    return {
        f"{sub}/{entry}" if sub else entry: os.path.join(folder, sub, entry)
        for sub in sorted(subfolders)
        for entry in _entries(folder / sub)
    }


def _entries(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # a file, or not there
        return []


def missing_images(
    names: Sequence[str], files: Mapping[str, Path], folders: Sequence[Path]
) -> tuple[str, ...]:
    """A note on the images that were not found; none if all were.

    Raises:
        DatasetError: none was found.
    """
    missing = [name for name in names if name not in files]
    if len(missing) == len(names):
        looked = ", ".join(str(folder) for folder in folders)
        raise DatasetError(
            f"none of the {len(names)} images was found; {names[0]} is not in: {looked}.",
            "give their folder as --image-folder FOLDER.",
        )
    if not missing:
        return ()
    return (f"images that are missing: {len(missing)} of {len(names)}, {missing[0]} the first.",)
