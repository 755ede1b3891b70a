"""What a format of results is: how it is written from the lines of ``localize``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ...files import NOTHING_READ, folder, whole_file
from ...guard import Guard, Mark
from ..names import Names
from ..run_log import Line as Line


def encoded(text: str) -> bytes:
    """UTF-8, with file names in it as the bytes that they are."""
    return text.encode("utf-8", "surrogateescape")


@dataclasses.dataclass(frozen=True)
class Format:
    """A row of the table. Lines are taken one by one, and none is held.

    Attributes:
        name: as users write it.
        help: what is written, for the command's help: ``boxes.csv``.
    """

    name: str
    help: str

    def write(
        self, lines: Iterable[Line], target: Path, names: Names, guard: Guard = NOTHING_READ
    ) -> None:
        """Write the lines; every file is whole or absent.

        Args:
            lines: of all images, in order.
            target: an existing folder.
            names: a new one, which names files as the images' other files are named.
            guard: what must not be replaced.

        Raises:
            OutputError: a file cannot be written, or would replace what must stay.
        """
        raise NotImplementedError

    def check(self, target: Path, stems: Iterable[str], guard: Guard) -> None:
        """Before the work, see that what will be written replaces nothing that must stay.

        Args:
            target: the folder.
            stems: names of the images' files.
            guard: what must not be replaced.

        Raises:
            OutputError: it would.
        """
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Table(Format):
    """A format that is one text, which can be printed as well.

    Attributes:
        file: its name in the folder; empty: the log of the run has it already.
        pieces: the text, piece by piece.
        mark: what the file is known by; without, it may only stay as it is.
    """

    file: str
    pieces: Callable[[Iterable[Line]], Iterator[str]]
    mark: Mark | None = None

    def write(
        self, lines: Iterable[Line], target: Path, names: Names, guard: Guard = NOTHING_READ
    ) -> None:
        """Write the text."""
        if not self.file:
            return
        with whole_file(target / self.file, self.mark, guard) as file:
            for piece in self.pieces(lines):
                file.write(encoded(piece))

    def check(self, target: Path, stems: Iterable[str], guard: Guard) -> None:
        """Look at the one file."""
        if self.file and self.mark is not None:
            guard.check(target / self.file, self.mark)


@dataclasses.dataclass(frozen=True)
class Folder(Format):
    """A format that is one file for each image in which the run did not fail.

    Attributes:
        inside: the folder for them, below the run's.
        suffix: of each file, with its dot.
        content: of the file of a line.
        mark: what each file is known by; without, it may only stay as it is.
    """

    inside: str
    suffix: str
    content: Callable[[Line], bytes]
    mark: Mark | None = None

    def write(
        self, lines: Iterable[Line], target: Path, names: Names, guard: Guard = NOTHING_READ
    ) -> None:
        """Write the files."""
        made = folder(target / self.inside)
        for line in lines:
            name = names.take(line["image"])
            if "results" in line:
                with whole_file(made / f"{name}{self.suffix}", self.mark, guard) as file:
                    file.write(self.content(line))

    def check(self, target: Path, stems: Iterable[str], guard: Guard) -> None:
        """Look at the file of each image."""
        for stem in stems if self.mark is not None else ():
            guard.check(target / self.inside / f"{stem}{self.suffix}", self.mark)
