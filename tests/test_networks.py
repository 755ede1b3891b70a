"""Whole architectures against torch.autograd, from seeded random weights."""

from __future__ import annotations

import copy
import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import zoo
from backlit import models
from backlit.export import differentiate, export
from backlit.export.sources import Classifier, to_onnx
from onnx.reference import ReferenceEvaluator
from PIL import Image

COUNT = 4
NETWORKS = {
    "alexnet": 224, "vgg16": 224, "vgg16_bn": 224, "resnet18": 224, "resnet50": 224,
    "squeezenet1_1": 224, "densenet121": 224, "googlenet": 224, "inception_v3": 299,
    "mobilenet_v2": 224, "mobilenet_v3_small": 224, "efficientnet_b0": 224,
    "shufflenet_v2_x1_0": 224, "mnasnet1_0": 224, "regnet_y_400mf": 224,
}  # fmt: skip


def pictures(size: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Some of the embedded sample pictures, float32 [4,3,size,size], normalised as for ImageNet."""
    files = sorted(models.samples().glob("*.jpg"))[:COUNT]
    images = [np.asarray(Image.open(f).convert("RGB").resize((size, size))) for f in files]
    scaled = (np.stack(images) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2).astype(np.float32))


@pytest.fixture(autouse=True)
def _release_memory() -> Iterator[None]:
    yield
    gc.collect()


@pytest.mark.parametrize("name", NETWORKS)
def test_float32_gradient_agrees_with_autograd(name: str, tmp_path: Path) -> None:
    size, file = NETWORKS[name], tmp_path / "model.onnx"
    model = zoo.classifier(name, size=size)
    report = export(model, file, size=size, input="float32", output="gradient", check=False)
    assert report.refused == ()  # only what TensorRT's parser is known to take

    image = pictures(size)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    classes = np.array([[-1, 3], [7, -2], [-1, 0], [999, -1]])
    scores, chosen, gradient = session.run(
        ["scores", "class", "gradient"], {"image": image, "class_index": classes}
    )
    # The reference in float64, so that only one side of the comparison rounds.
    x = torch.tensor(image, dtype=torch.float64, requires_grad=True)
    output = copy.deepcopy(model).double()(x)
    own = output.detach().numpy()
    np.testing.assert_allclose(scores, own, rtol=1e-3, atol=1e-4 * np.abs(own).max())
    cosines, errors = [], []
    for k in range(2):
        total = output[range(COUNT), chosen[:, k]].sum()
        (expected,) = torch.autograd.grad(total, x, retain_graph=True)
        for found, right in zip(gradient[:, k].astype(np.float64), expected.numpy(), strict=True):
            lengths = np.linalg.norm(found), np.linalg.norm(right)
            cosines.append(np.vdot(found, right) / lengths[0] / lengths[1])
            errors.append(np.linalg.norm(found - right) / lengths[1])
    # float32 flips ReLU masks near zero, one picture more than another: PyTorch's own float32 is
    # as far from its float64. A wrong gradient is off on every picture, or far off on one.
    cosine, error = np.median(cosines), np.median(errors)
    print(f"{name}: cosine {cosine:.8f}, relative L2 {error:.2e}, worst {max(errors):.2e}")
    assert cosine >= 0.9999
    assert error <= 1e-2
    assert max(errors) <= 5e-2


@pytest.mark.parametrize(
    ("name", "size"),
    [("resnet18", 40), ("squeezenet1_1", 48), ("mobilenet_v2", 40), ("shufflenet_v2_x1_0", 40),
     ("regnet_y_400mf", 40), ("mnasnet1_0", 40)],
)  # fmt: skip
def test_float64_gradient_equals_autograd(name: str, size: int) -> None:
    model = zoo.classifier(name, size=max(size, 64)).double()
    proto, _ = to_onnx(Classifier(name, "", None, model), (size, size))
    made: onnx.ModelProto = differentiate(proto, seed="seed")
    image = np.random.default_rng(0).standard_normal((2, 3, size, size))
    seed = np.random.default_rng(1).standard_normal((3, 2, 1000))
    scores, gradient = ReferenceEvaluator(made).run(None, {"input": image, "seed": seed})
    x = torch.tensor(image, requires_grad=True)
    output = model(x)
    np.testing.assert_allclose(scores, output.detach(), rtol=1e-9, atol=1e-12)
    for k in range(3):
        (expected,) = torch.autograd.grad(output, x, torch.tensor(seed[k]), retain_graph=True)
        error = np.linalg.norm(gradient[k] - expected.numpy()) / expected.norm().item()
        assert error <= 1e-9
