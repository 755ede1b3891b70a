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
from backlit.export import differentiate, export
from backlit.export.sources import Classifier, to_onnx
from onnx.reference import ReferenceEvaluator

NETWORKS = {
    "alexnet": 224, "vgg16": 224, "vgg16_bn": 224, "resnet18": 224, "resnet50": 224,
    "squeezenet1_1": 224, "densenet121": 224, "googlenet": 224, "inception_v3": 299,
    "mobilenet_v2": 224, "mobilenet_v3_small": 224, "efficientnet_b0": 224,
    "shufflenet_v2_x1_0": 224, "mnasnet1_0": 224, "regnet_y_400mf": 224,
}  # fmt: skip


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

    rng = np.random.default_rng(0)
    image = rng.standard_normal((2, 3, size, size)).astype(np.float32)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    classes = np.array([[-1, 3], [7, -2]])
    scores, chosen, gradient = session.run(
        ["scores", "class", "gradient"], {"image": image, "class_index": classes}
    )
    # The reference in float64, so that only one side of the comparison rounds.
    x = torch.tensor(image, dtype=torch.float64, requires_grad=True)
    output = copy.deepcopy(model).double()(x)
    np.testing.assert_allclose(scores, output.detach(), rtol=1e-3, atol=1e-4 * output.abs().max())
    expected = np.stack(
        [
            [
                torch.autograd.grad(output[n, k], x, retain_graph=True)[0][n].numpy()
                for k in chosen[n]
            ]
            for n in range(2)
        ]
    )
    cosine = np.vdot(gradient, expected) / np.linalg.norm(gradient) / np.linalg.norm(expected)
    error = np.linalg.norm(gradient - expected) / np.linalg.norm(expected)
    print(f"{name}: cosine {cosine:.8f}, relative L2 {error:.2e}")
    assert cosine >= 0.9999
    assert error <= 1e-2


@pytest.mark.parametrize(
    ("name", "size"),
    [("resnet18", 40), ("squeezenet1_1", 48), ("mobilenet_v2", 40), ("shufflenet_v2_x1_0", 40),
     ("regnet_y_400mf", 40), ("googlenet", 64), ("mobilenet_v3_small", 40)],
)  # fmt: skip
def test_float64_gradient_equals_autograd(name: str, size: int) -> None:
    model = zoo.classifier(name, size=max(size, 64)).double()
    proto = to_onnx(Classifier(name, "", None, model), (size, size))
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
