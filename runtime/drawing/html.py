"""A report as one HTML file that needs nothing else: no network, no script, no font, no library.

It takes plain data (texts, numbers, pictures), so that every command can report with it. Every text
is escaped; pictures are JPEG data URIs of a bounded size; the elements are well-formed XML, so that
the page can be read by programs too.
"""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Sequence
from html import escape

from PIL import Image

from ..arrays import Pixels
from .charts import Chart, legend, svg

_QUALITIES = (85, 75, 65, 50, 35, 20)
_BEST = ' class="best"'


@dataclasses.dataclass(frozen=True)
class Cell:
    """A number in a table.

    Attributes:
        text: the number as it is shown.
        detail: what stands small beside it, such as its interval.
        best: it is the best of its row.
    """

    text: str
    detail: str = ""
    best: bool = False


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a table: what it is about, a word on how it is meant, and its cells."""

    name: str
    cells: tuple[Cell, ...]
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """A table with named columns; ``columns`` is one longer than each row's cells."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture, JPEG, with the text for those who do not see it."""

    jpeg: bytes
    text: str


@dataclasses.dataclass(frozen=True)
class Case:
    """One example: pictures side by side under a name, and a line that says what is seen."""

    name: str
    caption: str
    pictures: tuple[Picture, ...]


@dataclasses.dataclass(frozen=True)
class Gallery:
    """Examples of one kind."""

    title: str
    cases: tuple[Case, ...]
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Part:
    """Tables, charts and galleries that answer one question, under a heading of their own.

    Attributes:
        title: the question.
        text: paragraphs: what was done, what it shows and what it does not.
        sections: the answer.
        verdict: it in a word or a line; empty: there is none.
        good: whether that is good; None: neither.
    """

    title: str
    text: tuple[str, ...]
    sections: tuple[Table | Chart | Gallery, ...] = ()
    verdict: str = ""
    good: bool | None = None


Section = Table | Chart | Gallery | Part


@dataclasses.dataclass(frozen=True)
class Report:
    """A page.

    Attributes:
        title: heading, and the name of the browser's tab.
        summary: one or two sentences: what was found.
        facts: what it is about: pairs of name and value.
        sections: in the order of the page.
        footer: who made it.
    """

    title: str
    summary: str
    facts: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]
    footer: str = ""


def html(report: Report) -> str:
    """The page, complete."""
    facts = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in report.facts
    )
    sections = "\n".join(_section(section) for section in report.sections)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8" />
<meta name="generator" content="Backlit" />
<meta name="viewport" content="width=device-width, initial-scale=1" />
<meta name="color-scheme" content="light dark" />
<title>{escape(report.title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<header>
<h1>{escape(report.title)}</h1>
<p class="summary">{escape(report.summary)}</p>
<dl>{facts}</dl>
</header>
<main>
{sections}
</main>
<footer><p>{escape(report.footer)}</p></footer>
</body>
</html>
"""


def jpeg(picture: Pixels, most: int = 16_000) -> bytes:
    """A picture as JPEG of at most ``most`` bytes: of lower quality, then smaller, until it fits.

    Args:
        picture: uint8 [h,w,3] RGB.
        most: bytes; 1000 or more always succeed.
    """
    image = Image.fromarray(picture)
    while True:
        for quality in _QUALITIES:
            file = io.BytesIO()
            # Full colour resolution: boxes are thin coloured lines.
            image.save(file, "jpeg", quality=quality, subsampling=0)
            if file.tell() <= most or max(image.size) <= 8:
                return file.getvalue()
        image = image.resize([max(1, side * 3 // 4) for side in image.size])  # type: ignore[arg-type, unused-ignore]


def _section(section: Section, level: int = 2) -> str:
    heading = f"<h{level}>{escape(section.title)}</h{level}>" if section.title else ""
    if isinstance(section, Part):
        inside = [_section(one, level + 1) for one in section.sections]
        parts = [heading, *_words(section), *inside]
        return "\n".join(['<section class="part">', *filter(None, parts), "</section>"])
    body = {Table: _table, Chart: _chart, Gallery: _gallery}[type(section)](section)  # type: ignore[operator]
    note = f'<p class="note">{escape(section.note)}</p>' if section.note else ""
    order = (note, body) if isinstance(section, Gallery) else (body, note)
    return "\n".join(["<section>", *filter(None, (heading, *order)), "</section>"])


def _words(part: Part) -> list[str]:
    mark = {True: "good", False: "bad", None: "neither"}[part.good]
    sign = {True: "\u2713 ", False: "\u2717 ", None: ""}[part.good]
    verdict = f'<p class="verdict {mark}">{sign}{escape(part.verdict)}</p>' if part.verdict else ""
    return [verdict, *(f'<p class="text">{escape(text)}</p>' for text in part.text)]


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.columns)
    rows = "\n".join(_row(row) for row in table.rows)
    return (
        f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n'
        "</tbody>\n</table></div>"
    )


def _row(row: Row) -> str:
    note = f"<small>{escape(row.note)}</small>" if row.note else ""
    cells = [
        f"<td{_BEST if cell.best else ''}>{escape(cell.text)}"
        + (f"<small>{escape(cell.detail)}</small>" if cell.detail else "")
        + "</td>"
        for cell in row.cells
    ]
    return f'<tr><th scope="row">{escape(row.name)}{note}</th>{"".join(cells)}</tr>'


def _chart(chart: Chart) -> str:
    return f"<figure>\n{legend(chart)}\n{svg(chart)}\n</figure>"


def _gallery(gallery: Gallery) -> str:
    return f'<div class="gallery">\n{"".join(_case(case) for case in gallery.cases)}</div>'


def _case(case: Case) -> str:
    return (
        f'<figure>\n<div class="row">{_images(case.pictures)}</div>\n'
        f"<figcaption><b>{escape(case.name)}</b> {escape(case.caption)}</figcaption>\n</figure>\n"
    )


def _images(pictures: Sequence[Picture]) -> str:
    return "".join(
        f'<img loading="lazy" alt="{escape(one.text, quote=True)}" '
        f'src="data:image/jpeg;base64,{base64.b64encode(one.jpeg).decode()}" />'
        for one in pictures
    )


# Line colours: Okabe and Ito, which the colour-blind tell apart; lighter where the page is dark.
_STYLE = """
:root { --paper: #fcfcfa; --ink: #1c1c1e; --faint: #62626a; --edge: #d9d9dc; --mark: #e4f0f7;
  --good: #dcefe6; --bad: #f9e2d6;
  --line-0: #0072b2; --line-1: #d55e00; --line-2: #4d4d4d; --line-3: #009e73; --line-4: #a8568a;
  --line-5: #8a7000; }
@media (prefers-color-scheme: dark) { :root { --paper: #17181a; --ink: #e9e9ea; --faint: #a2a2aa;
  --edge: #3a3b40; --mark: #12384f; --good: #14402f; --bad: #5a2b12;
  --line-0: #56b4e9; --line-1: #f08c3a; --line-2: #c4c4c8;
  --line-3: #3ec99f; --line-4: #dd9cc4; --line-5: #f0e442; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 68rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0.5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 0.7rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 0.5rem; }
.part { border-top: 1px solid var(--edge); margin-top: 2.4rem; }
.text { max-width: 46rem; margin: 0.5rem 0; }
.verdict { display: inline-block; margin: 0 0 0.3rem; padding: 0.15rem 0.7rem; border-radius: 4px;
  background: var(--mark); font-weight: 600; }
.verdict.good { background: var(--good); }
.verdict.bad { background: var(--bad); }
.summary { font-size: 1.1rem; max-width: 46rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.1rem 1rem; margin: 1rem 0; }
dt, small, .note, footer { color: var(--faint); }
dd { margin: 0; overflow-wrap: anywhere; }
small { display: block; font-size: 0.78rem; font-weight: normal; }
.note, footer { font-size: 0.88rem; max-width: 46rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.35rem 0.9rem; border-bottom: 1px solid var(--edge); text-align: right;
  vertical-align: top; }
th:first-child { text-align: left; padding-left: 0; }
tbody th { font-weight: 500; }
td { white-space: nowrap; }
.best { background: var(--mark); font-weight: 650; }
figure { margin: 0; }
.chart { display: block; width: 100%; max-width: 46rem; height: auto; }
.chart text { fill: var(--faint); font: 12px system-ui, sans-serif; }
.grid { stroke: var(--edge); stroke-width: 1; }
.line { fill: none; stroke-width: 2.2; stroke-linejoin: round; }
.band { stroke: none; opacity: 0.13; }
.legend { display: flex; flex-wrap: wrap; gap: 0.3rem 1.4rem; list-style: none; margin: 0 0 0.4rem;
  padding: 0; }
.key { width: 34px; height: 8px; margin-right: 0.5rem; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill,
  minmax(min(27rem, 100%), 1fr)); gap: 1.4rem; }
.row { display: flex; gap: 4px; }
.row img { flex: 1 1 0; min-width: 0; width: 100%; height: auto; align-self: start; }
figcaption { font-size: 0.86rem; margin-top: 0.3rem; overflow-wrap: anywhere; }
@media (max-width: 34rem) { .chart text { font-size: 15px; } }
@media print { body { max-width: none; } .gallery { grid-template-columns: repeat(3, 1fr); } }
"""
