"""The README says what is so: commands, options, metadata fields, examples."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from backlit.export.autodiff.registry import RULES
from backlit.runtime.cli import COMMANDS, main
from backlit.runtime.contract import Contract
from click.testing import CliRunner
from onnx import TensorProto, helper

from backlit import models

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_readme_and_answers_h(command: str) -> None:
    assert re.search(rf"(backlit |`){command}\b", README)
    result = CliRunner().invoke(main, [command, "-h"])
    assert result.exit_code == 0
    assert f"backlit {command}" in result.output.split("Example")[1]


def test_commands_and_options_of_the_readme_exist() -> None:
    for line in re.findall(r"^backlit .*$", README, re.MULTILINE):
        words = line.split("#")[0].split()
        assert words[1] in COMMANDS, line
        shown = CliRunner().invoke(main, [words[1], "-h"]).output
        for option in re.findall(r"(?<= )--?[a-z][a-z0-9-]*", line.split("#")[0]):
            assert re.search(rf"{option}\b", shown), (option, line)


def test_metadata_table_has_every_field() -> None:
    table = README.split("| field | value |")[1].split("\n\n")[0]
    rows = [re.findall(r"`(\w+)`", row.split("|")[1]) for row in table.splitlines() if "`" in row]
    documented = {name for names in rows for name in names}
    assert documented == {field.name for field in dataclasses.fields(Contract)}


def test_number_of_rules() -> None:
    assert f"have a rule ({len(RULES)})" in README


def test_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my_model.onnx").write_bytes(models.tiny_convnet().read_bytes())
    for name in ("a.jpg", "b.jpg"):
        Path(name).write_bytes((models.samples() / "07_mug.jpg").read_bytes())
    examples = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    code = examples[0].replace("classes=[207, 208]", "classes=[7, 8]")
    names: dict[str, object] = {}
    exec(code, names)
    maps = names["maps"]
    assert isinstance(maps, np.ndarray)
    assert maps.shape == (2, 110, 110)
    assert maps.max() > 0
    names = {"onnxruntime": onnxruntime, "pixels": np.zeros((1, 96, 96, 3), np.uint8)}
    exec(examples[1], names)
    assert np.asarray(names["saliency"]).shape == (1, 2, 96, 96)


def test_differentiate_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(import onnx\n.*?)```", README, re.DOTALL)
    positions = helper.make_tensor_value_info("positions", TensorProto.FLOAT, ["atoms", 3])
    energy = helper.make_tensor_value_info("energy", TensorProto.FLOAT, [])
    nodes = [
        helper.make_node("Cos", ["positions"], ["cosine"], name="cosine"),
        helper.make_node("ReduceSum", ["cosine"], ["energy"], name="sum", keepdims=0),
    ]
    graph = helper.make_graph(nodes, "energy", [positions], [energy])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, "energy.onnx")
    where = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    names: dict[str, object] = {"positions": where}
    exec(code, names)
    np.testing.assert_allclose(names["energy"], np.cos(where).sum(), rtol=1e-6)
    np.testing.assert_allclose(names["forces"], np.sin(where), rtol=1e-5, atol=1e-6)


def test_demo(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["demo", "-o", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    found = {p.suffix: 0 for p in (tmp_path / "out").iterdir()}
    for path in (tmp_path / "out").iterdir():
        found[path.suffix] += 1
    assert found == {".onnx": 1, ".npy": 12, ".png": 12, ".jsonl": 1}
    counts = {
        k: int(v) for k, v in re.findall(r"(box|centred box) right.*?(\d+) of 12", result.stderr)
    }
    assert counts["box"] >= 8 > 3 >= counts["centred box"]
    lines = (tmp_path / "out" / "boxes.jsonl").read_text().splitlines()
    truth = {s["file"]: s["box"] for s in json.loads((models.samples() / "boxes.json").read_text())}
    assert [json.loads(line)["true_box"] for line in lines] == list(truth.values())
    assert all(len(json.loads(line)["results"]) == 1 for line in lines)
