"""The interface of an exported file: inputs, outputs, classes, scores, gradients, metadata."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from backlit.export import differentiate, export
from backlit.export.autodiff.registry import RULES, Entry
from backlit.runtime.contract import KEY, Contract
from backlit.runtime.errors import (
    ModelError,
    OptionError,
    UnsupportedOperatorError,
    VerificationError,
)
from onnx import helper
from support import small

Arrays = dict[str, np.ndarray[Any, Any]]


def run(file: Path | onnx.ModelProto, feed: Arrays) -> Arrays:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    data = file.SerializeToString() if isinstance(file, onnx.ModelProto) else str(file)
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(None, feed), strict=True))


def pixels(n: int = 3, size: int = 12, channels: int = 3) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).integers(0, 256, (n, size, size, channels)).astype(np.uint8)


def torch_small(model: onnx.ModelProto, x: torch.Tensor) -> torch.Tensor:
    """small.convnet in torch, from the weights in the file."""
    w = {t.name: torch.tensor(onnx.numpy_helper.to_array(t)) for t in model.graph.initializer}
    y = torch.relu(torch.nn.functional.conv2d(x, w["w"], w["wb"], padding=1))
    return torch.nn.functional.max_pool2d(y, 2).flatten(1) @ w["v"].T + w["vb"]


MEAN, STD = (0.4, 0.5, 0.3), (0.2, 0.25, 0.3)


@pytest.mark.parametrize("bgr", [False, True])
@pytest.mark.parametrize("scaled", ["0-1", "0-255"])
def test_uint8_file_against_torch(bgr: bool, scaled: Any, tmp_path: Path) -> None:
    model, file = small.convnet(), tmp_path / "m.onnx"
    mean, std = (MEAN, STD) if scaled == "0-1" else ((104.0, 117.0, 123.0), (57.0, 58.0, 59.0))
    export(model, file, mean=mean, std=std, bgr=bgr, range=scaled, maps="gradient")
    image, index = pixels(), np.array([[-1, 4], [0, -2], [-6, 2]])
    found = run(file, {"image": image, "class_index": index})
    x = torch.tensor(image.transpose(0, 3, 1, 2).astype(np.float32), requires_grad=True)
    taken = (x.flip(1) if bgr else x) / (255 if scaled == "0-1" else 1)
    taken = (taken - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)
    scores = torch_small(model, taken)
    np.testing.assert_allclose(found["scores"], scores.detach(), rtol=1e-4, atol=1e-5)
    order = scores.detach().numpy().argsort(1)[:, ::-1]
    classes = np.array([[order[0, 0], 4], [0, order[1, 1]], [order[2, 5], 2]])
    np.testing.assert_array_equal(found["class"], classes)
    np.testing.assert_allclose(
        found["score"], np.take_along_axis(found["scores"], classes, 1), rtol=0
    )
    for n, k in np.ndindex(3, 2):
        (expected,) = torch.autograd.grad(scores[n, classes[n, k]], x, retain_graph=True)
        np.testing.assert_allclose(found["gradient"][n, k], expected[n], rtol=1e-4, atol=1e-7)


def test_saliency_is_the_channel_maximum_of_the_gradient(tmp_path: Path) -> None:
    both = {}
    for output in ("saliency", "gradient"):
        export(small.convnet(), tmp_path / output, mean=MEAN, std=STD, maps=output)  # type: ignore[arg-type]
        feed = {"image": pixels(), "class_index": np.array([[0, 1, 2]] * 3)}
        both[output] = run(tmp_path / output, feed)[output]
    np.testing.assert_array_equal(both["saliency"], np.abs(both["gradient"]).max(2))


def test_signature_and_metadata(tmp_path: Path) -> None:
    file = tmp_path / "m.onnx"
    labels = [f"label {i}" for i in range(small.CLASSES)]
    export(small.convnet(end="Softmax"), file, mean=MEAN, std=STD, labels=labels, resize="crop")
    model = onnx.load(file)
    onnx.checker.check_model(model, full_check=True)
    assert {o.domain for o in model.opset_import} == {""}
    assert {n.domain for n in model.graph.node} == {""}

    def signature(values: Any) -> list[Any]:
        return [
            (v.name, v.type.tensor_type.elem_type,
             [d.dim_value or d.dim_param for d in v.type.tensor_type.shape.dim])
            for v in values
        ]  # fmt: skip

    assert signature(model.graph.input) == [
        ("image", onnx.TensorProto.UINT8, ["N", 12, 12, 3]),
        ("class_index", onnx.TensorProto.INT64, ["N", "K"]),
    ]
    assert signature(model.graph.output) == [
        ("scores", onnx.TensorProto.FLOAT, ["N", 6]),
        ("class", onnx.TensorProto.INT64, ["N", "K"]),
        ("score", onnx.TensorProto.FLOAT, ["N", "K"]),
        ("saliency", onnx.TensorProto.FLOAT, ["N", "K", 12, 12]),
    ]
    assert [p.key for p in model.metadata_props] == [KEY]
    contract = Contract.from_json(model.metadata_props[0].value)
    assert contract.labels == tuple(labels)
    assert contract.normalisation.mean == MEAN
    assert not contract.normalisation.assumed
    assert contract.score.left_out == ("Softmax",)
    assert contract.image.resize == "crop"
    assert contract.verification is not None
    assert contract.verification.relative_l2 < 1e-3


@pytest.mark.parametrize("end", ["Softmax", "LogSoftmax", "Sigmoid"])
def test_scores_are_unnormalised(end: str, tmp_path: Path) -> None:
    export(small.convnet(end=end), tmp_path / "ended", input="float32")
    export(small.convnet(), tmp_path / "plain", input="float32")
    image = np.random.default_rng(0).standard_normal((2, 3, 12, 12)).astype(np.float32)
    feed = {"image": image, "class_index": np.array([[0, -1], [-1, 3]])}
    ended, plain = run(tmp_path / "ended", feed), run(tmp_path / "plain", feed)
    for name, value in plain.items():
        np.testing.assert_array_equal(ended[name], value)


def test_scores_of_a_float32_file_are_bit_identical(tmp_path: Path) -> None:
    model = small.convnet()
    export(model, tmp_path / "m", input="float32")
    image = np.random.default_rng(0).standard_normal((5, 3, 12, 12)).astype(np.float32)
    found = run(tmp_path / "m", {"image": image, "class_index": np.full((5, 1), -1)})
    np.testing.assert_array_equal(found["scores"], run(model, {"input": image})["logits"])


def test_one_forward_serves_any_number_of_images_and_classes(tmp_path: Path) -> None:
    file = tmp_path / "m"
    export(small.convnet(), file, mean=MEAN, std=STD)
    graph = onnx.load(file).graph
    forward = [n for n in graph.node if not n.name.startswith(("backward", "saliency"))]
    assert [n.op_type for n in forward].count("Conv") == 1
    image = pixels(4)
    whole = run(file, {"image": image, "class_index": np.tile(np.arange(6), (4, 1))})["saliency"]
    assert whole.shape == (4, 6, 12, 12)
    for n, k in np.ndindex(4, 6):
        alone = run(file, {"image": image[n : n + 1], "class_index": np.array([[k]])})
        np.testing.assert_allclose(whole[n, k], alone["saliency"][0, 0], rtol=1e-5, atol=1e-9)


def test_fixed_batch_becomes_dynamic(tmp_path: Path) -> None:
    reshape = [helper.make_node("Reshape", ["a", "shape"], ["b"], name="reshape")]
    model = small.convnet(batch=1, extra=reshape)
    shape = onnx.numpy_helper.from_array(np.array([1, 4, 12, 12]), "shape")
    model.graph.initializer.append(shape)
    export(model, tmp_path / "m", mean=MEAN, std=STD)
    image = pixels(3)
    found = run(tmp_path / "m", {"image": image, "class_index": np.zeros((3, 1), np.int64)})
    export(small.convnet(), tmp_path / "free", mean=MEAN, std=STD)
    free = run(tmp_path / "free", {"image": image, "class_index": np.zeros((3, 1), np.int64)})
    np.testing.assert_array_equal(found["saliency"], free["saliency"])


def test_grey_images(tmp_path: Path) -> None:
    model = small.convnet(channels=1)
    export(model, tmp_path / "m", mean=[0.5], std=[0.25], maps="gradient")
    image = pixels(2, channels=1)
    found = run(tmp_path / "m", {"image": image, "class_index": np.array([[1], [2]])})
    x = torch.tensor(image.transpose(0, 3, 1, 2).astype(np.float32), requires_grad=True)
    scores = torch_small(model, (x / 255 - 0.5) / 0.25)
    (expected,) = torch.autograd.grad(scores[0, 1] + scores[1, 2], x)
    np.testing.assert_allclose(found["gradient"][:, 0], expected, rtol=1e-4, atol=1e-7)


def test_names_of_the_interface_may_be_taken(tmp_path: Path) -> None:
    extra = [
        helper.make_node("Neg", ["a"], ["class"], name="n1"),
        helper.make_node("Neg", ["class"], ["saliency"], name="n2"),
        helper.make_node("Identity", ["saliency"], ["b"], name="n3"),
    ]
    for names in (("image", "scores"), ("class_index", "score"), ("scores", "image")):
        export(small.convnet(names=names, extra=extra), tmp_path / "m", mean=MEAN, std=STD)
        export(small.convnet(), tmp_path / "plain", mean=MEAN, std=STD)
        feed = {"image": pixels(), "class_index": np.array([[0], [-1], [2]])}
        found, plain = run(tmp_path / "m", feed), run(tmp_path / "plain", feed)
        np.testing.assert_array_equal(found["saliency"], plain["saliency"])


def test_functions_without_a_rule_are_expanded(tmp_path: Path) -> None:
    for op_type in ("Mish", "Shrink"):
        extra = [helper.make_node(op_type, ["a"], ["b"], name="f")]
        report = export(small.convnet(extra=extra, opset=18), tmp_path / "m", mean=MEAN, std=STD)
        assert report.contract.verification is not None
        assert report.contract.verification.relative_l2 < 1e-3


def test_all_unknown_operators_are_named_at_once(tmp_path: Path) -> None:
    extra = [
        helper.make_node("Odd", ["a"], ["a1"], name="first", domain="mine"),
        helper.make_node("Odd", ["a1"], ["a2"], name="second", domain="mine"),
        helper.make_node("Odder", ["a2"], ["b"], name="third", domain="mine"),
    ]
    model = small.convnet(extra=extra)
    model.opset_import.append(helper.make_opsetid("mine", 1))
    with pytest.raises(UnsupportedOperatorError) as caught:
        export(model, tmp_path / "m")
    message = str(caught.value)
    for word in ("mine::Odd (2): first, second", "mine::Odder (1): third", "fix:"):
        assert word in message
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_gradient_is_found_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RULES, "Tanh", Entry(lambda op, node, g: g))
    model = small.convnet(extra=[helper.make_node("Tanh", ["a"], ["b"], name="tanh")])
    with pytest.raises(VerificationError) as caught:
        export(model, tmp_path / "m", mean=MEAN, std=STD)
    assert caught.value.exit_code == 3
    assert list(tmp_path.iterdir()) == []


def test_wrong_weights_in_verification_are_found(tmp_path: Path) -> None:
    """A gradient that is 2 % too long is not let through either."""
    rule = RULES["Relu"].rule

    def longer(op: Any, node: Any, g: Any) -> Any:
        return rule(op, node, g) * 1.02

    before = RULES["Relu"]
    RULES["Relu"] = Entry(longer)
    try:
        with pytest.raises(VerificationError, match="off by"):
            export(small.convnet(), tmp_path / "m", mean=MEAN, std=STD)
    finally:
        RULES["Relu"] = before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"extra": [helper.make_node("ArgMax", ["a"], ["i"], name="x", axis=1),
                    helper.make_node("Cast", ["i"], ["b"], name="y", to=1)]}, "does not depend"),
    ],
)  # fmt: skip
def test_models_that_are_no_image_classifiers(
    change: dict[str, Any], words: str, tmp_path: Path
) -> None:
    if "extra" in change:  # ArgMax leaves one channel; repeat it so that the graph stays valid
        change["extra"].append(helper.make_node("Concat", ["b"] * 4, ["b4"], name="z", axis=1))
    model = small.convnet(**change)
    if "extra" in change:
        next(n for n in model.graph.node if n.name == "pool").input[0] = "b4"
    with pytest.raises(ModelError, match=words):
        export(model, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_options_that_do_not_fit(tmp_path: Path) -> None:
    file = tmp_path / "m"
    for options, words in [
        ({"mean": [0.1, 0.2]}, "2 numbers"),
        ({"std": [1.0, 0.0, 1.0]}, "positive"),
        ({"labels": ["a"]}, "1 labels"),
        ({"size": 224}, "12x12"),
    ]:
        with pytest.raises(OptionError, match=words):
            export(small.convnet(), file, **options)  # type: ignore[arg-type]
    model = small.convnet()
    dims = model.graph.input[0].type.tensor_type.shape.dim
    dims[2].dim_param, dims[3].dim_param = "H", "W"
    with pytest.raises(OptionError, match="--size"):
        export(model, file)
    assert export(model, file, size=12).contract.image.height == 12
    file.unlink()
    assert list(tmp_path.iterdir()) == []


def test_export_of_onnx_does_not_need_torch(tmp_path: Path) -> None:
    onnx.save(small.convnet(), tmp_path / "in.onnx")
    code = (
        "import sys\n"
        "for name in ('torch', 'torchvision'): sys.modules[name] = None\n"
        "from backlit.export import export\n"
        f"report = export({str(tmp_path / 'in.onnx')!r}, {str(tmp_path / 'out.onnx')!r})\n"
        "assert report.contract.verification.relative_l2 < 1e-3\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
    assert (tmp_path / "out.onnx").is_file()


def test_differentiate_with_a_dynamic_batch() -> None:
    """Without a seed the elements of the output are summed, however many there are."""
    model = small.convnet()
    image = np.random.default_rng(0).standard_normal((3, 3, 12, 12)).astype(np.float32)
    x = torch.tensor(image, requires_grad=True)
    torch_small(model, x).sum().backward()
    found = run(differentiate(model), {"input": image})
    np.testing.assert_allclose(found["gradient"], x.grad, rtol=1e-4, atol=1e-6)


def test_differentiate_gives_forces_of_an_energy() -> None:
    """A model that is no classifier: pairwise energy of four points, force = -gradient."""
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [4, 3])
    energy = helper.make_tensor_value_info("energy", onnx.TensorProto.FLOAT, [])
    nodes = [
        helper.make_node("Unsqueeze", ["x", "zero"], ["rows"], name="r"),
        helper.make_node("Unsqueeze", ["x", "one"], ["columns"], name="c"),
        helper.make_node("Sub", ["rows", "columns"], ["d"], name="sub"),
        helper.make_node("Mul", ["d", "d"], ["d2"], name="square"),
        helper.make_node("ReduceSum", ["d2", "last"], ["r2"], name="distance", keepdims=0),
        helper.make_node("Neg", ["r2"], ["n"], name="neg"),
        helper.make_node("Exp", ["n"], ["e"], name="exp"),
        helper.make_node("ReduceSum", ["e"], ["energy"], name="sum", keepdims=0),
    ]
    constants = {"zero": [0], "one": [1], "last": [2]}
    weights = [onnx.numpy_helper.from_array(np.array(v), k) for k, v in constants.items()]
    graph = helper.make_graph(nodes, "energy", [x], [energy], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    points = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    found = run(differentiate(model), {"x": points})
    t = torch.tensor(points, requires_grad=True)
    expected = torch.exp(-((t[None] - t[:, None]) ** 2).sum(-1)).sum()
    expected.backward()
    np.testing.assert_allclose(found["energy"], expected.detach(), rtol=1e-5)
    np.testing.assert_allclose(found["gradient"], t.grad, rtol=1e-4, atol=1e-6)
