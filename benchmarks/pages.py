"""Generated parts of README.md, each between two comments."""

from __future__ import annotations

from benchmarks import ROOT

README = ROOT / "README.md"


def put(part: str, name: str) -> None:
    """Write a part between ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->``.

    Raises:
        ValueError: the README has no such comments.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = README.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"README.md has no {begin} ... {end}")
    README.write_text("\n".join([before + begin, part, end + after]), encoding="utf-8")
