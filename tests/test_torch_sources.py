"""PyTorch sources: torchvision and timm names, weights files, and the ways to ONNX."""

from __future__ import annotations

import math
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from backlit.export.graph.weights import detach, session
from backlit.export.sources.load import load, to_onnx
from backlit.export.sources.probe import to_scores
from backlit.export.sources.torch_export import module_to_onnx
from backlit.runtime.errors import ModelError
from support import zoo


@pytest.fixture
def models() -> Any:
    return zoo.torchvision().models


@pytest.fixture
def timm() -> Any:
    return zoo.timm()


class Attention(torch.nn.Module):
    """Fused attention of rank 5, which PyTorch's new exporter does not convert."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 8, 4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.stem(x).flatten(2).transpose(1, 2)[:, None, None]
        y = torch.nn.functional.scaled_dot_product_attention(y, y, y)
        return y.mean((1, 2, 3))


class Unrolled(torch.nn.Module):
    """Takes its images one by one: no graph of it serves another batch."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x[i].mean((1, 2)) for i in range(int(x.shape[0]))])


class Bessel(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.bessel_j0(x).mean((2, 3))


def test_a_plain_module_is_exported_with_a_dynamic_batch_and_its_own_tensors() -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.Flatten()).eval()
    model, exporter = module_to_onnx(module, (8, 6), channels=1)
    assert exporter == "torch.export"
    (image,) = model.graph.inputs
    assert [str(d) for d in image.shape or ()] == ["N", "1", "8", "6"]
    weight: Any = model.graph.initializers["0.weight"].const_value
    assert weight.raw.data_ptr() == module[0].weight.data_ptr()  # no copy


def test_what_one_exporter_refuses_the_next_may_take() -> None:
    torch.manual_seed(0)
    module = Attention().eval()
    model, exporter = module_to_onnx(module, (16, 16))
    assert exporter == "TorchScript"
    x = torch.randn(3, 3, 16, 16)
    (found,) = session(detach(model)).run(None, {"input": x.numpy()})
    np.testing.assert_allclose(found, module(x).detach().numpy(), rtol=1e-4, atol=1e-6)


class Counted(torch.nn.Module):
    """Python computes with its batch, as window attention often does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(math.floor(math.sqrt(len(x)) ** 2 + 0.5), 3, -1).mean(-1)


def test_a_batch_written_into_the_graph_is_freed() -> None:
    module = Counted().eval()
    model, exporter = module_to_onnx(module, (4, 4))
    assert exporter == "torch.export, fixed batch"
    x = torch.randn(5, 3, 4, 4)
    (found,) = session(detach(model)).run(None, {"input": x.numpy()})
    np.testing.assert_allclose(found, module(x).numpy(), rtol=1e-4, atol=1e-6)


def test_a_graph_that_serves_one_batch_only_is_refused() -> None:
    with pytest.raises(ModelError) as caught:
        module_to_onnx(Unrolled().eval(), (8, 8))
    assert "wrong for another batch than 2" in str(caught.value)


def test_what_every_exporter_said_is_reported() -> None:
    with pytest.raises(ModelError) as caught:
        module_to_onnx(Bessel().eval(), (8, 8))
    message = str(caught.value)
    assert "bessel_j0" in message
    assert "fix: " in message
    assert "torch.export: " in message
    assert "TorchScript: " in message
    assert message.count("No ONNX function found") == 1  # what several say is said once


def test_constants_that_the_exporter_loses_are_found_again() -> None:
    class Clamped(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x * 2
            return (y.clamp(-1, 1).clamp(0, 1) + y.clamp(-2, 2).clamp(-1, 2)).mean((2, 3))

    module = Clamped().eval()
    model, exporter = module_to_onnx(module, (4, 4))
    assert exporter == "torch.export"
    x = torch.randn(3, 3, 4, 4)
    (found,) = session(detach(model)).run(None, {"input": x.numpy()})
    np.testing.assert_allclose(found, module(x).numpy(), rtol=1e-5, atol=1e-6)


def test_a_depthwise_convolution_does_not_make_an_image_grey() -> None:
    class Linear(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = torch.nn.Linear(3, 8)
            self.mix = torch.nn.Conv2d(8, 8, 3, groups=8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.mix(self.embed(x.movedim(1, -1)).movedim(-1, 1)).mean((2, 3))

    model, _ = to_scores(Linear().eval(), (8, 8), None)
    assert (model.graph.inputs[0].shape or ())[1] == 3


class Small(torch.nn.Module):
    """Stands for a ViT: its position embedding fixes the image's size."""

    def __init__(self, image_size: int = 224) -> None:
        super().__init__()
        self.image_size = image_size
        self.conv_proj = torch.nn.Conv2d(3, 4, 32, 32)
        self.encoder = torch.nn.Module()
        tokens = (image_size // 32) ** 2 + 1
        self.encoder.pos_embedding = torch.nn.Parameter(torch.zeros(1, tokens, 4))


def test_a_vit_has_the_size_of_its_weights(
    models: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The default weights want 384 pixels, the builder without them makes 224."""
    large = types.SimpleNamespace(DEFAULT=models.ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1)
    monkeypatch.setattr(models, "get_model_weights", lambda name: large)
    monkeypatch.setattr(models, "get_model", lambda name, weights, **options: Small(**options))
    assert load("torchvision:vit_b_16", "random").says.size == (224, 224)
    torch.save(Small(384).state_dict(), tmp_path / "w.pt")
    says = load("torchvision:vit_b_16", str(tmp_path / "w.pt")).says
    assert says.size == (384, 384)
    assert says.interpolation == "bicubic"


def test_torchvision_weights_from_a_file_are_taken_as_the_builder_takes_them(
    models: Any, tmp_path: Path
) -> None:
    """Inception's own weights want the input transformed; a model without weights does not."""
    torch.manual_seed(3)
    made = models.get_model("googlenet", weights=None, init_weights=False, transform_input=True)
    torch.save(made.state_dict(), tmp_path / "w.pt")
    loaded = load("torchvision:googlenet", str(tmp_path / "w.pt")).module
    assert loaded is not None
    x = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(loaded(x), made.eval()(x), rtol=0, atol=0)


def test_a_timm_model_says_its_preprocessing(timm: Any) -> None:
    classifier = load("timm:test_vit", "random")
    says = classifier.says
    assert (says.size, says.mean, says.std) == ((160, 160), (0.5,) * 3, (0.5,) * 3)
    assert (says.range, says.interpolation, says.crop_fraction) == ("0-1", "bicubic", 0.95)
    assert says.labels is not None
    assert len(says.labels) == 1000
    assert says.labels[0].startswith("tench")
    model, exporter = to_onnx(classifier)
    assert exporter == "torch.export"
    x = torch.rand(3, 3, 160, 160)
    (found,) = session(detach(model)).run(None, {"input": x.numpy()})
    assert classifier.module is not None
    np.testing.assert_allclose(found, classifier.module(x).detach(), rtol=1e-3, atol=1e-5)


def test_timm_weights_from_a_file(timm: Any, tmp_path: Path) -> None:
    torch.manual_seed(5)
    made = timm.create_model("test_resnet").eval()
    torch.save(made.state_dict(), tmp_path / "w.pt")
    loaded = load("timm:test_resnet", str(tmp_path / "w.pt")).module
    assert loaded is not None
    x = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(loaded(x), made(x))
    with pytest.raises(ModelError, match="do not fit"):
        load("timm:test_vit", str(tmp_path / "w.pt"))


def test_timm_names_are_suggested(timm: Any) -> None:
    with pytest.raises(ModelError, match=r"no model 'resnett18'(?s:.*)did you mean .*resnet18"):
        load("timm:resnett18")


def test_weights_that_cannot_be_downloaded(timm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def create(name: str, **options: Any) -> Any:
        raise OSError("no route to the hub\nand a long explanation")

    monkeypatch.setattr(timm, "create_model", create)
    with pytest.raises(ModelError) as caught:
        load("timm:resnet18")
    assert "no route to the hub" in str(caught.value)
    assert "--weights FILE" in str(caught.value)


@pytest.mark.parametrize(
    ("module", "source", "weights"),
    [("timm", "timm:resnet18", None),
     ("transformers", "hf:somebody/vit", None),
     ("torchvision", "torchvision:resnet18", None)],
)  # fmt: skip
def test_a_missing_package_is_named(
    module: str, source: str, weights: str | None, timm: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / "w.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=f"pip install {module.partition('.')[0]}"):
        load(source, None if weights is None else str(tmp_path / weights))
