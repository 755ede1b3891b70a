"""The JSON Schema of a file's metadata says what the dataclasses say, and files are as it says."""

from __future__ import annotations

import copy
import dataclasses
import json
import typing
from pathlib import Path
from typing import Any

import jsonschema
import onnx
import pytest
from backlit.export import export
from backlit.export.maps.table import MAPS
from backlit.runtime import contract as schema_module
from backlit.runtime.contract import KEY, SCHEMA, Contract
from support.linear_file import write_linear_file

from backlit import models

TEXT = (Path(__file__).parents[1] / "docs" / "backlit.schema.json").read_text(encoding="utf-8")
JSON_SCHEMA: dict[str, Any] = json.loads(TEXT)
VALIDATOR = jsonschema.Draft202012Validator(JSON_SCHEMA)
NESTED = (
    "Source", "ImageInput", "Normalisation", "Score", "Map", "Verification", "OutputCheck",
)  # fmt: skip


def metadata(path: Path) -> dict[str, Any]:
    entries = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    found: dict[str, Any] = json.loads(entries[KEY])
    return found


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(JSON_SCHEMA)
    assert JSON_SCHEMA["properties"]["schema"]["const"] == SCHEMA


@pytest.mark.parametrize("name", ["Contract", *NESTED])
def test_fields_are_those_of_the_dataclass(name: str) -> None:
    cls = getattr(schema_module, name)
    part = JSON_SCHEMA if name == "Contract" else JSON_SCHEMA["$defs"][name]
    fields = [field.name for field in dataclasses.fields(cls)]
    assert set(part["properties"]) == set(part["required"]) == set(fields)
    assert part["additionalProperties"] is False
    hints = typing.get_type_hints(cls)
    for field, said in part["properties"].items():
        if typing.get_origin(hints[field]) is typing.Literal:
            assert said["enum"] == list(typing.get_args(hints[field])), field


EXPORTS: dict[str, dict[str, Any]] = {
    "default": {},
    "every map": {"maps": tuple(MAPS)},
    "float32": {"input": "float32"},
    "guided, without labels": {"relu": "guided", "labels": None},
    "fp16": {"precision": "fp16"},
    "crop, BGR, not verified": {"resize": "crop", "bgr": True, "verify": False},
}


@pytest.mark.parametrize("name", EXPORTS)
def test_exported_files_are_as_it_says(name: str, tmp_path: Path) -> None:
    how = models.PREPROCESSING
    labels = models.labels().read_text(encoding="utf-8").splitlines()
    options = {"mean": how.mean, "std": how.std, "range": how.range, "labels": labels}
    export(models.tiny_convnet(), tmp_path / "m.onnx", **{**options, **EXPORTS[name]})
    VALIDATOR.validate(metadata(tmp_path / "m.onnx"))


@pytest.mark.parametrize("options", [{}, {"output": "gradient"}, {"dtype": "float32"}])
def test_files_of_the_tests_are_as_it_says(options: dict[str, str], tmp_path: Path) -> None:
    write_linear_file(tmp_path / "m.onnx", **options)
    VALIDATOR.validate(metadata(tmp_path / "m.onnx"))


def test_what_it_takes_the_runtime_reads(tmp_path: Path) -> None:
    export(models.tiny_convnet(), tmp_path / "m.onnx", verify=False)
    data = metadata(tmp_path / "m.onnx")
    read = Contract.from_json(json.dumps(data))
    VALIDATOR.validate(json.loads(read.to_json()))


WRONG = {
    ("schema",): 3,
    ("tool",): "backlit",
    ("source", "sha256"): "abc",
    ("image", "layout"): "NCHW",
    ("image", "height"): 0,
    ("normalisation", "std"): [0.0, 1.0, 1.0],
    ("score", "classes"): 0,
    ("maps",): [],
    ("relu",): "grad",
    ("labels",): [1],
    ("verification",): {"cosine": 1.0},
    ("extra",): 1,
}


@pytest.mark.parametrize("place", WRONG, ids=".".join)
def test_what_is_wrong_is_refused(place: tuple[str, ...], tmp_path: Path) -> None:
    write_linear_file(tmp_path / "m.onnx")
    data = metadata(tmp_path / "m.onnx")
    wrong = copy.deepcopy(data)
    inside = wrong
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = WRONG[place]
    assert not VALIDATOR.is_valid(wrong)
