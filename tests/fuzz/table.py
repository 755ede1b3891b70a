"""The table of the kinds of hostile input. A new one is a file beside this one and a row here."""

from __future__ import annotations

from . import backlit_files, command_lines, dataset_files, onnx_files, pictures
from .kind import Kind

KINDS: dict[str, Kind] = {
    row.name: row
    for row in (
        backlit_files.KIND,
        onnx_files.KIND,
        dataset_files.KIND,
        command_lines.KIND,
        pictures.KIND,
    )
}
"""Every kind by name."""
