"""The README and the pages of docs/, and the commands and the Python in their fenced blocks."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"(<!-- not run: (?P<reason>[^\n]*) -->\n)?"
    r"^( *)```(?P<language>\w*)\n(?P<text>.*?)^\3```",
    re.MULTILINE | re.DOTALL,
)


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        language: after the fence, or empty: commands.
        reason: why it is not run, or None: it is.
    """

    language: str
    text: str
    reason: str | None

    def commands(self) -> Iterator[str]:
        """Its lines of commands, without comments."""
        if self.language in ("", "sh"):
            for line in self.text.splitlines():
                if words := shlex.split(line, comments=True):
                    yield shlex.join(words)

    def calls(self) -> Iterator[list[str]]:
        """The arguments of every `backlit` in it; behind a pipe, too."""
        for line in self.commands():
            words = shlex.split(line)
            if "backlit" in words:
                yield words[words.index("backlit") + 1 :]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, from top to bottom."""
    found = BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [Block(block["language"], block["text"], block["reason"]) for block in found]


def tables(page: Path) -> list[list[str]]:
    """The rows of each table of a page, its head and the line below it left out."""
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    found = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return [table.splitlines()[2:] for table in found]
