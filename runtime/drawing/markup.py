"""Fragments of HTML that a notebook shows: a picture, a table."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..arrays import Floats, Index
    from .seen import Box


def figure(jpeg: bytes, name: str) -> str:
    """A picture within the page."""
    data = base64.b64encode(jpeg).decode()
    return (
        f'<img src="data:image/jpeg;base64,{data}" alt="{escape(name, quote=True)}" '
        'style="max-width:100%" />'
    )


def listed(name: str, table: Sequence[Sequence[str]], note: str = "") -> str:
    """A table of texts, the first row its head, with a heading and a sentence below."""
    head, *body = (_row(row, "td" if place else "th") for place, row in enumerate(table))
    after = f"<p>{escape(note)}</p>" if note else ""
    return (
        f"<div><b>{escape(name)}</b></div><table><thead>{head}</thead>"
        f"<tbody>{''.join(body)}</tbody></table>{after}"
    )


def table(
    classes: Index,
    labels: Sequence[str | None] | None,
    scores: Floats,
    boxes: Sequence[Box | None] | None,
) -> list[list[str]]:
    """Classes, scores and boxes as texts, a head above them; arguments as in `seen.Objects`."""
    rows = [["class", "score"] + ["box"] * (boxes is not None)]
    names = labels or (None,) * len(classes)
    for place, (index, label, score) in enumerate(zip(classes, names, scores, strict=True)):
        box = [] if boxes is None else [str(boxes[place] or "nothing found")]
        rows.append([label or f"class {index}", f"{score:.2f}", *box])
    return rows


def _row(texts: Sequence[str], kind: str) -> str:
    cells = (f'<{kind} style="text-align:left">{escape(text)}</{kind}>' for text in texts)
    return f"<tr>{''.join(cells)}</tr>"
