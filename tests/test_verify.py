"""Verification: what it refuses, what it calls unmeasured, and what it must not accuse."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from backlit.export import wrap as wrap_module
from backlit.export.autodiff.registry import RULES
from backlit.export.maps.row import FileMap
from backlit.export.probes import as_taken
from backlit.export.verify.grid_sample import GridSample
from backlit.export.verify.outputs import ranked
from backlit.runtime.cli import main
from backlit.runtime.contract import KEY, Contract
from backlit.runtime.errors import BacklitWarning
from click.testing import CliRunner
from onnx import numpy_helper
from support import small
from torch import nn
from torch.nn import functional as F

import backlit
from backlit import models

Change = Callable[[pytest.MonkeyPatch], None]


def rule(name: str, change: Callable[..., Any]) -> Change:
    """A fault in a backward rule: ``change(rule, op, node, g)`` in its place."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        entry = RULES[name]

        def wrong(op: Any, node: ir.Node, g: ir.Value) -> Any:
            return change(entry.rule, op, node, g)

        patch.setitem(RULES, name, dataclasses.replace(entry, rule=wrong))

    return plant


def corner(old: Any, op: Any, node: ir.Node, g: ir.Value) -> Any:
    """The gradient, four pixels of it zero."""
    found = old(op, node, g)
    first = found if isinstance(found, ir.Value) else found[0]
    mask = np.ones((96, 96), np.float32)
    mask[:2, :2] = 0
    made = op.Mul(first, mask)
    return made if isinstance(found, ir.Value) else (made, *found[1:])


def shifted(old: Any, op: Any, node: ir.Node, g: ir.Value) -> Any:
    """The gradient moved by a pixel."""
    moved = op.Concat(op.Slice(g, [1], [2**31], [-1]), op.Slice(g, [0], [1], [-1]), axis=-1)
    return old(op, node, moved)


def other_order(patch: pytest.MonkeyPatch) -> None:
    """Rank -2 means the third."""
    right = wrap_module._resolved

    def wrong(op: Any, class_index: ir.Value, scores: ir.Value, classes: int) -> ir.Value:
        second = op.Equal(class_index, op.const([-2]))
        asked = op.Where(second, op.const([-3]), class_index)
        return right(op, asked, scores, classes)

    patch.setattr(wrap_module, "_resolved", wrong)


def swapped(patch: pytest.MonkeyPatch) -> None:
    """``features`` is made of the same feature map several times over."""
    emit = FileMap.emit

    def wrong(row: FileMap, op: Any, image: Any, grids: Any, gradients: Any) -> Any:
        return emit(row, op, image, [grids[0]] * len(grids) if grids else grids, gradients)

    patch.setattr(FileMap, "emit", wrong)


FAULTS: dict[str, Change] = {
    "0.9 % too long": rule("Relu", lambda old, op, node, g: old(op, node, g * 1.009)),
    "zeroed corner": rule("Conv", lambda old, op, node, g: corner(old, op, node, g)
                          if node.inputs[0].shape is not None and node.inputs[0].shape[-1] == 96
                          else old(op, node, g)),
    "moved by a pixel": rule("Relu", shifted),
    "a mask too few": rule("Relu", lambda old, op, node, g: g),
    "order of ranks": other_order,
    "features of another feature map": swapped,
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FAULTS[name](monkeypatch)
    with pytest.raises(backlit.VerificationError, match="disagrees"):
        backlit.export(models.tiny_convnet(), tmp_path / "m.onnx", mean=[0.5], std=[0.25])
    assert list(tmp_path.iterdir()) == []


def test_a_failed_file_is_kept_beside_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule("Relu", lambda old, op, node, g: old(op, node, g * 1.5))(monkeypatch)
    onnx.save(small.convnet(), tmp_path / "net.onnx")
    args = ["export", str(tmp_path / "net.onnx"), "-o", str(tmp_path / "m.backlit.onnx")]
    done = CliRunner().invoke(main, [*args, "--keep-failed"])
    assert done.exit_code == 3
    assert "expected at most 1e-04" in done.stderr
    kept = tmp_path / "m.backlit.failed.onnx"
    assert {p.name for p in tmp_path.iterdir()} == {
        "net.onnx", "m.backlit.failed.onnx", "m.backlit.failed.json",
    }  # fmt: skip
    report = json.loads(kept.with_suffix(".json").read_text())
    assert report["metadata"]["verification"]["outcome"] == "disagrees"
    assert report["options"]["keep_failed"] is True
    assert report["packages"]["onnx"] == onnx.__version__
    found = {o["name"]: o for o in report["metadata"]["verification"]["outputs"]}
    assert found["gradient by image"]["error"] > 0.1
    info = CliRunner().invoke(main, ["info", str(kept)])
    assert "NO, disagrees" in info.stdout
    with pytest.raises(backlit.OptionError):
        backlit.export(small.convnet(), tmp_path / "x", verify=False, keep_failed=True)


def test_what_is_kept_replaces_its_like_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule("Relu", lambda old, op, node, g: old(op, node, g * 1.5))(monkeypatch)
    for _ in range(2):  # the second run finds what the first has kept
        with pytest.raises(backlit.VerificationError, match=r"m.failed.onnx and .*m.failed.json"):
            backlit.export(small.convnet(), tmp_path / "m.onnx", keep_failed=True)
    for name in ("m.failed.onnx", "m.failed.json"):
        (tmp_path / name).write_text("somebody's")
        with pytest.raises(backlit.OutputError, match=name):
            backlit.export(small.convnet(), tmp_path / "m.onnx", keep_failed=True)
        assert (tmp_path / name).read_text() == "somebody's"
        (tmp_path / name).unlink()


def dead(kind: str) -> onnx.ModelProto:
    """A classifier whose scores do not move, or are no numbers."""
    model = small.convnet()
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor).copy()
        if kind == "dead ReLUs" and tensor.name == "wb":
            value -= 1e4
        if kind == "zero weights" and tensor.name in ("v", "vb"):
            value *= 0
        if kind == "infinite scores" and tensor.name == "vb":
            value += np.inf
        tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    return model


@pytest.mark.parametrize("kind", ["dead ReLUs", "zero weights", "infinite scores"])
def test_nothing_is_no_agreement(kind: str, tmp_path: Path) -> None:
    with pytest.raises(backlit.VerificationError, match="nothing was measured, because") as caught:
        backlit.export(dead(kind), tmp_path / "m.onnx", keep_failed=True)
    assert "bug" not in str(caught.value)
    assert not (tmp_path / "m.onnx").exists()
    entries = {e.key: e.value for e in onnx.load(tmp_path / "m.failed.onnx").metadata_props}
    found = Contract.from_json(entries[KEY]).verification
    assert found is not None
    assert found.outcome == "not measured"
    assert found.cosine is None
    told = CliRunner().invoke(main, ["info", str(tmp_path / "m.failed.onnx")])
    assert "NO, not measured" in told.stdout
    report = backlit.export(dead(kind), tmp_path / "m.onnx", verify=False)
    assert report.contract.verification is None


def test_a_gradient_that_is_wrongly_zero_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule("Relu", lambda old, op, node, g: g * 0.0)(monkeypatch)
    with pytest.raises(backlit.VerificationError, match="is zero, and that by"):
        backlit.export(small.convnet(), tmp_path / "m.onnx")


def test_images_are_tried_until_there_is_a_gradient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that only dark images wake up, and white ones come first."""
    monkeypatch.setattr(
        "backlit.export.verify.verify.smooth_noise",
        lambda contract: as_taken(np.full((2, 3, 12, 12), 255.0), contract),
    )
    model = small.convnet()
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor).copy()
        if tensor.name == "w":
            value = -np.abs(value)
        if tensor.name == "wb":
            value = np.full_like(value, 0.6)
        tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    found = backlit.export(model, tmp_path / "m.onnx").contract.verification
    assert found is not None
    assert found.outcome == "agrees"
    assert found.relative_l2 is not None
    assert found.relative_l2 < 1e-5


def test_every_output_is_in_the_record(tmp_path: Path) -> None:
    maps = ("saliency", "gradient", "features", "gradcam", "layercam")
    how = {"mean": [0.5], "std": [0.25], "maps": maps}
    found = backlit.export(models.tiny_convnet(), tmp_path / "m.onnx", **how).contract.verification
    assert found is not None
    names = {"class", "score", *maps, "gradient by image", "gradient by features"}
    assert {one.name for one in found.outputs} == names | {"batch", "ranks"}
    assert all(one.passes for one in found.outputs)
    assert found.rounding is not None
    assert found.rounding < 1e-5


def test_ranks_by_sorting_with_ties() -> None:
    scores = np.array([[1.0, 3.0, 3.0, 2.0]])
    asked = np.array([[-1, -2, -3, -4, -9, 2]])
    assert ranked(scores, asked).tolist() == [[1, 2, 3, 0, 0, 2]]


class Insists(nn.Module):
    """Computes in float32 whatever it is given."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8 * 36, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.gelu(self.a(x.float()))
        out: torch.Tensor = self.b(F.max_pool2d(x, 2).flatten(1))
        return out


class Wide(Insists):
    """Computes in what it is given."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.b(F.max_pool2d(F.gelu(self.a(x)), 2).flatten(1))
        return out


class Samples(Insists):
    """Looks at the image through a grid."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        lines = torch.linspace(-0.9, 0.8, 12, dtype=x.dtype)
        grid = torch.stack(torch.meshgrid(lines, lines, indexing="xy"), -1)
        seen = F.grid_sample(x, grid.expand(x.shape[0], -1, -1, -1), align_corners=False)
        return super().forward(seen)


def exported(module: nn.Module) -> nn.Module:
    """What torch.export makes of a module, as a module."""
    batch = {0: torch.export.Dim.AUTO}
    image = (torch.zeros(2, 3, 12, 12),)
    made: nn.Module = torch.export.export(module.eval(), image, dynamic_shapes=(batch,)).module()
    return made


def onnx_of(module: nn.Module, folder: Path) -> str:
    """The module as an ONNX file."""
    path = str(folder / "net.onnx")
    torch.onnx.export(module.eval(), (torch.zeros(1, 3, 12, 12),), path, dynamo=True,
                      dynamic_shapes=({0: "N"},), verbose=False)  # fmt: skip
    return path


@pytest.mark.parametrize("kind", ["float()", "float64", "exported", "grid", "grid as ONNX"])
@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning"
)
def test_right_gradients_are_not_accused(kind: str, tmp_path: Path) -> None:
    made: Any = {
        "float()": Insists, "float64": lambda: Wide().double(),
        "exported": lambda: exported(Insists()), "grid": Samples,
        "grid as ONNX": lambda: onnx_of(Samples(), tmp_path),
    }[kind]()  # fmt: skip
    found = backlit.export(made, tmp_path / "m.onnx", size=12).contract.verification
    assert found is not None
    assert found.outcome == "agrees"
    assert found.relative_l2 is not None
    assert found.relative_l2 < 1e-4


class Straight(torch.autograd.Function):
    """A ReLU that passes half of every gradient, as a straight-through estimator might."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *g: torch.Tensor) -> torch.Tensor:
        return g[0] / 2


class Estimated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Conv2d(3, 8, 3, 2), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.head(Straight.apply(self.first(x)).mean((2, 3)))
        return result


def test_a_backward_of_the_modules_own_is_told_of(tmp_path: Path) -> None:
    torch.manual_seed(0)
    with pytest.warns(BacklitWarning, match="backward is not the derivative of its forward"):
        report = backlit.export(Estimated(), tmp_path / "x.onnx", size=(16, 16))
    verified = report.contract.verification
    assert verified is not None
    assert verified.outcome == "agrees"
    assert verified.reference == "finite differences, float64"


@pytest.mark.parametrize("align", [0, 1])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
def test_grid_sample_is_torchs(mode: str, padding: str, align: int) -> None:
    rng = np.random.default_rng(0)
    x, grid = rng.standard_normal((2, 3, 5, 6)), rng.uniform(-1.5, 1.5, (2, 4, 7, 2))
    found = GridSample._run(None, x, grid, align, mode, padding)[0]  # type: ignore[arg-type]
    named = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    expected = F.grid_sample(
        torch.tensor(x), torch.tensor(grid), named, padding, align_corners=bool(align)
    )
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-12)


def test_equal_scores_are_ranked_by_their_number(tmp_path: Path) -> None:
    """Classes that share their weights tie for every image."""
    model = small.convnet()
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor).copy()
        if tensor.name in ("v", "vb"):
            value[1::2] = value[::2]
        tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    found = backlit.export(model, tmp_path / "m.onnx").contract.verification
    assert found is not None
    assert {one.name: one.error for one in found.outputs}["ranks"] == 0
