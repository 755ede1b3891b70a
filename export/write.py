"""A finished graph as a file: its metadata, and its weights inside or beside it."""

from __future__ import annotations

import re
from pathlib import Path

import onnx_ir as ir

from ..runtime import contract as schema
from ..runtime import files
from ..runtime.contract import Contract
from ..runtime.guard import Guard, has
from .graph.weights import LARGE, inside
from .graph.weights import size as size_of

_ANY = re.compile(b"")


def stamp(model: ir.Model, contract: Contract) -> None:
    """Give the finished model its metadata."""
    model.metadata_props.clear()
    model.metadata_props[schema.KEY] = contract.to_json()
    model.producer_name, _, model.producer_version = contract.tool.partition(" ")
    model.ir_version = max(model.ir_version, 10)


def save(model: ir.Model, path: Path, guard: Guard = files.NOTHING_READ) -> int:
    """Write the model; too large for one protobuf message, its weights go to ``<path>.data``.

    Returns:
        The bytes written.

    Raises:
        OutputError: a file cannot be written, or would replace what must stay; nothing is left
            half-written.
    """
    if size_of(model) < LARGE:
        inside(model)
        with files.whole_file(path, schema.MARK, guard) as file:
            return file.write(ir.serde.serialize_model(model).SerializeToString())
    # Weights say nothing of themselves: they are Backlit's if the file is that they belong to.
    theirs = _ANY if path.exists() and has(path, schema.MARK) else None
    weights = path.with_name(f"{path.name}.data")
    with files.whole_files({path: schema.MARK, weights: theirs}, guard) as folder:
        ir.save(model, folder / path.name, external_data=f"{path.name}.data")
        return sum(f.stat().st_size for f in folder.iterdir())
