"""export, verify and ops from the command line: results, exit codes, nothing half-written."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from backlit.export.autodiff.registry import RULES
from backlit.runtime.cli import main
from backlit.runtime.contract import KEY, Contract
from click.testing import CliRunner, Result
from onnx import helper
from support import small, zoo


def backlit(*args: Any) -> Result:
    return CliRunner().invoke(main, [str(a) for a in args])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "small.onnx"
    onnx.save(small.convnet(), path)
    return path


def contract(file: Path) -> Contract:
    return Contract.from_json(onnx.load(file).metadata_props[0].value)


def test_export_then_verify(model: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(f"n0000000{i} thing {i}\n" for i in range(small.CLASSES)))
    file = tmp_path / "small.backlit.onnx"
    result = backlit(
        "export", model, "-o", file, "--mean", "0.4", "0.5", "0.3", "--std", "0.2,0.25,0.3",
        "--labels", labels, "--range", "0-1",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert f"backlit localize {file}" in result.stderr.replace("\n", "")
    made = contract(file)
    assert made.normalisation.mean == (0.4, 0.5, 0.3)
    assert made.normalisation.std == (0.2, 0.25, 0.3)
    assert made.labels == tuple(f"thing {i}" for i in range(small.CLASSES))
    result = backlit("verify", file, model)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["cosine"] > 0.9999


def test_verify_finds_a_changed_file(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "b.onnx"
    backlit("export", model, "-o", file, "--no-verify")
    proto = onnx.load(file)
    mask = next(n for n in proto.graph.node if n.op_type == "HardSigmoid")
    mask.attribute[0].f = 0.7  # a soft mask where a step belongs
    onnx.save(proto, file)
    result = backlit("verify", file, model)
    assert result.exit_code == 3
    assert "disagrees" in result.stderr
    other = tmp_path / "other.onnx"
    onnx.save(small.convnet(size=16), other)
    assert backlit("verify", file, other).exit_code == 3
    assert backlit("verify", model, model).exit_code == 1  # not a Backlit file


def test_ops_lists_every_rule() -> None:
    lines = backlit("ops").stdout.splitlines()
    listed = {line.split()[0]: line.split()[1] for line in lines}
    assert {name for name, kind in listed.items() if kind == "rule"} == set(RULES)
    assert listed["Attention"] == "function"
    assert listed["Round"] == "none"
    assert listed["Loop"] == listed["com.microsoft::FusedConv"] == "form"
    assert set(json.loads(backlit("ops", "--json").stdout)["rule"]) == set(RULES)


def wrong_models(folder: Path) -> dict[str, tuple[Path, str]]:
    """File -> words its error must hold."""
    good = small.convnet().SerializeToString()
    cut = [helper.make_node("Shape", ["a"], ["s"], name="s"),
           helper.make_node("Expand", ["one", "s"], ["b"], name="e")]  # fmt: skip
    pathless = small.convnet(extra=cut)
    one = onnx.numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), "one")
    pathless.graph.initializer.append(one)
    flat = small.convnet()
    dims = flat.graph.input[0].type.tensor_type.shape.dim
    del dims[3]
    odd = helper.make_node("Odd", ["a"], ["b"], name="odd one", domain="mine")
    unknown = small.convnet(extra=[odd])
    unknown.opset_import.append(helper.make_opsetid("mine", 1))
    old = small.convnet()
    old.opset_import[0].version = 6
    contents = {
        "text.onnx": (b"this is no model", "not a readable ONNX model"),
        "empty.onnx": (b"", "not a readable ONNX model"),
        "truncated.onnx": (good[: len(good) // 2], "not a readable ONNX model"),
        "pathless.onnx": (pathless.SerializeToString(), "does not depend on"),
        "rank.onnx": (flat.SerializeToString(), "no image [N, C, H, W]"),
        "unknown.onnx": (unknown.SerializeToString(), "mine::Odd (1): odd one"),
        "old.onnx": (old.SerializeToString(), "opset 6"),
    }
    for name, (data, _) in contents.items():
        (folder / name).write_bytes(data)
    found = {name: (folder / name, words) for name, (_, words) in contents.items()}
    found["absent.onnx"] = folder / "absent.onnx", "does not exist"
    return found


WRONG = [*("text", "empty", "truncated", "pathless", "rank", "unknown", "old", "absent")]


@pytest.mark.parametrize("name", WRONG)
def test_wrong_models(name: str, tmp_path: Path) -> None:
    path, words = wrong_models(tmp_path)[f"{name}.onnx"]
    out = tmp_path / "out"
    out.mkdir()
    result = backlit("export", path, "-o", out / "m.onnx")
    assert result.exit_code == 1, result.output
    assert words in result.stderr
    assert "fix:" in result.stderr
    assert "Traceback" not in result.stderr
    assert list(out.iterdir()) == []


def test_wrong_usage(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    for options in (
        ["--mean", "red"], ["--size", "big"], ["--range", "0-2"], ["--no-such-option"],
        ["--mean", "1,2"], ["--size", "224"],
    ):  # fmt: skip
        result = backlit("export", model, "-o", out, *options)
        assert result.exit_code == 2, (options, result.output)
        assert not out.exists()
    assert backlit("export", model).exit_code == 2
    assert backlit("export", "no-such-thing", "-o", out).exit_code == 1
    assert backlit("export", model, "-o", model / "below-a-file" / "m.onnx").exit_code == 1


def test_verification_failure_is_exit_3_and_no_file(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backlit.export.verify.verify.SCORES", -1.0)
    out = tmp_path / "m.onnx"
    result = backlit("export", model, "-o", out)
    assert result.exit_code == 3
    assert not out.exists()
    assert backlit("export", model, "-o", out, "--no-verify").exit_code == 0
    assert contract(out).verification is None


class Tiny(torch.nn.Sequential):
    """A module that a callable source makes; its input is 16 x 16."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(
            torch.nn.Conv2d(3, 4, 3, stride=2), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1),
            torch.nn.Flatten(), torch.nn.Linear(4, 5),
        )  # fmt: skip


def test_callable_with_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "my_models", sys.modules[__name__])
    weights, out = tmp_path / "w.pt", tmp_path / "m.onnx"
    made = Tiny()
    with torch.no_grad():
        made[4].bias += 3.0
    torch.save(made.state_dict(), weights)
    run = ["export", "my_models:Tiny", "-o", out, "--size", "16", "--weights"]
    result = backlit(*run, weights)
    assert result.exit_code == 0, result.output
    verified = contract(out).verification
    assert verified is not None
    assert verified.reference == "torch.autograd"
    head = [onnx.numpy_helper.to_array(t) for t in onnx.load(out).graph.initializer]
    assert any(a.shape == (5,) and np.allclose(a, made[4].bias.detach()) for a in head)
    out.unlink()

    torch.save({"model": made}, weights)  # a pickled object: unpickling can run any code
    result = backlit(*run, weights)
    assert result.exit_code == 1
    assert "state_dict" in result.stderr
    weights.write_text("no checkpoint")
    assert backlit(*run, weights).exit_code == 1
    torch.save({"other.weight": torch.zeros(3)}, weights)
    assert "do not fit" in backlit(*run, weights).stderr
    assert backlit(*run, tmp_path / "absent.pt").exit_code == 1
    assert backlit("export", "my_models:Absent", "-o", out).exit_code == 1
    assert backlit("export", "no_such_module:make", "-o", out).exit_code == 1
    assert "--size" in backlit("export", "my_models:Tiny", "-o", out).stderr
    assert not out.exists()


def test_torchvision_by_name(tmp_path: Path) -> None:
    zoo.torchvision()
    out = tmp_path / "m.onnx"
    run = ["export", "-o", out, "--no-verify", "--weights", "random"]
    result = backlit(*run, "torchvision:squeezenet1_1")
    assert result.exit_code == 0, result.output
    made = contract(out)
    assert (made.image.height, made.image.width) == (224, 224)
    assert made.normalisation.mean == pytest.approx((0.485, 0.456, 0.406))
    assert made.normalisation.std == pytest.approx((0.229, 0.224, 0.225))
    assert made.labels is not None
    assert made.labels[0] == "tench"
    assert made.image.crop_fraction == pytest.approx(224 / 256)
    assert backlit(*run, "torchvision:no_such_net").exit_code == 1


def test_packages_that_are_missing_or_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ["export", "torchvision:resnet18", "-o", tmp_path / "m.onnx"]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "torchvision", None)
        result = backlit(*run)
    assert (result.exit_code, "pip install torchvision" in result.stderr) == (1, True)
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "torchvision", raising=False)
        (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator does not exist')")
        patch.syspath_prepend(tmp_path)
        result = backlit(*run)
    assert (result.exit_code, "belongs to this torch" in result.stderr) == (1, True)


def test_metadata_key_is_the_only_one(model: Path, tmp_path: Path) -> None:
    proto = onnx.load(model)
    proto.metadata_props.add(key="author", value="somebody")
    onnx.save(proto, model)
    backlit("export", model, "-o", tmp_path / "m.onnx", "--no-verify")
    assert [p.key for p in onnx.load(tmp_path / "m.onnx").metadata_props] == [KEY]
