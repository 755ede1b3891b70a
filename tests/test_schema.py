"""The JSON Schema of a file's metadata says what the dataclasses say, and files are as it says."""

from __future__ import annotations

import copy
import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import jsonschema
import onnx
import pytest
from backlit.export import export
from backlit.export.maps.table import MAPS
from backlit.runtime import contract as schema_module
from backlit.runtime.contract import KEY, SCHEMA, Contract
from backlit.runtime.errors import ContractError
from backlit.runtime.schema import json_schema, problem
from fuzz import backlit_files
from fuzz.damage import long_numbers
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


def test_it_is_made_of_the_dataclasses() -> None:
    """After a change: python docs/generate.py schema > docs/backlit.schema.json."""
    assert json_schema(Contract).items() <= JSON_SCHEMA.items()


@pytest.mark.parametrize("name", ["Contract", *NESTED])
def test_every_field_is_described_and_bounded(name: str) -> None:
    part = JSON_SCHEMA if name == "Contract" else JSON_SCHEMA["$defs"][name]
    fields = {field.name for field in dataclasses.fields(getattr(schema_module, name))}
    assert set(part["properties"]) == set(part["required"]) == fields
    assert part["additionalProperties"] is False
    for field, said in part["properties"].items():
        assert said.get("description") or "$ref" in said or name == "Contract", field
        for one in said.get("anyOf", [said]):
            one = one.get("items", one)
            if one.get("type") == "string":
                assert "maxLength" in one, field
                assert "not" in one or "pattern" in one, field
            if one.get("type") in ("number", "integer"):
                assert {"minimum", "const"} & set(one), field


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


WRONG: dict[tuple[str | int, ...], Any] = {
    ("schema",): 3,
    ("tool",): "backlit",
    ("source", "sha256"): "abc",
    ("source", "name"): "\x1b[2J",
    ("image", "layout"): "NCHW",
    ("image", "height"): 0,
    ("image", "width"): 70_000,
    ("image", "channels"): True,
    ("image", "crop_fraction"): 0.001,
    ("image", "colour"): ["RGB"],
    ("normalisation", "std"): [0.0, 1.0, 1.0],
    ("normalisation", "mean"): [10**400, 0, 0],
    ("normalisation", "assumed"): 1,
    ("score", "classes"): 5.5,
    ("score", "box_axis"): 3,
    ("maps",): [],
    ("maps", 0): "saliency",
    ("maps", 0, "name"): "",
    ("maps", 0, "tensors"): None,
    ("relu",): "grad",
    ("labels",): "abcde",
    ("labels", 1): 1,
    ("verification",): {"cosine": 1.0},
    ("extra",): 1,
}


def metadata_of_a_file(tmp_path: Path) -> dict[str, Any]:
    write_linear_file(tmp_path / "m.onnx", labels=tuple("abcde"))
    return metadata(tmp_path / "m.onnx")


def changed(data: dict[str, Any], place: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    wrong = copy.deepcopy(data)
    inside: Any = wrong
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = value
    return wrong


@pytest.mark.parametrize("place", WRONG, ids=lambda place: ".".join(map(str, place)))
def test_what_is_wrong_is_refused(place: tuple[str | int, ...], tmp_path: Path) -> None:
    """By the schema that is published, and by the check of every file, which names the place."""
    wrong = changed(metadata_of_a_file(tmp_path), place, WRONG[place])
    assert not VALIDATOR.is_valid(wrong)
    with pytest.raises(ContractError) as caught:
        Contract.from_json(json.dumps(wrong))
    assert str(place[0]) in caught.value.problem
    assert "\n" not in caught.value.problem


CONTRADICTIONS: dict[tuple[str | int, ...], tuple[Any, str]] = {
    ("labels",): (["a", "b"], "2 labels for 5 classes"),
    ("normalisation", "mean"): ([0.0], "1 numbers for 3 channels"),
    ("image", "colour"): ("grey", "3 channels is not grey"),
    ("image", "width"): (65_000, "unlike the image"),
    ("maps", 0, "name"): ("scores", "one name"),
    ("maps", 0, "height"): (4, "unlike the image"),
    ("maps", 0): (
        {"name": "features", "height": 9, "width": 9, "definition": "", "tensors": []},
        "larger than the image",
    ),
}


@pytest.mark.parametrize("place", CONTRADICTIONS, ids=lambda place: ".".join(map(str, place)))
def test_what_contradicts_itself_is_refused(place: tuple[str | int, ...], tmp_path: Path) -> None:
    value, words = CONTRADICTIONS[place]
    wrong = changed(metadata_of_a_file(tmp_path), place, value)
    with pytest.raises(ContractError, match=words):
        Contract.from_json(json.dumps(wrong))


def test_a_frame_that_fills_the_memory_is_refused(tmp_path: Path) -> None:
    data = metadata_of_a_file(tmp_path)
    data["image"] |= {"height": 9000, "width": 9000, "crop_fraction": 0.1, "resize": "crop"}
    VALIDATOR.validate(data)
    with pytest.raises(ContractError, match="90000 x 90000 pixels, which are too many"):
        Contract.from_json(json.dumps(data))


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000, '{"schema": NaN}', '{"schema": 2, "schema": 2}',
        '{"schema": ' + "9" * 5000 + "}", "\ufeff{}", "2", "[]", "null", "", "{",
        '{"schema": true}', '{"schema": "2"}',
    ],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_other_texts_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(ContractError, match="damaged") as caught:
        Contract.from_json(text)
    assert "\n" not in caught.value.problem


def test_the_check_agrees_with_jsonschema(tmp_path: Path) -> None:
    """On documents with one to three things wrong, or nothing: by a validator of others."""
    rng, data = random.Random(0), metadata_of_a_file(tmp_path)
    refused = 0
    for _ in range(1500):
        document = copy.deepcopy(data)
        for _ in range(rng.choice((0, 1, 1, 2, 3))):
            backlit_files.spoil(rng, document)
        with long_numbers():
            found = problem(json_schema(Contract), document)
            assert (found is None) == _is_valid(document), (found, document)
        refused += found is not None
    assert 600 < refused < 1400


def _is_valid(document: Any) -> bool:
    """What jsonschema says, for which an infinite number is one."""
    return VALIDATOR.is_valid(document) and not _endless(document)


def _endless(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(map(_endless, value.values() if isinstance(value, dict) else value))
    return isinstance(value, int | float) and not abs(value) <= 1.7e308


def test_what_cannot_be_read_is_not_written(tmp_path: Path) -> None:
    contract = Contract.from_json(json.dumps(metadata_of_a_file(tmp_path)))
    for wrong in ({"labels": ("a",)}, {"relu": "grad"}, {"tool": "backlit"}):
        with pytest.raises(ContractError, match="damaged"):
            dataclasses.replace(contract, **wrong).to_json()
