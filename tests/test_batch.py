"""A batch that the classifier's file has fixed is freed, whatever wrote it into the graph."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from backlit.export import export
from backlit.runtime.errors import ModelError
from onnx import TensorProto, helper, numpy_helper
from support import zoo

SIZE = 32


def vit() -> torch.nn.Module:
    """Class token, position embedding, and attention that works on [length, batch, width]."""
    model: torch.nn.Module = zoo.torchvision().models.VisionTransformer(
        image_size=SIZE, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32,
        num_classes=5,
    )  # fmt: skip
    return model


def swin() -> torch.nn.Module:
    """Windows in the batch axis, shifted, masked and merged."""
    model: torch.nn.Module = zoo.torchvision().models.SwinTransformer(
        patch_size=[2, 2], embed_dim=8, depths=[2, 2], num_heads=[2, 4], window_size=[4, 4],
        num_classes=5, stochastic_depth_prob=0.0,
    )  # fmt: skip
    return model


class Recurrent(torch.nn.Module):
    """Rows of the image as a sequence; upsampling by a fixed size; a flattening view."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(SIZE * 3, 6, batch_first=True, bidirectional=True)
        self.head = torch.nn.Linear(12 * 8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.permute(0, 2, 1, 3).reshape(x.shape[0], SIZE, -1)
        y = self.lstm(rows)[0].reshape(x.shape[0], 1, SIZE, 12)
        y = torch.nn.functional.interpolate(y, size=(8, 12), mode="bilinear")
        result: torch.Tensor = self.head(y.reshape(x.shape[0], -1))
        return result


MODELS: dict[str, Callable[[], torch.nn.Module]] = {"vit": vit, "swin": swin, "lstm": Recurrent}


def lively(make: Callable[[], torch.nn.Module]) -> torch.nn.Module:
    """Seeded weights large enough that every part of the model matters."""
    torch.manual_seed(0)
    model = make().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3)
    return model


def as_autograd(model: torch.nn.Module, example: torch.Tensor, how: str, folder: Path) -> None:
    """A file made with the example's batch, and exported: right for three images."""
    file = folder / "fixed.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if how == "dynamo":
            torch.onnx.export(model, (example,), file, dynamo=True, verbose=False)
        else:
            written = io.BytesIO()
            torch.onnx.export(model, (example,), written, dynamo=False, opset_version=17)
            file.write_bytes(written.getvalue())
    assert onnx.load(file).graph.input[0].type.tensor_type.shape.dim[0].dim_value == len(example)
    export(file, folder / "m.onnx", input="float32", maps="gradient")  # verifies, too
    image = np.random.default_rng(0).standard_normal((3, 3, SIZE, SIZE)).astype(np.float32)
    session = ort.InferenceSession(folder / "m.onnx", providers=["CPUExecutionProvider"])
    classes = np.array([[0, 1], [2, 3], [4, 0]])
    feed = {"image": image, "class_index": classes}
    scores, gradient = session.run(["scores", "gradient"], feed)
    x = torch.tensor(image, requires_grad=True)
    right = model(x)
    np.testing.assert_allclose(scores, right.detach(), rtol=1e-4, atol=1e-4)
    for k in range(2):
        total = right[range(3), classes[:, k]].sum()
        (expected,) = torch.autograd.grad(total, x, retain_graph=True)
        np.testing.assert_allclose(gradient[:, k], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "how", "old"),
    [("vit", "dynamo", 1), ("vit", "TorchScript", 1), ("vit", "TorchScript", 2),
     pytest.param("swin", "dynamo", 2, marks=pytest.mark.slow), ("swin", "TorchScript", 1),
     ("lstm", "dynamo", 1), pytest.param("lstm", "dynamo", 2, marks=pytest.mark.slow),
     ("lstm", "TorchScript", 1)],
)  # fmt: skip
def test_fixed_batch(name: str, how: str, old: int, tmp_path: Path) -> None:
    as_autograd(lively(MODELS[name]), torch.randn(old, 3, SIZE, SIZE), how, tmp_path)


class Tokens(torch.nn.Module):
    """Tokens of an image, of which indices choose or replace some."""

    def __init__(self, take: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.take = take
        self.cut = torch.nn.Conv2d(3, 8, 8, 8)
        self.head = torch.nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.cut(x).flatten(2).transpose(1, 2).tanh()
        result: torch.Tensor = self.head(self.take(tokens, torch.arange(x.shape[0])))
        return result


def put(tokens: torch.Tensor, where: Any, value: Any) -> torch.Tensor:
    changed = tokens.clone()
    changed[where] = value
    return changed.mean(1)


def rows(tokens: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    n, length, width = tokens.shape
    places = (image[:, None] * length + torch.tensor([3, 0, 5])).flatten()
    return tokens.reshape(-1, width)[places].reshape(n, 3, width).mean(1)


TAKES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "one of each image": lambda t, image: t[image, torch.zeros_like(image)],
    "several of each image": lambda t, image: t[image[:, None], torch.tensor([[2, 0]])].mean(1),
    "rows of all images": rows,
    "the greatest": lambda t, image: t[image, t.sum(-1).argmax(1)],
    "the greatest three": lambda t, image: torch.gather(
        t, 1, t.norm(dim=-1).topk(3, 1).indices[..., None].expand(-1, -1, 8)
    ).mean(1),
    "elements": lambda t, image: torch.gather(
        t, 1, torch.full_like(t[:, :1], 3, dtype=torch.int64)
    )[:, 0],
    "one put to zero": lambda t, image: put(t, (image, torch.zeros_like(image)), 0.0),
    "one replaced": lambda t, image: put(t, (slice(None), 0), t[:, 1]),
    "one scattered": lambda t, image: torch.scatter(
        t, 1, torch.zeros_like(t[:, :1], dtype=torch.int64), torch.ones_like(t[:, :1])
    ).mean(1),
}


@pytest.mark.parametrize("old", [1, 2])
@pytest.mark.parametrize("name", TAKES)
def test_indices_that_hold_the_batch(name: str, old: int, tmp_path: Path) -> None:
    model = lively(lambda: Tokens(TAKES[name]))
    example = torch.randn(old, 3, SIZE, SIZE)
    if old == 2 and name == "the greatest":  # computed, with the first image's length in it
        with pytest.raises(ModelError):
            as_autograd(model, example, "TorchScript", tmp_path)
        return
    as_autograd(model, example, "TorchScript", tmp_path)


def test_constants_that_hold_the_batch(tmp_path: Path) -> None:
    """Reshape, Expand, Resize and Slice as old exporters write them; a token beside the image."""
    rng = np.random.default_rng(0)
    constants: dict[str, Any] = {
        "w": rng.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "v": rng.standard_normal((4 * 13, 5)).astype(np.float32),
        "token": rng.standard_normal((1, 4, 1)).astype(np.float32),
        "zero": np.array([0]), "one": np.array([1]), "axis": np.array([0]),
        "sizes": np.array([1, 4, 3, 4]), "rows": np.array([1, 4, 12]),
        "wide": np.array([1, 4, 12]), "flat": np.array([1, 52]), "roi": np.zeros(0, np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="c", pads=[1] * 4),
        helper.make_node("Slice", ["c", "zero", "one", "axis"], ["s"], name="s"),
        helper.make_node("Resize", ["s", "roi", "", "sizes"], ["r"], name="r", mode="linear"),
        helper.make_node("Reshape", ["r", "rows"], ["q"], name="q"),
        helper.make_node("Expand", ["q", "wide"], ["e"], name="e"),
        helper.make_node("Concat", ["e", "token"], ["t"], name="t", axis=2),
        helper.make_node("Tanh", ["t"], ["h"], name="h"),
        helper.make_node("Reshape", ["h", "flat"], ["f"], name="f"),
        helper.make_node("MatMul", ["f", "v"], ["y"], name="y"),
    ]
    graph = helper.make_graph(
        nodes, "fixed",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    export(model, tmp_path / "m.onnx", input="float32", maps="gradient")
    session = ort.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    one_by_one = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    image = rng.standard_normal((4, 3, 8, 8)).astype(np.float32)
    feed = {"image": image, "class_index": np.zeros((4, 1), np.int64)}
    scores, gradient = session.run(["scores", "gradient"], feed)
    singles = [one_by_one.run(None, {"x": one[None]})[0] for one in image]
    np.testing.assert_allclose(scores, np.concatenate(singles), rtol=1e-4, atol=1e-5)
    for n in range(4):
        alone = {"image": image[n : n + 1], "class_index": np.zeros((1, 1), np.int64)}
        np.testing.assert_allclose(
            gradient[n], session.run(["gradient"], alone)[0][0], rtol=1e-4, atol=1e-5
        )
