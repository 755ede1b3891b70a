"""A folder that ``mlserver start`` serves, written from a Backlit file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ...backend.models import read_file
from ...backend.protobuf import metadata
from ...boxes.recipes import Recipe, fitted
from ...contract import KEY, MARK, Contract
from ...files import folder, whole_file
from ...guard import Guard, Mark
from ...maps.kinds import get_kind

IMPLEMENTATION = "backlit.runtime.hosted.mlserver.model.BacklitModel"
WRITTEN: Mark = re.compile(rb'\A\{\s*"implementation": "backlit\.')
"""What the settings of a model begin with."""

# The model has threads of its own, which share the cores out; a worker process would only copy.
_SERVER = {"parallel_workers": 0}


def write(
    out: Path, file: str, name: str, recipe: Recipe, options: dict[str, Any], guard: Guard
) -> list[str]:
    """Write the folder; what Backlit wrote there before is replaced.

    Args:
        out: the folder, which is made.
        file: a Backlit file.
        name: of the model.
        recipe: how maps become boxes.
        options: what else `BacklitModel` is told.
        guard: what must not be replaced.

    Returns:
        Names of the files.

    Raises:
        ModelError, ContractError: not a Backlit file.
        OptionError: the file lacks the map that the recipe starts from.
        OutputError: the folder cannot be written, or a file must stay.
    """
    model = read_file(file)
    contract = Contract.from_json(metadata(model).get(KEY), file)
    chosen = fitted(recipe, contract)
    said = {
        "implementation": IMPLEMENTATION,
        "name": name,
        "parameters": {
            "uri": f"./{name}.onnx",
            "extra": {"recipe": chosen.name, "map": get_kind(chosen.map).name, **options},
        },
    }
    files: dict[str, tuple[bytes, Mark | None]] = {
        f"{name}.onnx": (model, MARK),
        "model-settings.json": (_json(said), WRITTEN),
        "settings.json": (_json(_SERVER), None),  # replaced by nothing but the same
    }
    folder(out)
    for path, (data, mark) in files.items():
        with whole_file(out / path, mark, guard) as target:
            target.write(data)
    return list(files)


def _json(value: object) -> bytes:
    return json.dumps(value, indent=2).encode() + b"\n"
