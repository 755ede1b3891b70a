"""Every link of the built site leads somewhere, and every public name has a place on it.

    python docs/links.py SITE

Prints each link that leads to no page or to no place on its page, each script, style sheet or
picture that is loaded from elsewhere, and each name of `backlit` that the reference lacks, and
exits 1; or prints how many links there are.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import backlit

LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src"}


class _Page(HTMLParser):
    """What a page links to, what it loads, and which places on it can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.places: set[str] = {""}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.places |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag == "link" and values.get("rel") in ("stylesheet", "icon", "preload"):
            self.loaded.append(values.get("href", ""))
        if tag in LOADED and LOADED[tag] in values:
            self.loaded.append(values[LOADED[tag]])


def broken(site: Path) -> tuple[list[str], int]:
    """One line for each link that leads nowhere, and the number of links that were followed."""
    pages = {
        path.resolve(): _Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")
    }
    wrong, followed = [], 0
    for path, page in pages.items():
        here = path.relative_to(site.resolve())
        for link in page.links + page.loaded:
            parts = urlsplit(link)
            if parts.scheme in ("data", "mailto", "javascript"):
                continue
            if parts.scheme or parts.netloc:
                if link in page.loaded:
                    wrong.append(f"{here}: loads {link} from elsewhere")
                continue
            followed += 1
            start = site.resolve() / unquote(parts.path).lstrip("/")
            target = start if parts.path.startswith("/") else path.parent / unquote(parts.path)
            target = target.resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                wrong.append(f"{here}: there is no {link}")
            elif target in pages and unquote(parts.fragment) not in pages[target].places:
                wrong.append(f"{here}: {link} names no place on that page")
    return sorted(set(wrong)), followed


def undocumented(page: Path) -> list[str]:
    """The public names that have no place on the page of reference, one line each."""
    places = {place.rpartition(".")[2] for place in _Page(page.read_text("utf-8")).places}
    names = [name for name in backlit.__all__ if name != "__version__"]
    return [f"{page.name}: backlit.{name} is missing" for name in names if name not in places]


def main(site: Path) -> int:
    """Print what is wrong; the exit code."""
    wrong, followed = broken(site)
    wrong += undocumented(site / "python.html")
    print("\n".join(wrong) if wrong else f"{followed} links, none broken")
    return 1 if wrong or not followed else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
