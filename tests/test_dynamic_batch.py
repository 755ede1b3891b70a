"""Files whose batch is dynamic: shapes that exporters compute, and what keeps a whole batch."""

from __future__ import annotations

import contextlib
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
from backlit.export import differentiate, export
from backlit.runtime.errors import ModelError, VerificationError
from onnx import TensorProto, helper, numpy_helper
from support import zoo
from support.real import SHARED

SIZE, CLASSES = 32, 5
SMALL: dict[str, Any] = {
    "img_size": SIZE, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2,
    "num_classes": CLASSES,
}  # fmt: skip
Array = np.ndarray[Any, Any]


class Padded(torch.nn.Module):
    """F.pad before strided convolutions, as MobileNetV2 and EfficientNet of TensorFlow's kind."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(3, 4, 3, stride=2)
        self.second = torch.nn.Conv2d(4, 6, 3)
        self.head = torch.nn.Linear(6, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(torch.nn.functional.pad(x, (0, 1, 0, 1))).tanh()
        x = self.second(torch.nn.functional.pad(x, (1, 1, 1, 1))).tanh()
        result: torch.Tensor = self.head(x.mean((2, 3)))
        return result


class ChannelsLast(torch.nn.Module):
    """Pooling to 1x1 of a tensor whose channels are last in memory: an as_strided in the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(3, 8, 4, stride=4)
        self.norm = torch.nn.LayerNorm(8)
        self.head = torch.nn.Linear(8, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.first(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2).tanh()
        result: torch.Tensor = self.head(torch.nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))
        return result


def _timm(module: str, name: str, **options: Any) -> Callable[[], torch.nn.Module]:
    def make() -> torch.nn.Module:
        models = getattr(zoo.timm().models, module)
        model: torch.nn.Module = getattr(models, name)(**options)
        return model

    return make


MODELS: dict[str, Callable[[], torch.nn.Module]] = {
    "padded": Padded,
    "channels last": ChannelsLast,
    "vit": _timm("vision_transformer", "VisionTransformer", **SMALL),
    "dinov2": _timm(
        "vision_transformer", "VisionTransformer",
        **SMALL, init_values=0.1, reg_tokens=2, no_embed_class=True,
    ),
    "deit": _timm("deit", "VisionTransformerDistilled", **SMALL),
    "cait": _timm("cait", "Cait", **SMALL, depth_token_only=1),
    "beit": _timm(
        "beit", "Beit", **SMALL, init_values=0.1, use_abs_pos_emb=False, use_rel_pos_bias=True
    ),
    "pit": _timm(
        "pit", "PoolingVisionTransformer", img_size=SIZE, patch_size=8, stride=4, base_dims=[8, 8],
        depth=[1, 1], heads=[1, 2], mlp_ratio=2, num_classes=CLASSES,
    ),
    "xcit": _timm("xcit", "Xcit", **SMALL, cls_attn_layers=1, eta=0.1),
    "crossvit": _timm(
        "crossvit", "CrossVit", img_size=SIZE, img_scale=(1.0, 1.0), patch_size=(8, 16),
        embed_dim=(16, 32), depth=((1, 1, 0),), num_heads=(2, 2), mlp_ratio=(2, 2, 1),
        num_classes=CLASSES,
    ),
}  # fmt: skip
DYNAMO = ("channels last", "vit", "cait")  # a few seconds each


def written(model: torch.nn.Module, how: str, file: Path) -> onnx.ModelProto:
    """The file that torch.onnx.export makes, the batch dynamic."""
    example = torch.randn(2, 3, SIZE, SIZE)
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        if how == "dynamo":
            shapes = ({0: torch.export.Dim("batch")},)
            torch.onnx.export(
                model, (example,), file, dynamo=True, dynamic_shapes=shapes, verbose=False
            )
        else:
            torch.onnx.export(
                model, (example,), file, dynamo=False, input_names=["x"],
                dynamic_axes={"x": {0: "batch"}}, opset_version=17,
            )  # fmt: skip
    proto = onnx.load(file)
    assert not proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    return proto


def run(file: Path, image: Array, classes: Array) -> tuple[Array, Array]:
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    scores, gradient = session.run(["scores", "gradient"], {"image": image, "class_index": classes})
    return scores, gradient


@pytest.mark.parametrize(
    ("name", "how"),
    [
        *((name, "TorchScript") for name in MODELS),
        *((name, "dynamo") for name in DYNAMO[:2]),
        *(pytest.param(name, "dynamo", marks=pytest.mark.slow) for name in DYNAMO[2:]),
    ],
)
def test_torch_export_with_a_dynamic_batch(name: str, how: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = zoo.lifelike(MODELS[name](), SIZE)
    written(model, how, tmp_path / "dynamic.onnx")
    export(tmp_path / "dynamic.onnx", tmp_path / "m.onnx", input="float32", maps="gradient")
    image = np.random.default_rng(0).standard_normal((3, 3, SIZE, SIZE)).astype(np.float32)
    classes = np.array([[0, 1], [2, 3], [4, 0]])
    scores, gradient = run(tmp_path / "m.onnx", image, classes)
    x = torch.tensor(image).double().requires_grad_()
    right = model.double()(x)
    np.testing.assert_allclose(scores, right.detach(), rtol=1e-4, atol=1e-4)
    for k in range(2):
        total = right[range(3), classes[:, k]].sum()
        (expected,) = torch.autograd.grad(total, x, retain_graph=True)
        scale = float(expected.abs().max())
        np.testing.assert_allclose(gradient[:, k], expected, rtol=1e-3, atol=1e-3 * scale)


def test_a_class_token_that_sees_no_image(tmp_path: Path) -> None:
    file = SHARED / "cases" / "b3min.onnx"
    if not file.exists():
        pytest.skip("not here")
    with pytest.raises(VerificationError, match=r"nothing was measured.* no score .* moves"):
        export(file, tmp_path / "m.onnx")
    export(file, tmp_path / "m.onnx", input="float32", maps="gradient", verify=False)
    own = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    (image,) = own.get_inputs()
    sides = [d if isinstance(d, int) else 2 for d in image.shape]
    x = np.random.default_rng(0).standard_normal(sides).astype(np.float32)
    scores, gradient = run(tmp_path / "m.onnx", x, np.zeros((len(x), 1), np.int64))
    np.testing.assert_array_equal(scores, own.run(None, {image.name: x})[0])
    assert not gradient.any()


@pytest.mark.parametrize("name", ["pad_dynb", "tv_fp16"])
def test_files_that_people_brought(name: str, tmp_path: Path) -> None:
    file = SHARED / "cases" / f"{name}.onnx"
    if not file.exists():
        pytest.skip("not here")
    verified = export(file, tmp_path / "m.onnx").contract.verification
    assert verified is not None
    assert verified.cosine >= 0.9999


# -- what keeps a whole batch ----------------------------------------------------------------------

LARGEST, LARGEST_32 = 2**63 - 1, 2**31 - 1
INT = np.int64


def _slices(batch: int | str) -> dict[str, tuple[list[onnx.NodeProto], dict[str, Array]]]:
    """Nodes from "c" [N, 4, 8, 8] to "s" of the same images, and their constants."""
    whole = batch if isinstance(batch, int) else LARGEST
    node = helper.make_node

    def cut(starts: Any, ends: Any, axes: Any, steps: Any = None) -> Any:
        given = {"starts": starts, "ends": ends, "axes": axes, "steps": steps}
        constants = {k: np.array(v, INT) for k, v in given.items() if v is not None}
        return [node("Slice", ["c", *constants], ["s"])], constants

    shape, first = node("Shape", ["c"], ["dims"]), np.array([0], INT)
    n = node("Gather", ["dims", "zero"], ["n"], axis=0)
    return {
        "whole": cut([0], [whole], [0], [1]),
        "INT_MAX": cut([0], [LARGEST], [0]),
        "INT32_MAX": cut([0], [LARGEST_32], [0], [1]),
        "from before the first": cut([-LARGEST], [LARGEST], [0], [1]),
        "negative axis": cut([0], [LARGEST], [-4], [1]),
        "with another axis": cut([0, 1], [whole, 3], [0, 1], [1, 1]),
        "all axes": cut([0, 0, 1, 0], [LARGEST, 4, 7, LARGEST], None),
        "to a computed end": (
            [shape, n, node("Slice", ["c", "zero", "n", "zero", "one"], ["s"])],
            {"zero": first, "one": np.array([1], INT)},
        ),
        "from a computed start": (
            [shape, n, node("Neg", ["n"], ["start"]),
             node("Slice", ["c", "start", "n", "zero"], ["s"])],
            {"zero": first},
        ),
        "computed end of every axis": (
            [shape, node("Slice", ["c", "starts", "dims"], ["s"])],
            {"starts": np.array([0, 0, 0, 0], INT)},
        ),
        "Split in one part": (
            [shape, n, node("Split", ["c", "n"], ["s"], axis=0)], {"zero": first},
        ),
        "Gather of all": (
            [shape, node("Gather", ["dims", "z"], ["n"]),
             node("Range", ["z", "n", "o"], ["all"]), node("Gather", ["c", "all"], ["s"], axis=0)],
            {"z": np.array(0, INT), "o": np.array(1, INT)},
        ),
    }  # fmt: skip


def sliced(name: str, batch: int | str) -> onnx.ModelProto:
    nodes, constants = _slices(batch)[name]
    rng = np.random.default_rng(0)
    w = rng.standard_normal((4, 3, 3, 3)).astype(np.float32)
    v = rng.standard_normal((4, CLASSES)).astype(np.float32)
    if name == "with another axis":
        v = v[:2]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4), *nodes,
        helper.make_node("Tanh", ["s"], ["t"]),
        helper.make_node("GlobalAveragePool", ["t"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]), helper.make_node("MatMul", ["f", "v"], ["y"]),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "sliced",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, CLASSES])],
        [numpy_helper.from_array(a, k) for k, a in {"w": w, "v": v, **constants}.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("batch", ["N", 1, 2])
@pytest.mark.parametrize("name", list(_slices("N")))
def test_a_full_range_is_no_cut(name: str, batch: int | str, tmp_path: Path) -> None:
    model = sliced(name, batch)
    export(model, tmp_path / "m.onnx", input="float32", maps="gradient")
    image = np.random.default_rng(1).standard_normal((4, 3, 8, 8)).astype(np.float32)
    classes = np.zeros((4, 1), INT)
    scores, gradient = run(tmp_path / "m.onnx", image, classes)
    source = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    count = batch if isinstance(batch, int) else 4
    parts = [source.run(None, {"x": image[i : i + count]})[0] for i in range(0, 4, count)]
    np.testing.assert_allclose(scores, np.concatenate(parts), rtol=1e-4, atol=1e-5)
    for n in range(4):
        _, alone = run(tmp_path / "m.onnx", image[n : n + 1], classes[:1])
        np.testing.assert_allclose(gradient[n], alone[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("starts", "ends", "steps"), [([1], [LARGEST], [1]), ([0], [-1], [1]), ([-1], [-LARGEST], [-1])]
)
def test_a_part_of_the_batch_is_refused(
    starts: list[int], ends: list[int], steps: list[int], tmp_path: Path
) -> None:
    model = sliced("whole", "N")
    for tensor in model.graph.initializer:
        given = {"starts": starts, "ends": ends, "steps": steps}.get(tensor.name)
        if given is not None:
            tensor.CopyFrom(numpy_helper.from_array(np.array(given, INT), tensor.name))
    with pytest.raises(ModelError, match="cutting up the batch"):
        export(model, tmp_path / "m.onnx")


def test_the_same_elements_of_every_image(tmp_path: Path) -> None:
    """as_strided that takes some elements of each image, in another order."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 6])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    node = helper.make_node
    nodes = [
        node("Reshape", ["x", "flat"], ["r"]), node("Shape", ["x"], ["d"]),
        node("Gather", ["d", "zero"], ["n"]), node("Range", ["zero", "n", "one"], ["i"]),
        node("Mul", ["i", "six"], ["j"]), node("Unsqueeze", ["j", "last"], ["k"]),
        node("Add", ["k", "places"], ["where"]), node("Gather", ["r", "where"], ["g"]),
        node("Mul", ["g", "g"], ["y"]),
    ]  # fmt: skip
    constants = {
        "flat": np.array([-1]), "zero": np.array(0), "one": np.array(1), "six": np.array(6),
        "last": np.array([1]), "places": np.array([[5, 0, 3, 3]]),
    }  # fmt: skip
    initializers = [numpy_helper.from_array(a, k) for k, a in constants.items()]
    graph = helper.make_graph(nodes, "strided", [x], [y], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    made = differentiate(model, wrt="x", seed="seed")
    session = ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    image, seed = rng.standard_normal((3, 6)), rng.standard_normal((1, 3, 4))
    image, seed = image.astype(np.float32), seed.astype(np.float32)
    found, gradient = session.run(None, {"x": image, "seed": seed})
    np.testing.assert_array_equal(found, image[:, [5, 0, 3, 3]] ** 2)
    expected = np.zeros((1, 3, 6), np.float32)
    for place, k in zip([5, 0, 3, 3], range(4), strict=True):
        expected[..., place] += 2 * image[:, place] * seed[..., k]
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)
