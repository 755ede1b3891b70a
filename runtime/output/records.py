"""A log of JSON lines that a killed run can go on with: nothing twice, nothing lost."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import OutputError
from ..files import alone

Record = dict[str, Any]


class Log:
    """A file of one header line and one line per image, each written and flushed at once.

    A process that is killed leaves at most its last line torn; opening the file again drops that
    line and keeps the rest. The header holds what the records depend on, so that a run never goes
    on with records that other settings made.
    """

    def __init__(self, path: Path, header: Mapping[str, Any], restart: bool = False) -> None:
        """Open the file, and make it if it is missing, has no whole line, or ``restart``.

        Args:
            path: of the file.
            header: what the records depend on; JSON values.
            restart: drop the records that are there.

        Raises:
            OutputError: its header is another one, a line is damaged, or it cannot be written.
        """
        self.path = path
        # As it is read back: tuples are lists then.
        self._header: Record = json.loads(json.dumps(header))
        self._offsets: dict[str, int] = {}
        try:
            with ExitStack() as stack:
                self._file = stack.enter_context(path.open("r+b" if path.exists() else "w+b"))
                alone(self._file, path)
                if restart:
                    self._file.truncate(0)
                self._end = self._recover()
                self._file.truncate(self._end)
                if not self._end:
                    self._write(self._header)
                stack.pop_all()  # the file stays open unless something was wrong
        except OSError as error:
            raise self._problem(error) from error

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def __contains__(self, name: str) -> bool:
        return name in self._offsets

    def __len__(self) -> int:
        return len(self._offsets)

    def add(self, record: Record) -> None:
        """Append the record of an image, unless one of its name is there.

        Raises:
            OutputError: it cannot be written.
        """
        if record["image"] not in self._offsets:
            try:
                self._offsets[record["image"]] = self._write(record)
            except OSError as error:
                raise self._problem(error) from error

    def read(self, names: Iterable[str]) -> Iterator[Record]:
        """The records of those images that have one, in the order of the names, one at a time."""
        for name in names:
            if name in self._offsets:
                self._file.seek(self._offsets[name])
                yield json.loads(self._file.readline())

    def _write(self, line: Record) -> int:
        start = self._end
        self._file.seek(start)
        self._end += self._file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
        self._file.flush()
        return start

    def _recover(self) -> int:
        """Find the records, check the header; the end of the last whole line."""
        end = 0
        for number, line in enumerate(self._file):
            if not line.endswith(b"\n"):
                break
            try:
                value = json.loads(line)
                if number:
                    self._offsets[value["image"]] = end
            except (ValueError, KeyError, TypeError) as error:
                raise OutputError(
                    f"line {number + 1} of {self.path} is damaged.",
                    "give -o another folder, or leave --resume out.",
                ) from error
            if not number:
                self._check(value)
            end += len(line)
        return end

    def _check(self, found: Any) -> None:
        there = found if isinstance(found, dict) else {}
        keys = [*self._header, *(key for key in there if key not in self._header)]
        different = [
            f"{key} was {_short(there.get(key))}, not {_short(self._header.get(key))}"
            for key in keys
            if there.get(key) != self._header.get(key)
        ]
        if different:
            raise OutputError(
                f"{self.path} was made with other settings: {'; '.join(different)}.",
                "give -o another folder, or leave --resume out.",
            )

    def _problem(self, error: OSError) -> OutputError:
        return OutputError(
            f"{self.path} cannot be written: {error.strerror or error}.",
            "check its rights and free space, or give -o another folder.",
        )


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
