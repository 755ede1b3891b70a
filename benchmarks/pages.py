"""Generated parts of pages in docs/, each between two comments."""

from __future__ import annotations

from benchmarks import ROOT

DOCS = ROOT / "docs"
PAGES = {
    "bench": "measured/index.md", "boxes": "boxes.md", "zoo": "measured/torchvision.md",
    "tools": "what-goes-in.md", "planted": "measured/planted.md",
    "proving": "measured/boxes.md",
}  # fmt: skip
"""Which page has a part."""


def put(part: str, name: str) -> None:
    """Write a part between ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->`` of its page.

    Raises:
        ValueError: the page has no such comments.
    """
    page = DOCS / PAGES[name]
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{page} has no {begin} ... {end}")
    page.write_text("\n".join([before + begin, part, end + after]), encoding="utf-8")
