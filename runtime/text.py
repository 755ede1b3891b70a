"""Text that is shown to people: what a terminal would obey instead of showing it, spelt out."""

from __future__ import annotations

import re

UNSEEN = r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
"""A pattern: characters that move a cursor, end a line or turn the direction of what follows, and
halves of characters."""

_UNSEEN_IN_LINES = re.compile(UNSEEN.replace(r"\x00-\x1f", r"\x00-\x09\x0b-\x1f"))


def plain(text: str, longest: int = 4096) -> str:
    r"""A text in which such characters are spelt as in Python (``\x1b``), but for line feeds.

    Args:
        text: from a file or from a user.
        longest: characters that are kept.
    """
    return _UNSEEN_IN_LINES.sub(lambda found: ascii(found[0])[1:-1], text)[:longest]


def one_line(text: str) -> str:
    """As `plain`, with line feeds spelt out too."""
    return plain(text).replace("\n", r"\n")


def cell(text: str | None) -> str | None:
    """A text as a table's cell: a spreadsheet computes what begins with ``=``, ``+``, ``-``, ``@``.

    An apostrophe before it, which a spreadsheet does not show, makes it a text.
    """
    return f"'{text}" if text and text[0] in "=+-@\t\r" else text
