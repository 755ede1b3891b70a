"""What a command did: it worked, it refused in words, or neither."""

from __future__ import annotations

import re
from typing import Literal

Verdict = Literal["worked", "refused", "raw", "noise", "hang", "death"]
"""``raw``: an exception, a message without its fix, an exit code that there is not. ``noise``: what
a library wrote on stderr past the command. ``hang``: longer than the limit. ``death``: the process
ended."""

_OURS = re.compile(r"^error: .+\n(?:.*\n)*?  fix: \S", re.MULTILINE)
_CLICK = re.compile(r"^Error: \S", re.MULTILINE)
_UNEXPECTED = ("Traceback (most recent call last)", "error: this is a bug in Backlit")
_ANSWER = "not taken whole"
"""What `backlit check` has to say of a good file, with exit code 1."""
_WARNING = re.compile(r"^\S+:\d+: \w*Warning: ", re.MULTILINE)
_LIBTIFF = re.compile(r"^[\w.]+: .+[.!]?$", re.MULTILINE)
"""What libtiff says on stderr, which Pillow cannot turn off."""


def judge(code: int, raised: BaseException | None, stderr: str, native: str) -> tuple[Verdict, str]:
    """The verdict on a run, and what it said.

    Args:
        code: the exit code.
        raised: what left the command, if not SystemExit.
        stderr: what it wrote there.
        native: what libraries wrote past Python.
    """
    said = stderr.strip()
    if raised is not None:
        return "raw", f"{type(raised).__name__}: {raised}"
    if any(text in stderr for text in _UNEXPECTED):
        return "raw", said
    if _WARNING.search(stderr):
        return "noise", said
    if rest := _LIBTIFF.sub("", native).strip():
        return "noise", rest
    if code == 0:
        return "worked", said
    if code == 1 and _ANSWER in stderr:
        return "worked", said
    spoken = _OURS.search(stderr) or (code == 2 and _CLICK.search(stderr))
    if code not in (1, 2, 3) or not spoken:
        return "raw", f"exit code {code}, {said or 'nothing said'}"
    return "refused", said
