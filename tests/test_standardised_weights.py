"""BatchNormalization in training mode that acts on weights alone, as BiT and NFNet have it."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from backlit.export import export
from backlit.runtime.errors import ModelError
from torch.nn import functional


class Standardised(torch.nn.Conv2d):
    """A convolution whose kernel is standardised each time, per output channel; its own gain."""

    def __init__(self, inputs: int, outputs: int, groups: int = 1) -> None:
        super().__init__(inputs, outputs, 3, padding=1, groups=groups)
        self.gain = torch.nn.Parameter(torch.linspace(0.2, 0.9, outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = self.weight.reshape(1, self.out_channels, -1)
        weight = functional.batch_norm(
            flat, None, None, weight=self.gain, training=True, momentum=0.0, eps=1e-6
        ).reshape_as(self.weight)
        return functional.conv2d(x, weight, self.bias, padding=1, groups=self.groups)


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Standardised(3, 8), Standardised(8, 12, groups=2)
        self.head = torch.nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.avg_pool2d(self.first(x).tanh(), 2)
        result: torch.Tensor = self.head(self.second(x).relu().mean((2, 3)))
        return result


def written(model: torch.nn.Module, opset: int, training: bool = False) -> onnx.ModelProto:
    made = io.BytesIO()
    mode = torch.onnx.TrainingMode
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (torch.randn(2, 3, 12, 12),), made, dynamo=False, opset_version=opset,
            input_names=["x"], dynamic_axes={"x": {0: "batch"}},
            training=mode.PRESERVE if training else mode.EVAL, do_constant_folding=not training,
        )  # fmt: skip
    return onnx.load_from_string(made.getvalue())


@pytest.mark.parametrize("opset", [11, 17])
def test_standardised_kernels(opset: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Net().eval()
    proto = written(model, opset)
    assert any(n.op_type == "BatchNormalization" for n in proto.graph.node)
    export(proto, tmp_path / "m.onnx", input="float32", maps="gradient")
    assert not any(
        n.op_type == "BatchNormalization" for n in onnx.load(tmp_path / "m.onnx").graph.node
    )
    image = np.random.default_rng(0).standard_normal((3, 3, 12, 12)).astype(np.float32)
    session = ort.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    feed = {"image": image, "class_index": np.array([[0], [2], [4]])}
    scores, gradient = session.run(["scores", "gradient"], feed)
    x = torch.tensor(image).double().requires_grad_()
    right = model.double()(x)
    np.testing.assert_allclose(scores, right.detach(), rtol=1e-4, atol=1e-5)
    (expected,) = torch.autograd.grad(right[range(3), [0, 2, 4]].sum(), x)
    np.testing.assert_allclose(gradient[:, 0], expected, rtol=1e-3, atol=1e-5)


def test_training_mode_on_activations_stays_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(), torch.nn.Linear(4, 5),
    ).train()  # fmt: skip
    with pytest.raises(ModelError, match="is in training mode"):
        export(written(model, 17, training=True), tmp_path / "m.onnx")
