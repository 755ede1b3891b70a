"""Whole architectures against torch.autograd, from seeded random weights."""

from __future__ import annotations

import gc
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from backlit.export import differentiate, export
from backlit.export.sources.torch_export import quiet
from support import zoo
from support.reference import evaluator
from support.slow import some_slow

NETWORKS = {
    "alexnet": 224, "vgg16_bn": 224, "resnet18": 224, "resnet50": 224,
    "squeezenet1_1": 224, "densenet121": 224, "googlenet": 224, "inception_v3": 299,
    "mobilenet_v2": 224, "mobilenet_v3_small": 224, "efficientnet_b0": 224,
    "shufflenet_v2_x1_0": 224, "mnasnet1_0": 224, "regnet_y_400mf": 224,
    "convnext_tiny": 224, "vit_b_16": 224,
}  # fmt: skip
CLASSES = 10


@pytest.fixture(autouse=True)
def _release_memory() -> Iterator[None]:
    yield
    gc.collect()


SLOW = {
    "vgg16_bn", "densenet121", "convnext_tiny", "inception_v3", "resnet50", "regnet_y_400mf",
    "googlenet", "efficientnet_b0", "mnasnet1_0", "vit_b_16", "mobilenet_v2", "alexnet",
    "mobilenet_v3_small", "shufflenet_v2_x1_0", "resnet18",
}  # fmt: skip


@pytest.mark.parametrize("name", some_slow(NETWORKS, SLOW))
def test_float32_gradient_agrees_with_autograd(name: str, tmp_path: Path) -> None:
    size, file = NETWORKS[name], tmp_path / "model.onnx"
    model = zoo.classifier(name, size=size)
    report = export(
        model, file, size=size, mean=zoo.MEAN, std=zoo.STD, maps="gradient", verify=False
    )
    assert report.refused == ()  # only what TensorRT's parser is known to take
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    found = zoo.agreement(model, session)
    print(f"{name}: {found}")
    assert found.good, found


@pytest.mark.parametrize(
    ("name", "size"),
    some_slow(
        [("resnet18", 40), ("squeezenet1_1", 48), ("mobilenet_v2", 40), ("shufflenet_v2_x1_0", 40),
         ("regnet_y_400mf", 40), ("mnasnet1_0", 40)],
        {"regnet_y_400mf", "mnasnet1_0"},
    ),
)  # fmt: skip
def test_float64_gradient_equals_autograd(name: str, size: int) -> None:
    same_in_float64(zoo.classifier(name, size=max(size, 64)), size, 1000, 1e-9)


def same_in_float64(model: torch.nn.Module, size: int, classes: int, tolerance: float) -> None:
    """Three upstream gradients for a batch of three, which is not the batch it was exported with.

    Nothing rounds but float64 itself and the attributes, which ONNX holds in float32.
    """
    model = model.double()
    example, file = torch.zeros(2, 3, size, size, dtype=torch.float64), io.BytesIO()
    with quiet():  # TorchScript is ten times faster than torch.export
        torch.onnx.export(
            model, (example,), file, dynamo=False, opset_version=20, input_names=["input"],
            dynamic_axes={"input": {0: "N"}},
        )  # fmt: skip
    made = differentiate(onnx.load_from_string(file.getvalue()), seed="seed")
    image = np.random.default_rng(0).standard_normal((3, 3, size, size))
    seed = np.random.default_rng(1).standard_normal((3, 3, classes))
    scores, gradient = evaluator(made).run(None, {"input": image, "seed": seed})
    x = torch.tensor(image, requires_grad=True)
    output = model(x)
    right = output.detach().numpy()
    assert np.abs(scores - right).max() <= tolerance * np.abs(right).max()
    for k in range(3):
        (expected,) = torch.autograd.grad(output, x, torch.tensor(seed[k]), retain_graph=True)
        error = np.linalg.norm(gradient[k] - expected.numpy()) / expected.norm().item()
        assert error <= tolerance


def vit() -> torch.nn.Module:
    from torchvision.models.vision_transformer import VisionTransformer

    return VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=CLASSES)


def swin(**version: object) -> torch.nn.Module:
    from torchvision.models.swin_transformer import SwinTransformer

    return SwinTransformer([2, 2], 8, [2, 2], [2, 4], [4, 4], num_classes=CLASSES, **version)


def swin_v2() -> torch.nn.Module:
    from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformerBlockV2

    return swin(block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2)


def convnext() -> torch.nn.Module:
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    stages = [CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)]
    return ConvNeXt(stages, num_classes=CLASSES)


def maxvit() -> torch.nn.Module:
    from torchvision.models.maxvit import MaxVit

    return MaxVit((32, 32), 8, 4, [8, 16], [1, 1], 4, 0.0, num_classes=CLASSES)


def efficientnet_v2() -> torch.nn.Module:
    from torchvision.models.efficientnet import EfficientNet, FusedMBConvConfig, MBConvConfig

    stages = [
        FusedMBConvConfig(1, 3, 1, 8, 8, 1), FusedMBConvConfig(4, 3, 2, 8, 16, 1),
        MBConvConfig(4, 3, 2, 16, 16, 1),
    ]  # fmt: skip
    return EfficientNet(stages, 0.1, last_channel=32, num_classes=CLASSES)


def of_timm(name: str, **options: object) -> Callable[[], torch.nn.Module]:
    return lambda: zoo.timm().create_model(
        name, exportable=True, num_classes=CLASSES, **options
    )  # fmt: skip


# Shrunken, so that float64 shows any mistake; odd sizes so that windows are padded and shifted.
MINIATURES: dict[str, tuple[Callable[[], torch.nn.Module], int]] = {
    "vit": (vit, 32), "swin": (swin, 28), "swin_v2": (swin_v2, 28), "convnext": (convnext, 32),
    "maxvit": (maxvit, 32), "efficientnet_v2": (efficientnet_v2, 40),
    "timm vit": (of_timm("test_vit", img_size=64), 64),
    "timm vit, relative positions": (of_timm("test_vit_relpos", img_size=64), 64),
    "timm convnext": (of_timm("test_convnext"), 64), "timm nfnet": (of_timm("test_nfnet"), 48),
    "timm mambaout": (of_timm("test_mambaout"), 48),
    "timm coatnet": (of_timm("test_coatnet", img_size=64), 64),
}  # fmt: skip


@pytest.mark.parametrize("name", some_slow(MINIATURES, {"swin"}))
def test_miniature_equals_autograd_in_float64(name: str) -> None:
    make, size = MINIATURES[name]
    zoo.torchvision()
    torch.manual_seed(0)
    same_in_float64(zoo.lifelike(make(), size), size, CLASSES, 1e-6)
