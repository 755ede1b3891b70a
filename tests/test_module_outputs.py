"""Modules that return more than a tensor; and that an export leaves the caller's module alone."""

from __future__ import annotations

import collections
import copy
import dataclasses
import threading
import types
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from backlit.export import export
from backlit.export.sources.load import load, to_onnx
from backlit.export.sources.one_output import OneOutput, choose
from backlit.runtime.errors import ModelError, OptionError


class Body(torch.nn.Module):
    """A classifier of five classes; ``made`` says what its forward makes of scores and features."""

    def __init__(self, made: Any = lambda scores, features: scores) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 8, 3, stride=2)
        self.norm = torch.nn.BatchNorm2d(8)
        self.head = torch.nn.Linear(8, 5)
        self.drop = torch.nn.Dropout(0.5)
        self.made = made

    def forward(self, x: torch.Tensor) -> Any:
        features = torch.relu(self.norm(self.conv(x))).mean((2, 3))
        return self.made(self.head(self.drop(features)), features)


class ModelOutput(collections.OrderedDict[str, Any]):
    """As transformers makes it: a dictionary whose entries are attributes."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


class Row(NamedTuple):
    logits: torch.Tensor
    aux_logits: torch.Tensor


@dataclasses.dataclass
class Held:
    scores: torch.Tensor
    loss: torch.Tensor | None = None


# What forward returns, and the name of the scores in it.
KINDS: dict[str, tuple[Any, str]] = {
    "dict": (lambda s, f: {"logits": s, "features": f}, "logits"),
    "dict of one": (lambda s, f: {"out": s, "map": f[:, :, None, None].expand(-1, -1, 2, 2)},
                    "out"),
    "ModelOutput": (lambda s, f: ModelOutput(logits=s, hidden_states=(f, f)), "logits"),
    "named tuple": (lambda s, f: Row(s, s * 2), "logits"),
    "dataclass": (lambda s, f: Held(s), "scores"),
    "tuple of one": (lambda s, f: (s,), "0"),
    "list": (lambda s, f: [s.argmax(1), s], "1"),
    "nested": (lambda s, f: {"main": {"logits": s}, "features": f}, "main.logits"),
    "namespace": (lambda s, f: types.SimpleNamespace(logits=s, extra=f), "logits"),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_a_module_returns_its_scores_are_found(kind: str, tmp_path: Path) -> None:
    made, name = KINDS[kind]
    report = export(Body(made).eval(), tmp_path / "m.onnx", size=16)
    assert report.contract.score.tensor == name
    assert report.contract.score.classes == 5
    verified = report.contract.verification
    assert verified is not None
    assert verified.reference == "torch.autograd"
    assert verified.relative_l2 < 1e-4


def test_an_output_is_chosen_by_its_name(tmp_path: Path) -> None:
    net = Body(lambda s, f: {"logits": s, "features": f})
    report = export(net, tmp_path / "m.onnx", size=16, output_name="features")
    assert (report.contract.score.tensor, report.contract.score.classes) == ("features", 8)
    with pytest.raises((ModelError, OptionError), match=r"'feature'(?s:.*)logits"):
        export(net, tmp_path / "m.onnx", size=16, output_name="feature")


def test_several_that_may_be_scores_are_listed_with_the_option(tmp_path: Path) -> None:
    net = Body(lambda s, f: (f, s))
    with pytest.raises(OptionError) as caught:
        export(net, tmp_path / "m.onnx", size=16)
    assert "0 [2, 8], 1 [2, 5]" in caught.value.problem
    assert "--output-name" in caught.value.fix
    report = export(net, tmp_path / "m.onnx", size=16, output_name="1")
    assert report.contract.score.classes == 5


def test_a_module_without_scores_says_what_it_returns(tmp_path: Path) -> None:
    net = Body(lambda s, f: {"boxes": s[:, None].expand(-1, 3, -1), "masks": f[:, None, None] * 1})
    with pytest.raises(ModelError, match=r"boxes \[2, 3, 5\], masks"):
        export(net, tmp_path / "m.onnx", size=16)
    with pytest.raises(ModelError, match="without tensors"):
        export(Body(lambda s, f: "cat"), tmp_path / "m.onnx", size=16)


def test_a_module_that_cannot_run_says_so_once(tmp_path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5))
    with pytest.raises(ModelError) as caught:
        export(net, tmp_path / "m.onnx", size=16)
    assert "cannot run on images of 3 x 16 x 16: RuntimeError" in caught.value.problem
    assert len(str(caught.value).splitlines()) == 2


class ByName(Body):
    def forward(self, tokens: Any = None, pixel_values: Any = None) -> Any:
        assert tokens is None
        return super().forward(pixel_values)


def test_images_are_given_by_name_where_they_are_not_the_first(tmp_path: Path) -> None:
    report = export(ByName(), tmp_path / "m.onnx", size=16)
    assert report.contract.verification is not None


class Learning(Body):
    """As a trainer holds it: a part in eval mode, a part frozen, a hook, a lock, a count."""

    def __init__(self) -> None:
        super().__init__()
        self.norm.eval()
        self.conv.weight.requires_grad_(False)
        self.lock = threading.Lock()  # copy.deepcopy refuses it
        self.seen: list[int] = []
        self.register_buffer("count", torch.zeros(()))
        self.register_forward_hook(lambda module, given, made: self.seen.append(1))

    def forward(self, x: torch.Tensor) -> Any:
        return super().forward(x)


@pytest.mark.parametrize("kind", [Learning, Body])
def test_the_callers_module_stays_as_it_was(kind: type[Body], tmp_path: Path) -> None:
    net = kind()
    net.train(True)
    net.norm.eval()
    before = copy.deepcopy(net.state_dict())
    modes = [part.training for part in net.modules()]
    tensors = [id(p) for p in net.parameters()]
    wanted = [p.requires_grad for p in net.parameters()]
    hooks = len(net._forward_hooks)
    export(net, tmp_path / "m.onnx", size=16)
    assert [part.training for part in net.modules()] == modes
    assert [id(p) for p in net.parameters()] == tensors
    assert [p.requires_grad for p in net.parameters()] == wanted
    assert all(p.dtype == torch.float32 and p.grad is None for p in net.parameters())
    assert len(net._forward_hooks) == hooks
    after = net.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], before[key]) for key in before)


def test_weights_of_a_file_are_not_written_into_the_callers_module(tmp_path: Path) -> None:
    net, other = Body(), Body()
    with torch.no_grad():
        other.head.weight += 1
    torch.save(other.state_dict(), tmp_path / "w.pt")
    before = net.head.weight.clone()
    loaded = load(net, str(tmp_path / "w.pt")).module
    assert torch.equal(net.head.weight, before)
    assert isinstance(loaded, OneOutput)
    x = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(loaded(x), other.eval()(x))


class Made(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = torch.nn.Tanh()(x)
        return scores


def test_a_stranger_in_training_mode_is_refused(tmp_path: Path) -> None:
    inner = Body()

    class Outer(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scores: torch.Tensor = inner(x)
            return scores

    with pytest.raises(
        ModelError, match=r"a (BatchNorm2d|Dropout) in training mode that is not one of its"
    ):
        export(Outer(), tmp_path / "m.onnx", size=16)
    inner.eval()  # and what is made in a forward pass and computes the same in both modes
    assert (
        export(
            torch.nn.Sequential(Outer(), Made()), tmp_path / "m.onnx", size=16
        ).contract.verification
        is not None
    )


def test_lazy_and_meta_modules_are_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no shape yet"):
        export(torch.nn.Sequential(torch.nn.LazyLinear(5)), tmp_path / "m.onnx", size=16)
    with torch.device("meta"):
        net = Body()
    with pytest.raises(ModelError, match="meta device"):
        export(net, tmp_path / "m.onnx", size=16)


def test_an_export_in_inference_mode_is_verified_all_the_same(tmp_path: Path) -> None:
    with torch.inference_mode():
        report = export(Body(), tmp_path / "m.onnx", size=16)
    assert report.contract.verification is not None
    assert report.contract.verification.reference == "torch.autograd"


class Detached(Body):
    """Autograd does not see through it, though the graph's gradient is what it is."""

    def forward(self, x: torch.Tensor) -> Any:
        with torch.no_grad():
            return super().forward(x)


class Insists(Body):
    """Computes in float32 whatever its weights are."""

    def forward(self, x: torch.Tensor) -> Any:
        return torch.nn.functional.linear(
            super().forward(x).float(), torch.eye(5, dtype=torch.float32)
        )


def test_what_autograd_cannot_do_finite_differences_verify(tmp_path: Path) -> None:
    report = export(Detached(), tmp_path / "m.onnx", size=16)
    assert report.contract.verification is not None
    assert "finite differences" in report.contract.verification.reference


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_modules_of_other_dtypes_are_verified(dtype: torch.dtype, tmp_path: Path) -> None:
    """ONNX Runtime's CPU provider has no Conv of float64 or bfloat16: those become float32."""
    net = Body().to(dtype)
    report = export(net, tmp_path / "m.onnx", size=16)
    assert report.contract.verification is not None
    half = dtype == torch.float16
    assert report.contract.precision == ("float16" if half else "float32")
    assert net.head.weight.dtype == dtype


def test_a_module_that_insists_on_float32_is_verified(tmp_path: Path) -> None:
    report = export(Insists(), tmp_path / "m.onnx", size=16)
    assert report.contract.verification is not None
    assert report.contract.verification.reference == "torch.autograd"


def test_the_choice_holds_for_any_batch_and_is_made_once() -> None:
    made = {"logits": torch.zeros(2, 5), "loss": torch.zeros(())}
    assert choose(made, 2, None) == ("logits",)
    assert choose(torch.zeros(2), 2, "anything") == ()
    classifier = load(Body(lambda s, f: (s.argmax(1), s)))
    model, _ = to_onnx(classifier, (16, 16))
    assert [value.name for value in model.graph.outputs] == ["1"]
    assert classifier.module is not None
    assert classifier.module(torch.zeros(7, 3, 16, 16)).shape == (7, 5)
