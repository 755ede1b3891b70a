"""The lines of a run on disk: they grow as the run goes, and a killed run goes on where it stopped.

``NAME.jsonl`` has one line for each image that is done, written and flushed when the image's other
files are there; ``localize`` writes ``boxes.jsonl``, ``evaluate`` ``records.jsonl``.
``NAME.run.json`` beside it holds what the lines depend on and whether the run was finished. Whoever
has a log holds the folder's lock (`locks.alone`).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import OptionError, OutputError, unwritable
from ..files import NOTHING_READ, whole_file
from ..guard import Guard, Mark
from ..saved import JSON
from ..stages import Pause

Line = dict[str, Any]
"""What a run says of one image: JSON values by name, ``image`` among them."""

_LINES: Mark = re.compile(rb'\A\{"image": "')
_SIDE: Mark = re.compile(rb'\A\{"finished": (true|false), "settings": \{')


class RunLog:
    """``NAME.jsonl`` of a run. A context manager: leaving it closes the file, whatever happened.

    Attributes:
        path: the lines.
        done: how many images have one.
        failed: how many of those are errors.
    """

    def __init__(
        self,
        folder: Path,
        settings: dict[str, Any],
        resume: bool,
        name: str = "boxes",
        mark: Mark = JSON,
        guard: Guard = NOTHING_READ,
    ) -> None:
        """Look at what is there, and change nothing yet.

        Args:
            folder: an existing folder.
            settings: JSON object of what the results depend on.
            resume: go on after the lines that are there; without lines begin anew.
            name: of the files.
            mark: what its lines are known by where they are without their ``NAME.run.json``.
            guard: what must not be replaced.

        Raises:
            OptionError: an unfinished run is there that would be lost, or that had other settings.
            OutputError: lines cannot be read, or something else wrote them.
        """
        self.path = folder / f"{name}.jsonl"
        self.done = self.failed = 0
        self._side = folder / f"{name}.run.json"
        self._previous = folder / f"{name}.previous.jsonl"
        self._settings, self._resume = json.loads(json.dumps(settings)), resume
        self._file: FileIO | None = None
        self._end = 0  # of the last whole line
        self._places: dict[str, int] | None = None  # where the lines of images begin
        self._guard = guard
        before = _read_side(self._side)
        lines = mark if before is None else _LINES
        for path, known in ((self.path, lines), (self._previous, lines), (self._side, _SIDE)):
            if not (resume and path == self.path):  # which may be torn in its first line
                guard.check(path, known)
        if not self.path.exists():
            self._resume = False
            return
        if resume:
            self._check(before)
        elif before is not None and not before["finished"]:
            raise OptionError(
                f"{self.path} is of a run that was not finished.",
                "go on with it by --resume, give -o another folder, or delete that file to begin "
                "anew.",
            )

    def skip(self, images: Iterator[str | Pause]) -> None:
        """Take the images from a list that have a line already.

        Raises:
            OptionError: the list names other images than the lines.
            OutputError: a line is damaged.
        """
        if not self._resume:
            return
        for line, end in self._whole_lines():
            image = next((one for one in images if not isinstance(one, Pause)), None)
            if line["image"] != image:
                named = "the list ends" if image is None else f"the list has {image}"
                raise OptionError(
                    f"image {self.done + 1} of {self.path} is {line['image']}, but {named}.",
                    "give the same images in the same order, more of them only at the end; or give "
                    "-o another folder.",
                )
            self.done += 1
            self.failed += "error" in line
            self._end = end

    def find(self) -> None:
        """Keep in mind where each image's line is, for images in any order: ``in``, ``read``.

        Raises:
            OutputError: a line is damaged.
        """
        self._places = {}
        if not self._resume:
            return
        for line, end in self._whole_lines():
            self._places[line["image"]] = self._end
            self.done += 1
            self.failed += "error" in line
            self._end = end

    def __contains__(self, image: str) -> bool:
        return image in (self._places or ())

    def read(self, images: Iterable[str]) -> Iterator[Line]:
        """The lines of those images that have one, in the order given, one at a time.

        Raises:
            OutputError: the file cannot be read.
        """
        places = self._places or {}
        there = [places[image] for image in images if image in places]
        if not there:
            return
        try:
            with self.path.open("rb") as file:
                for place in there:
                    file.seek(place)
                    yield _line(file.readline(), f"{self.path}, byte {place},")
        except OSError as error:
            raise _unreadable(self.path, error) from error

    def add(self, line: Line) -> None:
        """Append the line of the next image; it is on disk when this returns.

        Raises:
            OutputError: it cannot be written.
        """
        try:
            if self._file is None:
                self._file = self._begin()
            text = json.dumps(line).encode() + b"\n"
            left = memoryview(text)
            while left:  # a disk that is nearly full takes a part
                left = left[self._file.write(left) :]
        except OSError as error:
            if self._file is not None:
                with contextlib.suppress(OSError):
                    self._file.truncate(self._end)
            raise unwritable(self.path, error) from error
        if self._places is not None:
            self._places[line["image"]] = self._end
        self._end += len(text)
        self.done += 1
        self.failed += "error" in line

    def lines(self) -> Iterator[Line]:
        """The lines of all images that are done, read from the file."""
        for line, _ in self._whole_lines():
            yield line

    def end(self) -> None:
        """Nothing more will be added: the lines are complete, however the disk fails.

        Raises:
            OutputError: that cannot be written.
        """
        try:
            if self._file is None:
                self._file = self._begin()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise unwritable(self.path, error) from error

    def finish(self) -> None:
        """Say that all is written, and let go of the lines of the run before this one.

        Raises:
            OutputError: that cannot be written.
        """
        try:
            self._note(finished=True)
            self._previous.unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(self.path, error) from error

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            try:
                self._file.close()
            except OSError as failure:  # a network file system says late that it is full
                raise unwritable(self.path, failure) from failure

    def _begin(self) -> FileIO:
        """Open the file for the first new line."""
        if not self._resume:
            # The lines of a finished run stay until those of this one are complete.
            if self.path.exists():
                self.path.replace(self._previous)
            self._note(finished=False)
            return self.path.open("xb", buffering=0)  # what is written is on its way to the disk
        self._note(finished=False)
        file = self.path.open("ab", buffering=0)
        file.truncate(self._end)  # a line that was torn
        return file

    def _note(self, finished: bool) -> None:
        with whole_file(self._side, _SIDE, self._guard) as file:
            file.write(json.dumps({"finished": finished, "settings": self._settings}).encode())

    def _check(self, before: Line | None) -> None:
        if before is None:
            raise OutputError(
                f"{self.path} was not written by a run that can be resumed: {self._side.name} is "
                "missing or damaged.",
                "give -o another folder, or leave --resume out.",
            )
        had = before["settings"]
        different = [
            f"{key} {_short(had.get(key))}, not {_short(self._settings.get(key))}"
            for key in [*self._settings, *(key for key in had if key not in self._settings)]
            if had.get(key) != self._settings.get(key)
        ]
        if different:
            raise OptionError(
                f"the run in {self.path.parent} was begun with {'; with '.join(different)}.",
                "resume with the options it was begun with, or give -o another folder.",
            )

    def _whole_lines(self) -> Iterator[tuple[Line, int]]:
        """Each line and where it ends; the last one was torn if it has no end."""
        try:
            with self.path.open("rb") as file:
                end = 0
                for number, text in enumerate(file, 1):
                    if not text.endswith(b"\n"):
                        _torn(text, f"{self.path}, line {number},")
                        return
                    end += len(text)
                    yield _line(text, f"{self.path}, line {number},"), end
        except OSError as error:
            raise _unreadable(self.path, error) from error


def _unreadable(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{path} cannot be read: {error.strerror}.", "check its rights.")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _line(text: bytes, where: str) -> Line:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        line = None
    if not isinstance(line, dict) or not isinstance(line.get("image"), str):
        raise _no_line(where)
    return line


def _torn(text: bytes, where: str) -> None:
    """Refuse what is no beginning of a line, because somebody else may want it."""
    begin, found = b'{"image":"', text.replace(b" ", b"")
    # After a power failure a file may end in zeros.
    if not (found.startswith(begin) or begin.startswith(found.rstrip(b"\0"))):
        raise _no_line(where)


def _no_line(where: str) -> OutputError:
    return OutputError(
        f"{where} is not the line of an image.", "delete it and all after it, and resume."
    )


def _read_side(path: Path) -> Line | None:
    try:
        side = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    whole = isinstance(side, dict) and isinstance(side.get("settings"), dict)
    return side if whole and "finished" in side else None
