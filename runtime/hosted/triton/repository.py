"""A model repository that a Triton server loads as it is, written from a Backlit file."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import re
from collections.abc import Collection
from pathlib import Path

from ...backend.models import read_file
from ...backend.protobuf import metadata, with_metadata, without_outputs
from ...boxes.recipes import Recipe, fitted
from ...contract import ENGINE_KEY, KEY, MARK, Contract
from ...errors import ModelError, OptionError
from ...files import folder, whole_file
from ...guard import JSON, Guard, Mark
from ...maps.kinds import file_outputs, get_kind
from . import config
from .config import Hosted
from .readme import dockerfile, readme

ABOUT = "backlit.json"
"""What a Python model of the repository reads beside its ``model.py``."""
MODEL = "model.onnx"
PREPARED = ("width", "height", "scale_x", "scale_y", "left", "top")
"""The fields of `Prepared` that the tensor ``place`` holds, in this order."""

WRITTEN: Mark = re.compile(rb"\A(#|<!--) written by backlit ")
"""What the texts of a repository begin with."""
_CLASSES = {"decode": "Decode", "maps": "Maps", "cut": "Cut"}


def read(path: str, recipe: Recipe, maps: Collection[str] = ()) -> tuple[bytes, Contract, Recipe]:
    """A Backlit file with no more maps than are wanted, its metadata, and the recipe for it.

    Args:
        path: the file.
        recipe: how maps become boxes.
        maps: further maps that stay.

    Raises:
        ModelError: not an ONNX file, or TensorRT's engine.
        ContractError: not a Backlit file.
        OptionError: it has no such map, or the recipe takes more than one run or a map that is made
            of others.
    """
    model = read_file(path)
    entries = metadata(model)
    contract = Contract.from_json(entries.get(KEY), path)
    if ENGINE_KEY in entries:
        raise ModelError(f"{path} is an engine already.", "give the file it was made of.")
    chosen = fitted(recipe, contract)
    if get_kind(chosen.map).name == "object":  # made of two outputs, and the cut is given one
        chosen = dataclasses.replace(chosen, map="features")
    kind = get_kind(chosen.map)
    output, *others = file_outputs(kind, contract)
    if others or output != kind.name or output == "gradient":
        raise OptionError(
            f"the map {kind.name} is not an output of the file, which boxes start from here.",
            "choose one that is by --map; `backlit info FILE` lists them.",
        )
    left = contract.keeping({output, *maps})
    dropped = {made.name for made in contract.maps}.difference(made.name for made in left.maps)
    if dropped:
        model = with_metadata(without_outputs(model, dropped), {KEY: left.to_json()})
    return model, left, dataclasses.replace(chosen, crops=1)


def write(out: Path, hosted: Hosted, model: bytes, guard: Guard) -> list[str]:
    """Write the repository; what Backlit wrote there under these names before is replaced.

    Args:
        out: its folder, which is made.
        hosted: the file in it.
        model: the file's bytes.
        guard: what must not be replaced.

    Returns:
        Names of the models, the ensemble first.

    Raises:
        OutputError: it cannot be written, or a file must stay.
    """
    version = importlib.metadata.version("backlit")
    mark = f"written by backlit {version}"
    steps = {step: f"{hosted.name}_{step}" for step in _CLASSES}
    texts = {
        out / steps["decode"] / "config.pbtxt": f"# {mark}\n{config.decode(hosted)}",
        out / steps["maps"] / "config.pbtxt": f"# {mark}\n{config.maps(hosted)}",
        out / steps["cut"] / "config.pbtxt": f"# {mark}\n{config.cut(hosted)}",
        out / hosted.name / "config.pbtxt": f"# {mark}\n{config.ensemble(hosted)}",
        out / "Dockerfile": f"# {mark}\n{dockerfile(hosted)}",
        out / "README.md": f"<!-- {mark} -->\n{readme(hosted)}",
    }
    about = {
        "backlit": version,
        "contract": dataclasses.asdict(hosted.contract),
        "recipe": hosted.recipe.name,
        "map": hosted.map,
        "max_top": hosted.classes,
    }
    in_python = ["decode", "cut", *(["maps"] if hosted.backend == "python" else [])]
    for step in in_python:
        texts[out / steps[step] / "1" / "model.py"] = f"# {mark}\n{_MODEL.format(_CLASSES[step])}"
    folder(out / hosted.name / "1")  # an ensemble has a version, and nothing in it
    for step in ("decode", "cut"):
        _write(out / steps[step] / "1" / ABOUT, json.dumps(about).encode(), JSON, guard)
    _write(out / steps["maps"] / "1" / MODEL, model, MARK, guard)
    for path, text in texts.items():
        _write(path, text.encode(), WRITTEN, guard)
    return [hosted.name, *steps.values()]


_MODEL = "from backlit.runtime.hosted.triton.models import {} as TritonPythonModel  # noqa: F401\n"


def _write(path: Path, data: bytes, mark: Mark, guard: Guard) -> None:
    folder(path.parent)
    with whole_file(path, mark, guard) as file:
        file.write(data)
