"""Which classes are explained: indices, ranks, labels."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from ..arrays import Index
from ..backend.interface import check_class
from ..contract import MOST_RANKS, Contract
from ..errors import ClassError

Classes = int | str | Sequence[int | str] | Sequence[Sequence[int | str]] | npt.NDArray[np.integer]


def ranks(top: int, classes: int) -> Index:
    """``class_index`` of the ``top`` best classes: int64 [1,top], -1, -2, ...

    Raises:
        ClassError: top is not in 1..min(classes, 1000).
    """
    most = min(classes, MOST_RANKS)
    if not 1 <= top <= most:
        raise ClassError(
            f"top={top} is out of range: the file has {classes} classes.",
            f"ask for 1 to {most}.",
        )
    return -np.arange(1, top + 1, dtype=np.int64)[None]


def resolve(
    classes: Classes | None, top: int, contract: Contract, images: int | None = None
) -> Index:
    """The classes to explain, as the graph takes them.

    Args:
        classes: an index or label, K of them for all images, or K for each image [N,K]. Negative
            indices are ranks: -1 is the top-scoring class. None: the ``top`` best.
        top: used if classes is None.
        contract: of the file.
        images: how many images there are, to check N; None if that is unknown.

    Returns:
        int64 [1,K], or [N,K] where the images differ.

    Raises:
        ClassError: an index out of range, an unknown label, or rows that do not fit.
    """
    if classes is None:
        return ranks(top, contract.score.classes)
    if isinstance(classes, np.ndarray):
        if classes.dtype.kind not in "iuU":
            raise ClassError(
                f"classes is an array of {classes.dtype}.", "pass integers or strings."
            )
        classes = classes.tolist()
    values = list(classes) if _many(classes) else [classes]
    rows = [list(value) for value in values if _many(value)]
    if not rows:
        rows = [values]
    elif len(rows) != len(values) or len({len(row) for row in rows}) != 1:
        raise ClassError("the rows of classes differ in length.", "pass K classes for each image.")
    elif images is not None and len(rows) not in (1, images):
        raise ClassError(
            f"classes has {len(rows)} rows for {images} images.", "pass one row for each image."
        )
    if not rows[0]:
        raise ClassError("no class was given.", "pass at least one, or leave classes out.")
    return np.array([[find(value, contract) for value in row] for row in rows], np.int64)


def _many(value: object) -> TypeGuard[Iterable[Any]]:
    return isinstance(value, Iterable) and not isinstance(value, str)


def find(value: object, contract: Contract) -> int:
    """Index of a class given by index or label.

    A label is compared exactly, then without case, then with each name of a list such as
    ``tench, Tinca tinca``; only a label that fits one class is taken.

    Raises:
        ClassError: names the range, or the labels that come close.
    """
    count = contract.score.classes
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return check_class(int(value), contract)
    if not isinstance(value, str):
        raise ClassError(f"{value!r} is not a class.", "pass an integer or a label.")
    labels = contract.labels
    if labels is None:
        raise ClassError(
            f"the file has no labels, so {value!r} cannot be looked up.",
            f"give an index from 0 to {count - 1}, or export with --labels FILE.",
        )
    wanted = value.strip().lower()
    names = [label.strip().lower() for label in labels]
    for matching in (
        [index for index, label in enumerate(labels) if label == value],
        [index for index, name in enumerate(names) if name == wanted],
        [
            index
            for index, name in enumerate(names)
            if wanted in [part.strip() for part in name.split(",")]
        ],
    ):
        if len(matching) == 1:
            return matching[0]
        if matching:
            listed = ", ".join(str(index) for index in matching[:10])
            raise ClassError(f"{value!r} names several classes: {listed}.", "give the index.")
    close = difflib.get_close_matches(wanted, names, n=3, cutoff=0.5)
    close = close or [name for name in names if wanted and wanted in name][:3]
    hint = ", ".join(repr(labels[names.index(name)]) for name in close)
    raise ClassError(
        f"there is no class {value!r}.",
        f"did you mean {hint}?" if hint else f"give a label or an index from 0 to {count - 1}.",
    )
