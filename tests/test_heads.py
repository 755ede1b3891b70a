"""Detectors and segmenters: the head that can be explained, and what is said of the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from backlit.export import export
from backlit.export.trust.rebuild import rebuilt
from backlit.runtime import Session
from backlit.runtime.cli import main
from backlit.runtime.errors import ModelError
from click.testing import CliRunner
from onnx import helper
from support.tailed import SIZE, tailed

BOXES = SIZE * SIZE
RNG = np.random.default_rng(5)
WEIGHTS: dict[str, object] = {
    "place": RNG.standard_normal((4, 8, 1, 1)),
    "kinds": RNG.standard_normal((3, 8, 1, 1)),
    "both": RNG.standard_normal((7, 8, 1, 1)),
    "more": RNG.standard_normal((2, 8, 1, 1)),
    "one": RNG.standard_normal((1, 8, 1, 1)),
    "rgb": RNG.standard_normal((3, 8, 1, 1)),
    "anchors": RNG.standard_normal((255, 8, 1, 1)),
    "flat": [0, -1, BOXES],
    "parts": [4, 3],
    "five": [0, 3, 7, SIZE, SIZE],
    "axis": [1],
    "xy": [2, 3],
    "few": [20],
    "limit": [100],
    "overlap": [0.5],
    "least": [0.1],
    "twice": [1.0, 1.0, 2.0, 2.0],
}
LOGITS = "l = Conv(r, kinds)\nlogits = Reshape(l, flat)\ns = Sigmoid(logits)\n"
PLACE = "b = Conv(r, place)\nboxes = Reshape(b, flat)\n"

HEADS = {
    "N,4+C,A": (PLACE + LOGITS + "y = Concat<axis = 1>(boxes, s)", f"float[N, 7, {BOXES}] y", 2),
    "N,A,4+C": (
        PLACE + LOGITS + "z = Concat<axis = 1>(boxes, s)\ny = Transpose<perm = [0, 2, 1]>(z)",
        f"float[N, {BOXES}, 7] y", 2,
    ),
    "of one convolution": (
        "c2 = Conv(r, both)\nh = Reshape(c2, flat)\nboxes, logits = Split<axis = 1>(h, parts)\n"
        "s = Sigmoid(logits)\ny = Concat<axis = 1>(boxes, s)", f"float[N, 7, {BOXES}] y", 2,
    ),
    "two halves of a place": (
        PLACE + LOGITS + "xy_, wh_ = Split<axis = 1>(boxes)\ny = Concat<axis = 1>(xy_, wh_, s)",
        f"float[N, 7, {BOXES}] y", 2,
    ),
    "with mask coefficients": (
        PLACE + LOGITS + "m = Conv(r, more)\nq = Reshape(m, flat)\n"
        "z = Concat<axis = 1>(boxes, s)\ny = Concat<axis = 1>(z, q)",
        f"float[N, 9, {BOXES}] y, float[N, 8, {SIZE}, {SIZE}] r", 2,
    ),
    "rows": (
        PLACE + "l = Conv(r, kinds)\nt = Reshape(l, flat)\n"
        "logits = Transpose<perm = [0, 2, 1]>(t)\ns = Sigmoid(logits)\n"
        "u = Transpose<perm = [0, 2, 1]>(boxes)\ny = Concat<axis = 2>(u, s)",
        f"float[N, {BOXES}, 7] y", 1,
    ),
}  # fmt: skip


def expected(model: onnx.ModelProto, image: Any, index: int) -> tuple[Any, Any]:
    """PyTorch's class scores, [N, 3], and the gradient of one with respect to the image."""
    weights = {
        t.name: torch.tensor(onnx.numpy_helper.to_array(t).astype(np.float64))
        for t in model.graph.initializer
        if t.name in ("w", "wb", "kinds", "both")
    }
    x = torch.tensor(image, dtype=torch.float64, requires_grad=True)
    r = torch.conv2d(x, weights["w"], weights["wb"], padding=1).relu()
    split = any(node.op_type == "Split" and node.input[0] == "h" for node in model.graph.node)
    kinds = weights["both"][4:] if split else weights["kinds"]
    scores = torch.conv2d(r, kinds).flatten(2).amax(2)
    scores[:, index].sum().backward()
    return scores.detach().numpy(), x.grad.numpy() if x.grad is not None else None


@pytest.mark.parametrize("name", HEADS)
def test_the_score_of_a_class_is_the_largest_over_boxes(name: str, tmp_path: Path) -> None:
    lines, outputs, axis = HEADS[name]
    model = tailed(lines, outputs, constants=WEIGHTS)
    report = export(model, tmp_path / "m.onnx", input="float32", maps="gradient")
    score = report.contract.score
    assert (score.tensor, score.classes, score.box_axis) == ("logits", 3, axis)
    assert score.left_out == ("Sigmoid",)
    (note,) = report.notes
    assert f"the places of {BOXES} boxes and the scores of 3 classes" in note
    assert report.contract.verification is not None
    assert report.contract.verification.relative_l2 < 1e-3
    image = np.random.default_rng(2).random((2, 3, SIZE, SIZE), np.float32)
    session = ort.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    feed = {"image": image, "class_index": np.full((2, 1), 1)}
    scores, gradient = session.run(["scores", "gradient"], feed)
    wanted, slopes = expected(model, image, 1)
    np.testing.assert_allclose(scores, wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(gradient[:, 0], slopes, rtol=1e-4, atol=1e-5)


def test_class_scores_of_boxes_can_be_named(tmp_path: Path) -> None:
    """The evidence lacks a Sigmoid; a name makes up for it."""
    lines = PLACE + "l = Conv(r, kinds)\nlogits = Reshape(l, flat)\n"
    lines += "y = Concat<axis = 1>(boxes, logits)"
    model = tailed(lines, f"float[N, 7, {BOXES}] y", constants=WEIGHTS)
    with pytest.raises(ModelError, match="seems to be a detector"):
        export(model, tmp_path / "m.onnx")
    for name in ("y", "logits"):
        report = export(model, tmp_path / "m.onnx", output_name=name)
        score = report.contract.score
        assert (score.tensor, score.classes, score.box_axis) == ("logits", 3, 2)
    softmax = tailed(
        "l = Conv(r, kinds)\nt = Reshape(l, flat)\ny = Softmax<axis = 1>(t)",
        f"float[N, 3, {BOXES}] y", constants=WEIGHTS,
    )  # fmt: skip
    report = export(softmax, tmp_path / "m.onnx", output_name="y")
    score = report.contract.score
    assert (score.tensor, score.box_axis, score.left_out) == ("t", 2, ("Softmax",))


def test_boxes_are_told_from_classes_by_the_places(tmp_path: Path) -> None:
    """24 queries and 20 classes, as DETR has them: the other output says which are which."""
    lines = (
        "q = AveragePool<kernel_shape = [11, 13]>(r)\nt = Reshape(q, rows)\n"
        "h = Transpose<perm = [0, 2, 1]>(t)\ny = MatMul(h, twenty)\nu = MatMul(h, four)"
    )
    rng = np.random.default_rng(6)
    more = {"rows": [0, 8, 24], "twenty": rng.random((8, 20)), "four": rng.random((8, 4))}
    model = tailed(lines, "float[N, 24, 20] y, float[N, 24, 4] u", constants=more)
    with pytest.raises(ModelError, match="seems to be a detector"):
        export(model, tmp_path / "m.onnx")
    score = export(model, tmp_path / "m.onnx", output_name="y").contract.score
    assert (score.classes, score.box_axis) == (20, 1)


def test_a_detectors_file_is_verified_rebuilt_and_run(tmp_path: Path) -> None:
    lines, outputs, _ = HEADS["N,4+C,A"]
    model = tailed(lines, outputs, constants=WEIGHTS)
    onnx.save(model, tmp_path / "d.onnx")
    run, file = CliRunner(), str(tmp_path / "m.onnx")
    result = run.invoke(
        main, ["export", str(tmp_path / "d.onnx"), "-o", file, "--relu", "deconvnet"]
    )
    assert result.exit_code == 0, result.output
    assert "note: y [N, 7, 256] is the head of a detector" in result.stderr
    assert run.invoke(main, ["verify", file, str(tmp_path / "d.onnx")]).exit_code == 0
    assert "largest over a detector's boxes" in run.invoke(main, ["info", file]).output
    contract = export(model, tmp_path / "n.onnx").contract
    again = rebuilt(onnx_ir(model), contract, ["saliency"])
    assert [v.name for v in again.graph.outputs] == ["scores", "class", "score", "saliency"]
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    (found,) = Session(tmp_path / "n.onnx", providers=["cpu"]).saliency(pixels)
    assert found.maps.shape == (1, SIZE, SIZE)


def onnx_ir(model: onnx.ModelProto) -> Any:
    import onnx_ir as ir

    return ir.serde.deserialize_model(model)


_A, _S = f"float[N, 3, {SIZE}, {SIZE}] y", "scores of 7 classes per pixel"
SEEMS = {
    "places and scores": (
        PLACE + LOGITS + "u = Transpose<perm = [0, 2, 1]>(boxes)\n",
        f"float[N, {BOXES}, 4] u, float[N, 3, {BOXES}] s", r"a detector \(u: the places",
    ),
    "raw levels": ("y = Conv(r, anchors)\nz = Reshape(y, levels)",
                   f"float[N, 3, 85, {SIZE}, {SIZE}] z", r"seems to be a detector \(z: boxes"),
    "selected boxes": (
        PLACE + "u = Transpose<perm = [0, 2, 1]>(boxes)\nk = Conv(r, one)\nkk = Reshape(k, flat)\n"
        "q = Transpose<perm = [0, 2, 1]>(kk)\ny = Concat<axis = 2>(u, q, q)",
        f"float[N, {BOXES}, 6] y", "places, score and class of selected boxes",
    ),
    "levels of a grid": ("y = Conv(r, anchors)\nz = MaxPool<kernel_shape = [2, 2]>(y)",
                         f"float[N, 255, {SIZE}, {SIZE}] y, float[N, 255, 15, 15] z",
                         "feature maps of several sizes"),
    "backbone": (f"y = AveragePool<kernel_shape = [{SIZE}, {SIZE - 1}]>(r)", "float[N, 8, 1, 2] y",
                 "without a classification head"),
    "labels of pixels": ("z = Conv(r, both)\ny = ArgMax<axis = 1, keepdims = 0>(z)",
                         f"int64[N, {SIZE}, {SIZE}] y", _S),
    "images": ("y = Conv(r, kinds)", _A, "make images of images"),
    "segmenter of 7": ("z = Conv(r, both)\ny = Softmax<axis = 1>(z)",
                       f"float[N, 7, {SIZE}, {SIZE}] y", _S),
    "larger than the image": (
        "k = Conv(r, one)\ny = Resize(k, , twice)", f"float[N, 1, {2 * SIZE}, {2 * SIZE}] y",
        "make images of images",
    ),
    "depth without channels": ("k = Conv(r, one)\ny = Squeeze(k, axis)",
                               f"float[N, {SIZE}, {SIZE}] y", "one number per pixel"),
    "depth": ("y = Conv(r, one)", f"float[N, 1, {SIZE}, {SIZE}] y", "one number per pixel"),
    "tokens": ("t = Reshape(r, tokens)\ny = Transpose<perm = [0, 2, 1]>(t)",
               f"float[N, {BOXES}, 8] y", "256 rows of 8 numbers"),
    "nothing of the image": ("y = Shape(x)", "int64[4] y", "none of them is a float tensor"),
}  # fmt: skip


@pytest.mark.parametrize("name", SEEMS)
def test_what_is_no_classifier_is_told_in_one_line(name: str, tmp_path: Path) -> None:
    lines, outputs, words = SEEMS[name]
    more = {"tokens": [0, 8, BOXES], "levels": [0, 3, 85, SIZE, SIZE]}
    model = tailed(lines, outputs, constants={**WEIGHTS, **more})
    with pytest.raises(ModelError, match=words) as caught:
        export(model, tmp_path / "m.onnx")
    assert "\n" not in caught.value.problem
    assert "classifier" in caught.value.fix


def selecting() -> onnx.ModelProto:
    """A detector with NonMaxSuppression, whose scores [selected] have the shape of a logit."""
    lines = PLACE + LOGITS + (
        "u = Transpose<perm = [0, 2, 1]>(boxes)\n"
        "i = NonMaxSuppression(u, s, limit, overlap, least)\n"
        "m = ReduceMax<axes = [0, 1], keepdims = 0>(s)\n"
        "j = Gather<axis = 1>(i, two)\nscores = Gather<axis = 0>(m, j)"
    )  # fmt: skip
    return tailed(lines, "float[M] scores, int64[M, 3] i", constants={**WEIGHTS, "two": 2})


def test_selected_boxes_are_no_classes(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="a detector that selects its boxes itself") as caught:
        export(selecting(), tmp_path / "m.onnx")
    assert "nms=False" in caught.value.fix


def test_a_plugin_that_selects_is_known_by_its_name(tmp_path: Path) -> None:
    model = tailed(PLACE + LOGITS, f"float[N, 3, {BOXES}] s", constants=WEIGHTS)
    model.graph.node.append(
        helper.make_node("EfficientNMS_TRT", ["boxes", "s"], ["n", "scores"], domain="TRT")
    )
    model.opset_import.append(helper.make_opsetid("TRT", 1))
    del model.graph.output[:]
    model.graph.output.append(
        helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ["N", 100])
    )
    with pytest.raises(ModelError, match="a detector that selects its boxes itself"):
        export(model, tmp_path / "m.onnx")
