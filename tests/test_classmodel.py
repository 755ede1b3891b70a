"""Class-model visualisation: the ascent in closed form on linear classifiers, then real ones."""

import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys

import cv2
import numpy as np
import onnx
import pytest
from backlit.export import export
from backlit.runtime import Session
from backlit.runtime import files as output
from backlit.runtime.cli import group as cli
from backlit.runtime.contract import Normalisation
from backlit.runtime.drawing import raster as render
from backlit.runtime.errors import ClassError, ModelError, OptionError
from backlit.runtime.images.load import load
from backlit.runtime.images.prepare import prepare
from backlit.runtime.maps.classmodel import Ascent, ascend
from backlit.runtime.maps.smoothness import shifted, variation_gradient
from click.testing import CliRunner
from PIL import Image
from support.linear_file import write_linear_file
from support.real import entry, options
from support.slow import some_slow
from support.small import convnet

from backlit import models

LABELS = ("cat", "dog", "0-1", "fox", "owl")
MIDDLE = Normalisation(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3), range="0-1")
KINDS = [
    {"dtype": dtype, "colour": colour, "channels": 1 if colour == "grey" else 3, "normalisation": n}
    for dtype in ("float32", "uint8")
    for colour, n in (
        ("RGB", None),
        ("BGR", Normalisation(mean=(104, 117, 123), std=(1, 2, 3), range="0-255")),
        ("grey", None),
    )
]


def written(path, **how):
    """A file that returns the gradient, and its session."""
    linear = write_linear_file(path, output="gradient", **how)
    return linear, Session(path, "cpu", threads=1)


def run(*args):
    return CliRunner().invoke(cli.main, ["visualize", *map(str, args)])


def read(path):
    """Pixels [h,w,3], or [h,w] of a grey picture."""
    with Image.open(path) as picture:
        return np.array(picture)


def lengths(how):
    """How far each step goes, root mean square."""
    return how.lr * (1 - np.arange(how.steps) / how.steps)


def zero_centred(linear):
    """Derivative [classes,C,H,W] of the scores by pixels / 255, RGB, and the mean pixel [C]."""
    n = linear.contract.normalisation
    unit = 255 if n.range == "0-1" else 1
    slope = linear.weight * (255 / unit / np.array(n.std))[:, None, None]
    mean = unit * np.array(n.mean)
    if linear.contract.image.colour == "BGR":
        slope, mean = slope[:, ::-1], mean[::-1]
    return slope, mean


def pictures(image, mean):
    """Zero-centred [N,C,H,W] as float pixels [N,H,W,C]."""
    return np.clip(255 * image.transpose(0, 2, 3, 1) + mean, 0, 255)


# The ascent


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind['dtype']}-{kind['colour']}")
def test_a_linear_score_is_climbed_along_its_weights(kind, tmp_path):
    linear, session = written(tmp_path / "m.onnx", **kind)
    how = Ascent(steps=20, lr=0.002, l2=0)
    found = ascend(session, [3, 0], how)
    slope, mean = zero_centred(linear)
    slope = slope[[3, 0]]
    scale = np.sqrt(np.square(slope).mean((1, 2, 3), keepdims=True))
    expected = pictures(slope / scale * lengths(how).sum(), mean)
    np.testing.assert_allclose([one.picture for one in found], expected, atol=0.51)
    # Score at the mean image, then what each step adds: its length times that of the gradient.
    gone = np.concatenate([[0], lengths(how)[:-1].cumsum()])
    climbed = linear.bias[[3, 0]] + gone[:, None] * (scale[:, 0, 0, 0] * slope[0].size)
    # A file that takes pixels sees them rounded: an error of half a grey level each, at random.
    noise = 0 if kind["dtype"] == "float32" else 4 * scale.max() * slope[0].size ** 0.5 / 255
    rounded = np.array([one.scores for one in found]).T
    np.testing.assert_allclose(rounded, climbed, rtol=1e-4, atol=noise + 1e-4)


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_l2_ends_where_the_objective_is_largest(dtype, tmp_path):
    """S(u) = w.u + b - lambda |u|^2 is largest at w / (2 lambda)."""
    linear, session = written(tmp_path / "m.onnx", dtype=dtype, normalisation=MIDDLE)
    slope, mean = zero_centred(linear)
    l2 = np.abs(slope[1]).max() / 0.4  # within what pixels can be
    (found,) = ascend(session, [1], Ascent(steps=300, lr=0.01, l2=l2))
    np.testing.assert_allclose(found.picture, pictures(slope[1:2] / (2 * l2), mean)[0], atol=1)


def test_the_image_stays_within_what_pixels_can_be(tmp_path):
    linear, session = written(tmp_path / "m.onnx", dtype="float32")
    (found,) = ascend(session, [2], Ascent(steps=100, lr=0.5, l2=0))
    slope, _ = zero_centred(linear)
    np.testing.assert_array_equal(found.picture, 255 * (slope[2] > 0).transpose(1, 2, 0))
    # so the last step's image is the picture, and has its score
    assert found.score == pytest.approx(found.scores[-1], rel=1e-5)
    assert found.score == pytest.approx(linear.scores(found.picture[None])[0, 2], rel=1e-5)


def test_steps_below_a_grey_level_add_up(tmp_path):
    """What a file that takes pixels draws is what one that takes floats draws."""
    made = []
    for dtype in ("uint8", "float32"):
        _, session = written(tmp_path / f"{dtype}.onnx", dtype=dtype)
        (found,) = ascend(session, [0], Ascent(steps=200, lr=1e-3, l2=0))
        made.append(found.picture.astype(int))
    assert 255 * 1e-3 < 0.5
    assert np.abs(made[0] - made[1]).max() <= 1
    assert np.ptp(made[0]) > 50


def test_the_result_says_what_the_classifier_says_of_the_picture(tmp_path):
    linear, session = written(tmp_path / "m.onnx", labels=LABELS)
    for found, index in zip(ascend(session, ["fox", 1], Ascent(steps=9)), (3, 1), strict=True):
        scores = linear.scores(found.picture[None])[0]
        assert (found.index, found.label) == (index, LABELS[index])
        assert found.score == pytest.approx(scores[index], rel=1e-5)
        chances = np.exp(scores - scores.max())
        assert found.probability == pytest.approx(chances[index] / chances.sum(), rel=1e-4)
        assert found.named == scores.argmax()
        assert found.blind == 0


def test_a_sigmoid_at_the_end_makes_the_probability(tmp_path):
    linear = write_linear_file(tmp_path / "m.onnx", output="gradient", dtype="float32")
    score = dataclasses.replace(linear.contract.score, left_out=("Sigmoid",))
    text = dataclasses.replace(linear.contract, score=score).to_json()
    _, session = written(tmp_path / "m.onnx", dtype="float32", metadata=text)
    (found,) = ascend(session, [1], Ascent(steps=1, lr=1e-3))
    assert 0.01 < found.probability < 0.99
    assert found.probability == pytest.approx(1 / (1 + np.exp(-found.score)), rel=1e-6)


def test_same_seed_same_picture_whatever_else_is_drawn(tmp_path):
    weight = np.random.default_rng(1).standard_normal((5, 3, 8, 6)).astype(np.float32)
    weight[4] = 0
    _, session = written(tmp_path / "m.onnx", weight=weight)
    how = Ascent(steps=12, jitter=2, seed=7)
    (alone,) = ascend(session, [2], how)
    again = ascend(session, [4, 2, 0], how)[1]
    np.testing.assert_array_equal(alone.picture, again.picture)
    np.testing.assert_array_equal(alone.scores, again.scores)
    (other,) = ascend(session, [2], dataclasses.replace(how, seed=8))
    assert (other.picture != alone.picture).any()


def test_without_a_gradient_the_direction_is_seeded_noise(tmp_path):
    weight = np.random.default_rng(1).standard_normal((5, 3, 8, 6)).astype(np.float32)
    weight[4] = 0
    _, session = written(tmp_path / "m.onnx", weight=weight)
    first, second = (ascend(session, [4, 1], Ascent(steps=6)) for _ in range(2))
    assert [one.blind for one in first] == [6, 0]
    assert first[0].picture.std() > 1
    np.testing.assert_array_equal(first[0].picture, second[0].picture)


def test_report_sees_every_step(tmp_path):
    _, session = written(tmp_path / "m.onnx")
    seen = []
    found = ascend(session, [0, 1], Ascent(steps=4), lambda step, score: seen.append((step, score)))
    assert [step for step, _ in seen] == [0, 1, 2, 3]
    np.testing.assert_array_equal(
        [score for _, score in seen], np.array([one.scores for one in found]).T
    )


# Beyond the paper


def test_total_variation_has_this_derivative():
    rng = np.random.default_rng(0)
    image, direction = (rng.standard_normal((2, 3, 7, 5)) * 0.1 for _ in range(2))

    def variation(x):
        dy, dx = np.zeros_like(x), np.zeros_like(x)
        dy[:, :, :-1] = x[:, :, 1:] - x[:, :, :-1]
        dx[..., :-1] = x[..., 1:] - x[..., :-1]
        return np.sqrt(dy**2 + dx**2 + 0.01**2).sum()

    step = 1e-6
    slope = (variation(image + step * direction) - variation(image - step * direction)) / (2 * step)
    found = (variation_gradient(image) * direction).sum()
    assert found == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("shift", [(0, 0), (2, -1), (-3, 2), (9, 0), (-9, 9)])
def test_a_shift_back_is_the_adjoint_of_the_shift(shift):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 1, 3, 5, 4))
    back = shifted(y, -shift[0], -shift[1])
    assert (shifted(x, *shift) * y).sum() == pytest.approx((x * back).sum(), abs=1e-12)
    rolled = np.roll(x, shift, (2, 3))
    moved = shifted(x, *shift)
    np.testing.assert_array_equal(moved[moved != 0], rolled[moved != 0])


def test_blur_filters_the_direction(tmp_path):
    linear, session = written(tmp_path / "m.onnx", dtype="float32", height=16, width=12)
    (found,) = ascend(session, [1], Ascent(steps=1, lr=0.05, l2=0, blur=1.5))
    slope, mean = zero_centred(linear)
    blurred = np.array([cv2.GaussianBlur(plane, (0, 0), 1.5) for plane in slope[1]])
    expected = pictures((0.05 * blurred / np.sqrt(np.square(blurred).mean()))[None], mean)[0]
    np.testing.assert_allclose(found.picture, expected, atol=0.51)


def test_total_variation_evens_the_picture_out(tmp_path):
    linear, session = written(tmp_path / "m.onnx", dtype="float32", normalisation=MIDDLE)
    l2 = np.abs(zero_centred(linear)[0]).max() / 0.4
    rough, even = (
        ascend(session, [1], Ascent(steps=200, lr=0.01, l2=l2, tv=tv))[0] for tv in (0, l2)
    )
    steps = [np.abs(np.diff(one.picture.astype(int), axis=0)).mean() for one in (rough, even)]
    assert steps[1] < 0.2 * steps[0]


# Errors


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"lr": 0}, {"lr": np.nan}, {"l2": -1}, {"jitter": -1}, {"seed": -1}]
)
def test_options_out_of_range(wrong):
    with pytest.raises(OptionError, match=next(iter(wrong))):
        Ascent(**wrong)


def test_classes_must_be_classes(tmp_path):
    _, session = written(tmp_path / "m.onnx")
    for classes, says in (([], "no class"), ([-1], "rank"), ([5], "out of range")):
        with pytest.raises(ClassError, match=says):
            ascend(session, classes)


def test_scores_that_are_not_numbers(tmp_path):
    weight = np.full((2, 3, 8, 6), np.inf, np.float32)
    _, session = written(tmp_path / "m.onnx", classes=2, weight=weight)
    with pytest.raises(ModelError, match="not a finite number in step 0"):
        ascend(session, [0])


def test_a_file_of_another_relu_rule_is_refused(tmp_path):
    path = tmp_path / "m.onnx"
    contract = write_linear_file(path, output="gradient").contract
    text = dataclasses.replace(contract, relu="guided").to_json()
    write_linear_file(path, output="gradient", metadata=text)
    result = run(path, "--class", 0, "-o", tmp_path / "a.png")
    assert result.exit_code == 2
    assert "--relu guided, which is not the score's gradient" in result.stderr
    assert not (tmp_path / "a.png").exists()


def test_the_error_for_a_file_without_signs_has_the_line_that_makes_the_right_one(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    onnx.save(convnet(), "small.onnx")
    how = ["--mean", "104,117,123", "--std", "57,58,59", "--range", "0-255", "--bgr"]
    done = CliRunner().invoke(cli.main, ["export", "small.onnx", "-o", "m.backlit.onnx", *how])
    assert done.exit_code == 0
    result = run("m.backlit.onnx", "--class", 0, "-o", "a.png")
    assert result.exit_code == 2
    assert "takes its gradient with the signs" in result.stderr
    line = re.search(r"backlit (export .*)", result.stderr)[1]
    assert CliRunner().invoke(cli.main, shlex.split(line)).exit_code == 0
    result = run("m.gradient.onnx", "--class", 0, "--steps", 5, "-o", "a.png")
    assert result.exit_code == 0
    assert Session("m.gradient.onnx").contract.normalisation == Normalisation(
        "0-255", (104, 117, 123), (57, 58, 59)
    )


# The command


def test_one_class_is_a_picture_that_the_classifier_takes(tmp_path):
    linear, session = written(tmp_path / "m.onnx", labels=LABELS, height=16, width=12)
    result = run(tmp_path / "m.onnx", "--class", "fox", "--steps", 6, "-o", tmp_path / "out/a.png")
    assert result.exit_code == 0
    (line,) = [json.loads(text) for text in result.stdout.splitlines()]
    (found,) = ascend(session, [3], Ascent(steps=6))
    pixels = read(tmp_path / "out/a.png")
    np.testing.assert_array_equal(pixels, found.picture)
    assert line["class"] == 3
    assert line["label"] == "fox"
    assert line["scores"] == pytest.approx(found.scores)
    assert line["score"] == pytest.approx(linear.scores(pixels[None])[0, 3], rel=1e-5)
    assert line["options"]["steps"] == 6
    assert (tmp_path / "out/a.jsonl").read_text() == result.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.jsonl", "a.png"]


def test_several_classes_are_a_sheet_in_batches_of_any_size(tmp_path):
    written(tmp_path / "m.onnx", labels=LABELS, height=16, width=12)
    args = ["--class", "2-4", "--class", "0-1", "--class", 3, "--class", "cat", "--steps", 4]
    first = run(tmp_path / "m.onnx", *args, "-o", tmp_path / "a.png", "--separate")
    second = run(tmp_path / "m.onnx", *args, "-o", tmp_path / "b.png", "--batch", 1)
    assert first.exit_code == second.exit_code == 0
    assert first.stdout == second.stdout
    # "0-1" is a label here, so it is that class.
    assert [json.loads(line)["class"] for line in first.stdout.splitlines()] == [2, 3, 4, 0]
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    high, wide = render.panel_size(16, 12)
    sheet = read(tmp_path / "a.png")
    assert 2 * high < sheet.shape[0] < 3 * high
    assert 2 * wide < sheet.shape[1] < 3 * wide
    assert {path.name for path in tmp_path.glob("a_*.png")} == {f"a_{n}.png" for n in (0, 2, 3, 4)}
    assert read(tmp_path / "a_2.png").shape == (16, 12, 3)
    assert not list(tmp_path.glob("b_*"))


def test_a_grey_classifier_draws_grey(tmp_path):
    _, session = written(tmp_path / "m.onnx", channels=1)
    (found,) = ascend(session, [1], Ascent(steps=3))
    for classes in ("1", "0-1"):
        args = ["--class", classes, "--steps", 3, "-o", tmp_path / f"{classes}.png"]
        assert run(tmp_path / "m.onnx", *args).exit_code == 0
    np.testing.assert_array_equal(read(tmp_path / "1.png"), found.picture[..., 0])
    sheet = read(tmp_path / "0-1.png")[20:300, 20:200]
    np.testing.assert_array_equal(sheet, sheet[..., :1].repeat(3, axis=2))
    assert np.ptp(sheet) > 0


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--class", "0", "-o", "a.jpg"], "is no .png file"),
        (["--class", "3-1", "-o", "a.png"], "say 1-3"),
        (["--class", "0", "-o", "a.png", "--batch", "0"], "--batch"),
        (["--class", "0", "-o", "a.png", "--steps", "0"], "steps=0"),
    ],
)
def test_usage(args, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written("m.onnx")
    result = run("m.onnx", *args)
    assert result.exit_code == 2
    assert says in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_a_range_beyond_the_last_class_says_so(tmp_path):
    written(tmp_path / "m.onnx")
    result = run(tmp_path / "m.onnx", "--class", "3-99999999999", "-o", tmp_path / "a.png")
    assert result.exit_code == 1
    assert "class 5 is out of range" in result.stderr


def test_a_terminal_gets_a_bar_with_the_score_and_stdout_only_data(tmp_path):
    pty = pytest.importorskip("pty", reason="no pseudo-terminals here")
    written(tmp_path / "m.onnx")
    args = ["visualize", "m.onnx", "--class", "0-2", "--steps", "30", "-o", "a.png"]
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "wb") as stderr:
        command = [sys.executable, "-m", "backlit.runtime", *args]
        done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=stderr)
    with os.fdopen(ours, "rb") as terminal:
        shown = terminal.read1(1 << 16).decode()
    assert done.returncode == 0
    assert "mean score" in shown
    assert [json.loads(line)["class"] for line in done.stdout.splitlines()] == [0, 1, 2]
    assert "mean score" not in run(tmp_path / "m.onnx", *args[2:-1], tmp_path / "b.png").stderr


def test_what_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    written(tmp_path / "m.onnx")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(output, "whole_file", full)
    monkeypatch.setattr("backlit.runtime.drawing.pictures.whole_file", full)
    result = run(tmp_path / "m.onnx", "--class", "0", "--steps", 2, "-o", tmp_path / "a.png")
    assert result.exit_code == 1
    assert "No space left on device" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_sheets_have_full_rows_where_they_can():
    def shape(count):
        sheet = render.contact_sheet([np.zeros((9, 9, 3), np.uint8)] * count, ["a"] * count)
        return sheet.shape[1] // 320, sheet.shape[0] // 320

    assert [shape(count) for count in (1, 2, 7, 10, 12)] == [
        (1, 1), (2, 1), (3, 3), (5, 2), (4, 3),
    ]  # fmt: skip
    assert render.contact_sheet([np.zeros((9, 9, 1), np.uint8)] * 400, ["a"] * 400).shape[1] <= 4300


# Trained classifiers


def smooth(scores):
    return np.convolve(scores, np.ones(7) / 7, "valid")


def test_the_embedded_classifier_names_what_it_draws(tmp_path):
    file, how = tmp_path / "tiny.onnx", models.PREPROCESSING
    export(
        models.tiny_convnet(), file, mean=how.mean, std=how.std, range=how.range,
        maps="gradient", verify=False,
    )  # fmt: skip
    session = Session(file, "cpu")
    for ascent in (Ascent(steps=30), Ascent(steps=40, lr=0.04, jitter=30, blur=1, tv=0.004)):
        found = ascend(session, range(12), ascent)
        sure = [one for one in found if one.named == one.index and one.probability > 0.99]
        assert len(sure) >= 8


@pytest.mark.parametrize(
    "name",
    some_slow(
        ["squeezenet1_1_logits_fp32", "mobilenetv2_1.0_224_deq"], {"mobilenetv2_1.0_224_deq"}
    ),
)
def test_real_classifiers_are_drawn_above_every_photo(name, shared, tmp_path):
    model = entry(shared, name)
    file = tmp_path / "model.onnx"
    export(shared / model["file"], file, maps="gradient", verify=False, **options(model))
    classes = [207, 323]
    found = ascend(Session(file, "cpu"), classes, Ascent(steps=18))
    images = json.loads((shared / "manifest.json").read_text())["images"]
    session = Session(file, "cpu", maps=[])
    best = np.full(2, -np.inf)
    for image in images:
        if image["split"] == "dev":
            views = prepare(load(shared / image["file"]), session.contract.image).views
            best = np.maximum(best, session.run(views, np.array([classes])).score[0])
    for one, photo in zip(found, best, strict=True):
        assert (np.diff(smooth(one.scores)) > 0).all()
        assert one.score > photo
