"""What a format of data sets is: how it is recognised, and how it is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from .base import Reading


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a reader may be told besides the path.

    Attributes:
        images: the folder of the pictures; None: the format's usual places.
        synsets: ILSVRC's ``LOC_synset_mapping.txt``; None: where it usually is.
        difficult: keep VOC's difficult objects and COCO's crowds.
    """

    images: Path | None = None
    synsets: Path | None = None
    difficult: bool = False


@dataclasses.dataclass(frozen=True)
class Format:
    """A row of the table of formats.

    Attributes:
        name: as ``--dataset-format`` takes it.
        looks: its name, and in brackets what shows it, for people.
        find: from what a user gives, the files or folders that the reader takes: none where the
            path is of another format, several where the user has to choose.
        read: what is in one of them.
    """

    name: str
    looks: str
    find: Callable[[Path], list[Path]]
    read: Callable[[Path, Asked], Reading]
