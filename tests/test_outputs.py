"""Which tensor holds the scores: by evidence, said aloud, asked where nothing tells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from backlit.export import export
from backlit.export.build import ExportReport
from backlit.runtime.cli import main
from backlit.runtime.errors import ModelError, OptionError
from click.testing import CliRunner
from support.real import SHARED
from support.tailed import CLASSES, SIZE, tailed

CASES = SHARED / "cases"
here = pytest.mark.skipif(not CASES.is_dir(), reason="no made cases beside the repository")
FIVE = {str(i): np.array(i) for i in range(5)}
AXES = {"zero": [0], "one": [1], "two": [2], "first": 0, "k": [3]}
UNIT = {"unit": 1.0, "tiny": 1e-7, "hundred": 100.0, "half": 0.5}


def made(lines: str, outputs: str, out: Path, **options: Any) -> ExportReport:
    given = {k: options.pop(k) for k in ("batch", "constants") if k in options}
    given["constants"] = {**AXES, **UNIT, **given.get("constants", {})}
    return export(tailed(lines, outputs, **given), out / "m.onnx", **options)


def gradients(path: Path, image: Any) -> list[Any]:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed = {"image": image, "class_index": np.zeros((len(image), 1), np.int64)}
    found: list[Any] = session.run(["scores", "gradient"], feed)
    return found


# -- shapes and tails ------------------------------------------------------------------------------

SHAPES = {
    "N,1": ("y = Gemm(f, u)", "float[N, 1] y", "y", 1),
    "N": ("z = Gemm(f, u)\ny = Squeeze(z, one)", "float[N] y", "y", 1),
    "N by a whole Squeeze": ("z = Gemm(f, u)\ny = Squeeze(z)", "float[N] y", "z", 1),
    "N,1,C": ("y = Unsqueeze(head, one)", "float[N, 1, 5] y", "y", 5),
    "N,1,1,C": (
        "z = Unsqueeze(head, one)\ny = Unsqueeze(z, one)", "float[N, 1, 1, 5] y", "y", 5
    ),
    "N,C,1": ("y = Unsqueeze(head, two)", "float[N, 5, 1] y", "y", 5),
    "N,C,1,1": ("z = Unsqueeze(head, two)\ny = Unsqueeze(z, two)", "float[N, 5, 1, 1] y", "y", 5),
    "1,N,C": ("y = Unsqueeze(head, zero)", "float[1, N, 5] y", "y", 5),
    "C,N": ("y = Transpose<perm = [1, 0]>(head)", "float[5, N] y", "head", 5),
    "C": ("y = Gather<axis = 0>(head, first)", "float[5] y", "head", 5),
    "N times C": ("y = Reshape(head, less)", "float[M] y", "head", 5),
    "N times C,1": ("y = Reshape(head, column)", "float[M, 1] y", "head", 5),
    "C by Squeeze": ("y = Squeeze(head)", "float[5] y", "head", 5),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_scores_of_any_shape(name: str, tmp_path: Path) -> None:
    lines, outputs, tensor, classes = SHAPES[name]
    u = np.random.default_rng(1).standard_normal((8, 1))
    fixed = {"batch": 1} if name == "C by Squeeze" else {}
    more = {"u": u, "less": [-1], "column": [-1, 1]}
    report = made(
        lines, outputs, tmp_path, constants=more, input="float32", maps="gradient", **fixed
    )
    assert (report.contract.score.tensor, report.contract.score.classes) == (tensor, classes)
    for count in (1, 3):
        image = np.random.default_rng(2).random((count, 3, SIZE, SIZE), np.float32)
        scores, gradient = gradients(tmp_path / "m.onnx", image)
        assert scores.shape == (count, classes)
        assert np.abs(gradient).max() > 0


TAILS = {
    "Softmax": ("y = Softmax<axis = 1>(head)", "Softmax"),
    "LogSoftmax": ("y = LogSoftmax<axis = 1>(head)", "LogSoftmax"),
    "Sigmoid": ("y = Sigmoid(head)", "Sigmoid"),
    "log of Softmax": ("p = Softmax<axis = 1>(head)\ny = Log(p)", "LogSoftmax"),
    "clipped Softmax": ("p = Softmax<axis = 1>(head)\ny = Clip(p, tiny, unit)", "Softmax"),
    "per cent": ("p = Softmax<axis = 1>(head)\ny = Mul(p, hundred)", "Softmax"),
    "Reshape after": ("p = Softmax<axis = 1>(head)\ny = Reshape(p, five)", "Softmax"),
    "Transpose after": ("p = Softmax(head)\ny = Transpose<perm = [1, 0]>(p)", "Softmax"),
    "over the batch": ("y = Softmax<axis = 0>(head)", "Softmax"),
    "spelled Softmax": ("e = Exp(head)\ns = ReduceSum(e, one)\ny = Div(e, s)", "Softmax"),
    "stable Softmax": (
        "m = ReduceMax<axes = [1]>(head)\nd = Sub(head, m)\ne = Exp(d)\ns = ReduceSum(e, one)\n"
        "y = Div(e, s)", "Softmax",
    ),
    "spelled LogSoftmax": ("s = ReduceLogSumExp<axes = [1]>(head)\ny = Sub(head, s)", "LogSoftmax"),
    "longer LogSoftmax": (
        "e = Exp(head)\ns = ReduceSum(e, one)\nl = Log(s)\ny = Sub(head, l)", "LogSoftmax"
    ),
    "spelled Sigmoid": ("n = Neg(head)\ne = Exp(n)\na = Add(e, unit)\ny = Div(unit, a)", "Sigmoid"),
    "reciprocal Sigmoid": (
        "n = Neg(head)\ne = Exp(n)\na = Add(unit, e)\ny = Reciprocal(a)", "Sigmoid"
    ),
    "first image": ("p = Softmax<axis = 1>(head)\ny = Gather<axis = 0>(p, first)", "Softmax"),
}  # fmt: skip


@pytest.mark.parametrize("name", TAILS)
def test_what_makes_probabilities_is_left_out(name: str, tmp_path: Path) -> None:
    lines, operator = TAILS[name]
    shape = {"Transpose after": "5, N", "first image": "5"}.get(name, "N, 5")
    report = made(lines, f"float[{shape}] y", tmp_path, constants={"five": [-1, 5]})
    assert report.contract.score.tensor == "head"
    assert report.contract.score.left_out == (operator,)
    if name == "over the batch":
        (note,) = report.notes
        assert "Softmax runs over axis 0, the images of the batch" in note


def test_a_temperature_stays(tmp_path: Path) -> None:
    """What the Softmax takes are the scores: they are head / T."""
    report = made("t = Div(head, half)\ny = Softmax<axis = 1>(t)", "float[N, 5] y", tmp_path)
    assert report.contract.score.tensor == "t"


DECISIONS = {
    "ArgMax": ("y = ArgMax<axis = 1>(head)", "int64[N, 1] y", ()),
    "ArgMax of Softmax": (
        "p = Softmax(head)\ny = ArgMax<axis = 1, keepdims = 0>(p)", "int64[N] y", ("Softmax",)
    ),
    "TopK": ("p = Softmax(head)\ny, i = TopK(p, k)", "float[N, 3] y, int64[N, 3] i", ("Softmax",)),
    "TopK of logits": ("y, i = TopK(head, k)", "float[N, 3] y, int64[N, 3] i", ()),
    "threshold": ("p = Sigmoid(head)\ny = Greater(p, half)", "bool[N, 5] y", ("Sigmoid",)),
    "threshold as numbers": (
        "p = Sigmoid(head)\nb = Greater(p, half)\ny = Cast<to = 1>(b)", "float[N, 5] y",
        ("Sigmoid",),
    ),
    "best and label": (
        "p = Softmax(head)\nz = ReduceMax<axes = [1], keepdims = 0>(p)\n"
        "y = ArgMax<axis = 1, keepdims = 0>(p)", "float[N] z, int64[N] y", ("Softmax",),
    ),
    "label by table": (
        "i = ArgMax<axis = 1, keepdims = 0>(head)\ny = Gather(table, i)", "int64[N] y", ()
    ),
    "Round": ("p = Sigmoid(head)\ny = Round(p)", "float[N, 5] y", ("Sigmoid",)),
}  # fmt: skip


@pytest.mark.parametrize("name", DECISIONS)
def test_decisions_are_followed_back(name: str, tmp_path: Path) -> None:
    lines, outputs, left_out = DECISIONS[name]
    report = made(lines, outputs, tmp_path, constants={"table": [10, 11, 12, 13, 14]})
    score = report.contract.score
    assert (score.tensor, score.classes, score.left_out) == ("head", CLASSES, left_out)
    assert any(
        "has no gradient; what it is made from is explained: head" in n for n in report.notes
    )
    assert score.candidates == ()


# -- a choice --------------------------------------------------------------------------------------

CHOICES = {
    "embedding first": ("y = Identity(head)", "float[N, 8] f, float[N, 5] y", "y"),
    "embedding feeds Softmax": ("y = Softmax(head)", "float[N, 8] f, float[N, 5] y", "head"),
    "box regression": (
        "b = Gemm(f, four)\ns = Gemm(f, two)\np = Softmax(s)", "float[N, 4] b, float[N, 2] p", "s"
    ),
    "named boxes": (
        "boxes = Gemm(f, four)\ny = Gemm(f, two)", "float[N, 4] boxes, float[N, 2] y", "y"
    ),
    "names": ("a = Gemm(f, four)\nlogits = Gemm(f, two)", "float[N, 4] a, float[N, 2] logits",
              "logits"),
    "camel case": ("a = Gemm(f, four)\nclassScores = Gemm(f, two)",
                   "float[N, 4] a, float[N, 2] classScores", "classScores"),
    "an embedding of unit length": (
        "n = ReduceL2<axes = [1]>(f)\ne = Div(f, n)\ny = Gemm(f, two)",
        "float[N, 8] e, float[N, 2] y", "y",
    ),
    "how sure it is": (
        "p = Softmax(head)\nl = Log(p)\nm = Mul(p, l)\n"
        "h = ReduceSum<keepdims = 0>(m, one)", "float[N] h, float[N, 5] p", "head",
    ),
    "coarse classes feed fine ones": (
        "a = Gemm(f, four)\nb = Gemm(a, square)\nlogits = Identity(b)",
        "float[N, 4] a, float[N, 4] logits", "logits",
    ),
    "auxiliary": ("aux1 = Gemm(f, two)\ny = Gemm(f, two)", "float[N, 2] aux1, float[N, 2] y", "y"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHOICES)
def test_evidence_decides_and_is_told(name: str, tmp_path: Path) -> None:
    lines, outputs, tensor = CHOICES[name]
    rng = np.random.default_rng(3)
    heads = {"four": rng.standard_normal((8, 4)), "two": rng.standard_normal((8, 2))}
    heads["square"] = rng.standard_normal((4, 4))
    report = made(lines, outputs, tmp_path, constants=heads)
    assert report.contract.score.tensor == tensor
    assert len(report.candidates) == 2
    assert report.contract.score.candidates == report.candidates
    assert report.notes[0].startswith("the scores are ")


def five_heads() -> onnx.ModelProto:
    rng = np.random.default_rng(3)
    lines = "\n".join(f"s{i} = Gemm(f, h{i})\ndigit{i} = Softmax(s{i})" for i in range(1, 6))
    outputs = ", ".join(f"float[N, 11] digit{i}" for i in range(1, 6))
    weights: dict[str, object] = {f"h{i}": rng.standard_normal((8, 11)) for i in range(1, 6)}
    return tailed(lines, outputs, constants=weights)


def test_even_evidence_is_asked(tmp_path: Path) -> None:
    model = five_heads()
    with pytest.raises(OptionError) as caught:
        export(model, tmp_path / "m.onnx")
    for i in range(1, 6):
        assert f"digit{i} [N, 11] (Softmax after it)" in caught.value.problem
    assert caught.value.fix == "name one, such as --output-name digit1."
    assert not (tmp_path / "m.onnx").exists()
    report = export(model, tmp_path / "m.onnx", output_name="digit4")
    assert (report.contract.score.tensor, report.notes) == ("s4", ())


def test_labels_are_evidence(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    heads = {"four": rng.standard_normal((8, 4)), "two": rng.standard_normal((8, 2))}
    model = tailed(
        "a = Gemm(f, four)\nb = Gemm(f, two)", "float[N, 4] a, float[N, 2] b", constants=heads
    )
    with pytest.raises(OptionError, match="several outputs could hold the class scores"):
        export(model, tmp_path / "m.onnx")
    report = export(model, tmp_path / "m.onnx", labels=["cat", "dog"])
    assert report.contract.score.tensor == "b"
    assert "2 labels" in report.notes[0]


def test_logits_and_probabilities_are_one_candidate(tmp_path: Path) -> None:
    lines = "p = Softmax(head)\ny = ArgMax<axis = 1>(head)"
    report = made(lines, "float[N, 5] head, float[N, 5] p, int64[N, 1] y", tmp_path)
    assert (report.contract.score.tensor, len(report.candidates)) == ("head", 1)
    assert report.notes == ()


def test_one_output_that_is_no_score_is_asked_about(tmp_path: Path) -> None:
    report = made("embedding = Identity(head)", "float[N, 5] embedding", tmp_path)
    assert "are these classes?" in report.notes[0]


def test_the_command_prints_the_choice_and_info_shows_it(tmp_path: Path) -> None:
    onnx.save(tailed("y = Softmax(head)", "float[N, 8] f, float[N, 5] y"), tmp_path / "a.onnx")
    run, file = CliRunner(), str(tmp_path / "m.onnx")
    result = run.invoke(main, ["export", str(tmp_path / "a.onnx"), "-o", file])
    assert result.exit_code == 0, result.output
    assert "note: the scores are y [N, 5] (Softmax after it), not f [N, 8]" in result.stderr
    shown = run.invoke(main, ["info", file])
    assert "f [N, 8] (feeds y, comes of GlobalAveragePool)" in shown.output
    onnx.save(five_heads(), tmp_path / "five.onnx")
    result = run.invoke(main, ["export", str(tmp_path / "five.onnx"), "-o", file])
    assert (result.exit_code, "digit5 [N, 11]" in result.stderr) == (2, True)


def test_a_chosen_output_can_be_verified_and_rebuilt(tmp_path: Path) -> None:
    """Later commands find the same tensor again, with another ReLU rule too."""
    onnx.save(five_heads(), tmp_path / "five.onnx")
    run, file = CliRunner(), str(tmp_path / "m.onnx")
    result = run.invoke(
        main,
        ["export", str(tmp_path / "five.onnx"), "-o", file, "--output-name", "digit2", "--relu",
         "guided"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    result = run.invoke(main, ["verify", file, str(tmp_path / "five.onnx")])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["cosine"] > 0.9999


# -- tensors inside --------------------------------------------------------------------------------


def test_a_tensor_inside_can_be_named(tmp_path: Path) -> None:
    model = tailed("y = Gemm(head, two)", "float[N, 2] y", constants={"two": np.eye(5, 2)})
    report = export(model, tmp_path / "m.onnx", output_name="head", input="float32",
                    maps="gradient")  # fmt: skip
    assert (report.contract.score.tensor, report.contract.score.classes) == ("head", 5)
    weights = {t.name: torch.tensor(onnx.numpy_helper.to_array(t)) for t in model.graph.initializer}
    image = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    image.requires_grad_()
    c = torch.conv2d(image, weights["w"], weights["wb"], padding=1).relu().mean((2, 3))
    scores = c @ weights["v"] + weights["vb"]
    scores[:, 0].sum().backward()
    found, gradient = gradients(tmp_path / "m.onnx", image.detach().numpy())
    np.testing.assert_allclose(found, scores.detach(), rtol=1e-4, atol=1e-5)
    assert image.grad is not None
    np.testing.assert_allclose(gradient[:, 0], image.grad, rtol=1e-4, atol=1e-6)


def test_a_wrong_name_lists_names_like_it(tmp_path: Path) -> None:
    model = tailed("fc_logits = Identity(head)\ny = Softmax(fc_logits)", "float[N, 5] y")
    with pytest.raises(OptionError, match="makes a tensor 'logits'") as caught:
        export(model, tmp_path / "m.onnx", output_name="logits")
    assert "choose one of: y" in caught.value.fix
    assert "fc_logits" in caught.value.fix


def test_a_named_tensor_that_is_no_score(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"'r' has shape \[N, 8, 16, 16\]; scores are"):
        made("y = Softmax(head)", "float[N, 5] y", tmp_path, output_name="r")


def test_points_are_no_classes(tmp_path: Path) -> None:
    """Scores are not looked for before a Reshape that gave them another meaning."""
    lines = "a = Gemm(f, ten)\ny = Reshape(a, points)"
    more = {"ten": np.eye(8, 10), "points": [-1, 5, 2]}
    with pytest.raises(ModelError, match="5 rows of 2 numbers") as caught:
        made(lines, "float[N, 5, 2] y", tmp_path, constants=more)
    assert "--output-name a" in caught.value.fix


def test_stacked_scores_name_the_tensors_they_are_stacked_of(tmp_path: Path) -> None:
    lines = "a = Unsqueeze(head, one)\nh = Mul(head, half)\nb = Unsqueeze(h, one)\n"
    with pytest.raises(ModelError, match="2 rows of 5 numbers") as caught:
        made(lines + "y = Concat<axis = 1>(a, b)", "float[N, 2, 5] y", tmp_path)
    assert "--output-name head" in caught.value.fix


# -- weights that are no numbers -------------------------------------------------------------------


def test_a_weight_that_is_nan_is_named(tmp_path: Path) -> None:
    model = tailed("y = Softmax(head)", "float[N, 5] y")
    weights = next(t for t in model.graph.initializer if t.name == "v")
    values = onnx.numpy_helper.to_array(weights).copy()
    values[0, :2] = np.nan
    weights.CopyFrom(onnx.numpy_helper.from_array(values, "v"))
    with pytest.raises(ModelError, match=r"the weight 'v' holds NaN, 2 of 40 numbers"):
        export(model, tmp_path / "m.onnx", verify=False)


# -- the made cases --------------------------------------------------------------------------------

SCORES = {
    "argmax_only": ("logits", 5, ()),
    "binary_logit_squeeze": ("logits", 1, ()),
    "dict_out": ("logits", 6, ()),
    "embed_then_logits": ("logits", 5, ()),
    "out_is_input": ("logits", 5, ()),
    "softmax_dim0": ("/m/fc/Gemm_output_0", 6, ("Softmax",)),
    "topk_out": ("logits", 5, ("Softmax",)),
}


@here
@pytest.mark.parametrize("name", SCORES)
def test_made_cases(name: str, tmp_path: Path) -> None:
    report = export(CASES / f"{name}.onnx", tmp_path / "m.onnx")
    score = report.contract.score
    assert (score.tensor, score.classes, score.left_out) == SCORES[name]
    assert report.contract.verification is not None
    assert report.contract.verification.cosine > 0.9999


@here
@pytest.mark.parametrize(
    ("name", "words"), [("out_ntc", "2 rows of 6 numbers"), ("nan_weight", "'w1' holds NaN")]
)
def test_refused_cases(name: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=words):
        export(CASES / f"{name}.onnx", tmp_path / "m.onnx")
