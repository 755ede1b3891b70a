"""The table of the formats of data sets. A new one is a file beside this one and a row here."""

from __future__ import annotations

from . import coco, ilsvrc, voc, wsolevaluation
from .format import Format

FORMATS: dict[str, Format] = {
    row.name: row for row in (ilsvrc.FORMAT, wsolevaluation.FORMAT, voc.FORMAT, coco.FORMAT)
}
"""Every format by name, in the order in which they are recognised."""
