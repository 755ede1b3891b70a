"""``csv``: a table with a row for each class of each image."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator

from ...text import cell
from .format import Line, Table

COLUMNS = (
    *("image", "width", "height", "class", "label", "score", "x0", "y0", "x1", "y1"),
    *("map", "recipe", "error"),
)
"""Of the table."""


def csv_table(lines: Iterable[Line]) -> Iterator[str]:
    """CSV (RFC 4180, but lines end in a line feed): one row for each class of each image.

    The columns are `COLUMNS`; the box is as in the lines, x1 and y1 exclusive, and empty where
    nothing was found. An image that failed has one row with its error. Names and labels that a
    spreadsheet would compute have an apostrophe before them.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for line in lines:
        size = [cell(line["image"]), line.get("width"), line.get("height")]
        for result in line.get("results", ()):
            box = result["box"] or [None] * 4
            found = [result["class"], cell(result["label"]), result["score"], *box]
            writer.writerow([*size, *found, result["map"], result["recipe"], None])
        if "error" in line:
            writer.writerow([*size, *[None] * 9, cell(line["error"])])
        yield text.getvalue()
        text.seek(0)
        text.truncate()
    yield text.getvalue()


_MARK = re.compile(rb"\A" + ",".join(COLUMNS).encode() + rb"\n")

FORMAT = Table("csv", "boxes.csv", "boxes.csv", csv_table, _MARK)
