"""Modules that take images in ways of their own, and what is said where they cannot be run."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from backlit.export import export
from backlit.runtime.errors import ModelError
from torch import nn

SIZE = 16


def net(classes: int = 5) -> nn.Module:
    torch.manual_seed(0)
    pool = nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), pool, nn.Flatten(), nn.Linear(8, classes)
    )


class Around(nn.Module):
    """A function of a network and its input."""

    def __init__(self, taken: Callable[[nn.Module, torch.Tensor], Any]) -> None:
        super().__init__()
        self.inner, self.taken = net(), taken

    def forward(self, x: torch.Tensor) -> Any:
        return self.taken(self.inner, x)


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = net()

    def forward(self, *, images: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        made: torch.Tensor = self.inner(images) * scale
        return made


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = net()

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.inner(x) * mask
        return made


def bytes_alone(inner: nn.Module, x: torch.Tensor) -> Any:
    if x.dtype != torch.uint8:
        raise TypeError("images are bytes")
    return inner(x.float() / 255)


def bytes_last(inner: nn.Module, x: torch.Tensor) -> Any:
    assert x.dtype == torch.uint8
    return inner(x.permute(0, 3, 1, 2).float() / 255)


@pytest.mark.parametrize("taken", [bytes_alone, bytes_last], ids=["[N,C,H,W]", "[N,H,W,C]"])
def test_bytes_are_taken_as_floats_up_to_where_they_become_some(taken: Any, tmp_path: Path) -> None:
    module = Around(taken)
    contract = export(module, tmp_path / "m.onnx", size=SIZE, maps="gradient").contract
    how = contract.normalisation
    assert (how.range, how.mean, how.assumed) == ("0-255", (0.0,) * 3, False)
    assert contract.verification is not None
    assert contract.verification.relative_l2 < 1e-3
    x = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
    session = ort.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    feed = {"image": x, "class_index": np.full((2, 1), 3)}
    scores, gradient = session.run(["scores", "gradient"], feed)
    pixels = torch.tensor(x.transpose(0, 3, 1, 2), dtype=torch.float32, requires_grad=True)
    expected = module.inner(pixels / 255)
    (wanted,) = torch.autograd.grad(expected[:, 3].sum(), pixels)
    np.testing.assert_allclose(scores, expected.detach().numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(gradient[:, 0], wanted.numpy(), rtol=1e-4, atol=1e-8)


def test_an_input_that_must_be_named(tmp_path: Path) -> None:
    report = export(Named(), tmp_path / "m.onnx", size=SIZE)
    assert report.contract.verification is not None
    assert report.contract.verification.reference == "torch.autograd"


def test_parts_under_autocast_are_computed_in_float32(tmp_path: Path) -> None:
    def taken(inner: nn.Module, x: torch.Tensor) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return inner(x).float()

    report = export(Around(taken), tmp_path / "m.onnx", size=SIZE)
    assert report.contract.precision == "float32"


def test_the_callers_random_numbers_stay(tmp_path: Path) -> None:
    module = Around(lambda inner, x: inner(x + torch.rand_like(x)))
    before = torch.get_rng_state()
    with pytest.raises(ModelError, match="random numbers"):
        export(module, tmp_path / "m.onnx", size=SIZE)
    assert torch.equal(torch.get_rng_state(), before)


def quantised() -> dict[str, nn.Module]:
    from torch.ao import quantization

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torchao is to be used
        dynamic = quantization.quantize_dynamic(net().eval(), {nn.Linear}, dtype=torch.qint8)
        plain = nn.Sequential(quantization.QuantStub(), net(), quantization.DeQuantStub())
        plain.eval().qconfig = quantization.get_default_qconfig("x86")  # type: ignore[assignment]
        prepared = quantization.prepare(plain)
        prepared(torch.rand(2, 3, SIZE, SIZE))
        static = quantization.convert(prepared)
        scripted = torch.jit.script(dynamic)
    return {"dynamic": dynamic, "prepared": prepared, "static": static, "scripted": scripted}


def test_pytorchs_quantised_modules_are_refused_in_one_line(tmp_path: Path) -> None:
    for name, module in quantised().items():
        with pytest.raises(ModelError, match="quantised by PyTorch") as caught:
            export(module, tmp_path / "m.onnx", size=SIZE)
        assert "\n" not in caught.value.problem, name
        assert "before its quantisation" in caught.value.fix


def branching(inner: nn.Module, x: torch.Tensor) -> Any:
    return inner(x) if x.sum() > 0 else inner(-x)


def test_what_no_exporter_takes_is_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ModelError, match="none of PyTorch's exporters") as caught:
        export(Around(branching), tmp_path / "m.onnx", size=SIZE)
    assert "Data-dependent" in caught.value.problem
    assert "\n" not in caught.value.problem
    with pytest.raises(ModelError, match="none of PyTorch's exporters"):
        export(nn.Sequential(net(), Unknown()), tmp_path / "m.onnx", size=SIZE)
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err == ""


class Unknown(nn.Module):
    """An operator that ONNX has not."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.bessel_j0(x)


def test_inputs_beside_the_image_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="missing 1 required") as caught:
        export(Two(), tmp_path / "m.onnx", size=SIZE)
    assert "fills in the rest of x, mask" in caught.value.fix


def test_parametrized_weights_are_what_they_are(tmp_path: Path) -> None:
    module = nn.Sequential(net(), nn.utils.parametrizations.orthogonal(nn.Linear(5, 5)))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    contract = export(module, tmp_path / "m.onnx", size=SIZE).contract
    assert contract.verification is not None
    assert contract.verification.reference == "torch.autograd"
    assert nn.utils.parametrize.is_parametrized(module[1])
    after = module.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
