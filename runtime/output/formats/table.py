"""The table of formats. A new one is a module beside this one and a row here."""

from __future__ import annotations

from . import coco, csv_table, jsonl, voc
from .format import Format

FORMATS: dict[str, Format] = {
    row.name: row for row in (jsonl.FORMAT, coco.FORMAT, voc.FORMAT, csv_table.FORMAT)
}
"""Every format by its name. The command's choices and its help are made from this table."""
