"""SmoothGrad, Integrated Gradients and gradient times input: closed forms, torch, captum."""

import dataclasses
import json
import warnings

import numpy as np
import pytest
import torch
from backlit.export import export
from backlit.runtime import Session, pipeline
from backlit.runtime.cli import group as cli
from backlit.runtime.contract import Normalisation
from backlit.runtime.errors import OptionError
from backlit.runtime.images import crops
from backlit.runtime.maps.integrated_gradients import (
    IntegratedGradients,
    baseline_values,
    completeness,
)
from backlit.runtime.maps.kinds import file_outputs
from backlit.runtime.maps.points import graph_values
from backlit.runtime.maps.smoothgrad import SmoothGrad
from click.testing import CliRunner
from PIL import Image
from support.linear_file import write_linear_file
from torch import nn

SIDE = 16
CLASSES = 5
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def pixels(n, height=8, width=6, channels=3, seed=5):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, height, width, channels), dtype=np.uint8)


# Closed forms: the gradient of a linear classifier is the same everywhere


def linear_session(tmp_path, **options):
    linear = write_linear_file(tmp_path / "linear.onnx", **options)
    return linear, Session(linear.path, ["cpu"], 1)


def planes(linear, images):
    """The graph's own values of images, float64 [N,C,H,W]."""
    if linear.contract.image.dtype == "float32":
        return linear.normalised(images).astype(np.float64)
    return images.astype(np.float64).transpose(0, 3, 1, 2)


COLOURS = [
    ("RGB", "0-1", 1.0), ("BGR", "0-1", 1.0), ("BGR", "0-255", 255.0),
]  # fmt: skip


@pytest.mark.parametrize(("colour", "range_", "unit"), COLOURS)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("baseline", ["black", "mean", "blur"])
def test_integrated_gradients_of_a_linear_classifier(
    tmp_path, colour, range_, unit, dtype, baseline
):
    rule = Normalisation(range_, tuple(m * unit for m in MEAN), tuple(s * unit for s in STD))
    linear, session = linear_session(
        tmp_path, output="gradient", dtype=dtype, colour=colour, normalisation=rule,
        height=24, width=20,
    )  # fmt: skip
    images = pixels(3, 24, 20)
    images[:, :12] = 200  # flat: what is far from its edge does not change under the blur
    found = session.saliency(images, [1, 3], map=IntegratedGradients(3, baseline))
    x = planes(linear, images)
    if baseline == "black":
        start = planes(linear, np.zeros_like(images))
    elif baseline == "mean":
        mean = np.rint(np.array(MEAN) * 255)[:: -1 if colour == "BGR" else 1]
        start = planes(linear, np.broadcast_to(mean.astype(np.uint8), images.shape))
        start = np.zeros_like(x) if dtype == "float32" else start
    else:
        start = planes(linear, baseline_values(_uint8(tmp_path), images, "blur"))
        assert np.abs(x - start)[:, :, :5].max() == 0
        assert start[:, :, 18:].std() < 0.5 * x[:, :, 18:].std()
    for one, way in zip(found, x - start, strict=True):
        expected = (linear.gradient()[[1, 3]] * way).sum(1)
        np.testing.assert_allclose(one.maps, expected, rtol=1e-4, atol=1e-4)
        assert expected.max() > 1


def _uint8(tmp_path):
    return linear_session(tmp_path, height=24, width=20)[1]


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("channels", [1, 3])
def test_gradient_times_input_of_a_linear_classifier(tmp_path, dtype, channels):
    linear, session = linear_session(tmp_path, output="gradient", dtype=dtype, channels=channels)
    images = pixels(3, channels=channels)
    found = session.saliency(images, top=2, map="gradxinput", batch=2)
    for one, x in zip(found, planes(linear, images), strict=True):
        expected = (linear.gradient()[one.classes] * x).sum(1)
        np.testing.assert_allclose(one.maps, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("output", ["saliency", "gradient"])
def test_smoothgrad_of_a_linear_classifier_is_its_saliency(tmp_path, output):
    linear, session = linear_session(tmp_path, output=output)
    for signed in {False, output == "gradient"}:
        kind = SmoothGrad(samples=7, noise=0.3, signed=signed)
        (one,) = session.saliency(pixels(1), [2, 0], map=kind)
        np.testing.assert_allclose(one.maps, linear.saliency()[[2, 0]], rtol=1e-5)


# What a file must return


def test_the_map_that_each_kind_is_made_of(tmp_path):
    saliency, _ = linear_session(tmp_path)
    gradient, _ = linear_session(tmp_path, output="gradient")
    maps = saliency.contract.maps + gradient.contract.maps
    both = dataclasses.replace(saliency.contract, maps=maps)
    for kind in ("smoothgrad", SmoothGrad(), "saliency"):
        assert file_outputs(kind, saliency.contract) == file_outputs(kind, both) == ("saliency",)
        assert file_outputs(kind, gradient.contract) == ("gradient",)
    for kind in ("ig", IntegratedGradients(), "gradxinput", SmoothGrad(signed=True)):
        assert file_outputs(kind, gradient.contract) == file_outputs(kind, both) == ("gradient",)
        with pytest.raises(OptionError, match="signs, which the file does not return") as caught:
            file_outputs(kind, saliency.contract)
        assert "--maps saliency,features,gradient" in caught.value.fix


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (SmoothGrad, {"samples": 0}),
        (SmoothGrad, {"noise": -0.1}),
        (SmoothGrad, {"noise": float("nan")}),
        (SmoothGrad, {"seed": -1}),
        (IntegratedGradients, {"steps": 0}),
        (IntegratedGradients, {"baseline": "pink"}),
    ],
)
def test_impossible_options(make, options):
    (name,) = options
    with pytest.raises(OptionError, match=name):
        make(**options)


# A classifier with curvature, against torch


class Curved(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3, 2)
        self.head = nn.Linear(8 * 6 * 6, CLASSES)
        with torch.no_grad():
            self.first.weight *= 3  # well into the bends

    def forward(self, x):
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x)))).flatten(1))


class FromPixels(nn.Module):
    """The same classifier on the graph's own values of a uint8 file, as planes of floats."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        mean, std = (torch.tensor(v, dtype=x.dtype)[:, None, None] for v in (MEAN, STD))
        return self.model((x / 255 - mean) / std)


@pytest.fixture(scope="module")
def curved(tmp_path_factory):
    """By dtype: a session, and the classifier in float64 on the same values [N,C,H,W]."""
    torch.manual_seed(0)
    model, made = Curved().eval(), {}
    for dtype in ("uint8", "float32"):
        path = tmp_path_factory.mktemp("curved") / f"{dtype}.onnx"
        export(
            model, path, size=SIDE, mean=MEAN, std=STD, input=dtype,
            maps=("saliency", "gradient"), verify=False,
        )  # fmt: skip
        made[dtype] = Session(path, ["cpu"], 1)
    model = model.double()
    return {"uint8": (made["uint8"], FromPixels(model)), "float32": (made["float32"], model)}


def values_of(session, images):
    """The graph's own values as float64 planes."""
    x = graph_values(session, images).astype(np.float64)
    return x.transpose(0, 3, 1, 2) if session.contract.image.dtype == "uint8" else x


def gradients(model, x, classes):
    """[N,K,C,H,W]."""
    x = torch.tensor(x, requires_grad=True)
    scores = model(x)
    rows = [torch.autograd.grad(scores[:, c].sum(), x, retain_graph=True)[0] for c in classes]
    return torch.stack(rows, 1).numpy()


def distance(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("signed", [False, True])
def test_smoothgrad_is_what_torch_says(curved, dtype, signed):
    """With the noise drawn here as the docstring says."""
    session, model = curved[dtype]
    images, chosen = pixels(3, SIDE, SIDE), [4, 0]
    images[1] //= 3  # another value range, another deviation
    found = session.saliency(images, chosen, map=SmoothGrad(6, 0.2, signed, seed=9))
    shape = (SIDE, SIDE, 3) if dtype == "uint8" else (3, SIDE, SIDE)
    noise = [np.random.default_rng([9, s]).standard_normal(shape, np.float32) for s in range(6)]
    if dtype == "uint8":
        noise = [one.transpose(2, 0, 1) for one in noise]
    for one, x in zip(found, values_of(session, images), strict=True):
        copies = x + 0.2 * (x.max() - x.min()) * np.stack(noise)
        if dtype == "uint8":
            copies = np.clip(np.rint(copies), 0, 255)
        each = gradients(model, copies, chosen)
        expected = np.abs(each.mean(0)).max(1) if signed else np.abs(each).max(2).mean(0)
        assert distance(one.maps, expected) < 1e-5
        plain = np.abs(gradients(model, x[None], chosen)[0]).max(1)
        assert distance(one.maps, plain) > 0.03


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_smoothgrad_without_noise_is_the_saliency(curved, dtype):
    session, _ = curved[dtype]
    image = pixels(1, SIDE, SIDE)
    (still,) = session.saliency(image, 1, map=SmoothGrad(3, 0.0))
    (plain,) = session.saliency(image, 1)
    np.testing.assert_allclose(still.maps, plain.maps, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("baseline", ["black", "mean", "blur"])
def test_integrated_gradients_are_what_torch_says(curved, dtype, baseline):
    session, model = curved[dtype]
    images, chosen = pixels(2, SIDE, SIDE), [3, 1, 2]
    found = session.saliency(images, chosen, map=IntegratedGradients(9, baseline), batch=5)
    begin = baseline_values(session, images, baseline)
    begin = begin.transpose(0, 3, 1, 2) if dtype == "uint8" else begin
    nodes, weights = np.polynomial.legendre.leggauss(9)
    x = values_of(session, images)
    for one, start, end in zip(found, begin.astype(np.float64), x, strict=True):
        path = start + (nodes[:, None, None, None] + 1) / 2 * (end - start)
        path = np.rint(path) if dtype == "uint8" else path
        mean = np.tensordot(weights / 2, gradients(model, path, chosen), 1)
        assert distance(one.maps, ((end - start) * mean).sum(1)) < 1e-5


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_gradient_times_input_is_what_torch_says(curved, dtype):
    session, model = curved[dtype]
    images, chosen = pixels(3, SIDE, SIDE), [3, 1]
    found = session.saliency(images, chosen, map="gradxinput")
    x = values_of(session, images)
    expected = (gradients(model, x, chosen) * x[:, None]).sum(2)
    for one, each in zip(found, expected, strict=True):
        assert distance(one.maps, each) < 1e-5


@pytest.mark.parametrize("baseline", ["black", "mean", "blur"])
@pytest.mark.parametrize(("dtype", "limit"), [("float32", 1e-5), ("uint8", 5e-3)])
def test_completeness(curved, dtype, limit, baseline):
    """A uint8 file is limited by its rounding of the path, a float32 file by nothing."""
    session, _ = curved[dtype]
    images = pixels(4, SIDE, SIDE)
    index = np.tile(np.arange(CLASSES), (4, 1))

    def error(steps):
        found, gain = completeness(session, images, index, IntegratedGradients(steps, baseline), 8)
        assert found.shape == gain.shape == (4, CLASSES)
        return np.abs(found - gain).max() / np.abs(gain).max()

    assert error(50) < limit
    assert error(1) > 0.1


# Batches


@pytest.mark.parametrize("kind", [SmoothGrad(5, 0.2), IntegratedGradients(5), "gradxinput"])
@pytest.mark.parametrize("views", [1, 2, 10])
def test_a_map_does_not_depend_on_what_it_is_computed_with(curved, kind, views):
    session, _ = curved["uint8"]
    images = list(pixels(5, 20, 18))
    alone = [session.saliency(image, top=2, crops=views, map=kind)[0] for image in images]
    for batch, runs in ((1, 1), (3, 2), (64, 1)):
        results = pipeline.saliency_results(
            session, images, np.array([[-1, -2]]), views, batch, runs=runs, map=kind
        )
        for one, result in zip(alone, results, strict=True):
            np.testing.assert_array_equal(one.classes, result.value.classes)
            np.testing.assert_allclose(one.maps, result.value.maps, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(one.scores, result.value.scores, rtol=1e-5)


def test_noise_is_that_of_the_seed(curved):
    session, _ = curved["uint8"]
    image = pixels(1, SIDE, SIDE)
    maps = [
        session.saliency(image, 0, map=SmoothGrad(3, 0.2, seed=seed))[0].maps for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(maps[0], maps[1])
    assert distance(maps[2], maps[0]) > 0.01


@pytest.mark.parametrize("kind", [SmoothGrad(7), IntegratedGradients(7)])
def test_points_of_several_images_fill_a_batch(curved, kind, monkeypatch):
    session, _ = curved["uint8"]
    sizes, run = [], Session.run

    def counted(self, images, index):
        sizes.append(len(images))
        assert index.min() >= 0 or len(sizes) == 1  # ranks only before the classes are known
        return run(self, images, index)

    monkeypatch.setattr(Session, "run", counted)
    session.saliency(pixels(4, SIDE, SIDE), map=kind, batch=4)
    assert sizes == [4] + [4] * 7
    sizes.clear()
    session.saliency(pixels(1, SIDE, SIDE), [1, 2], map=kind, batch=3)
    assert sizes == [1, 3, 3, 1]


# Ten crops, as the paper's section 3: scores and maps averaged over the crops


@pytest.mark.parametrize("kind", ["saliency", SmoothGrad(4, 0.1), IntegratedGradients(6)])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_ten_crops_are_averaged(curved, dtype, kind):
    """Every view has another gradient, and the direct computation puts each back in its place."""
    session, model = curved[dtype]
    high = wide = crops.frame_size(session.contract.image, 10)[0]
    assert high == 18
    frame = pixels(1, high, wide, seed=8)[0]
    (found,) = session.saliency(frame, top=2, crops=10, batch=4, map=kind)

    corners = [(0, 0), (0, 2), (2, 0), (2, 2), (1, 1)]
    cut = [frame[y : y + SIDE, x : x + SIDE] for y, x in corners]
    views = np.stack([*cut, *(view[:, ::-1] for view in cut)])
    x = values_of(session, views)
    scores = model(torch.tensor(x)).detach().numpy().mean(0)
    chosen = np.argsort(-scores)[:2]
    np.testing.assert_array_equal(found.classes, chosen)
    np.testing.assert_allclose(found.scores, scores[chosen], rtol=1e-5)
    if kind == "saliency":
        maps = np.abs(gradients(model, x, chosen)).max(2)
    else:
        maps = kind.of_views(session, views, np.tile(chosen, (10, 1)), 16)
    total, count = np.zeros((2, high, wide)), np.zeros((high, wide))
    for number, heat in enumerate(maps):
        (top, left), mirrored = corners[number % 5], number >= 5
        place = np.s_[..., top : top + SIDE, left : left + SIDE]
        total[place] += heat[..., ::-1] if mirrored else heat
        count[place] += 1
    np.testing.assert_allclose(found.maps, total / count, rtol=1e-4, atol=1e-6)


# captum


@pytest.fixture(scope="module")
def captum():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the packages that it imports
        return pytest.importorskip("captum.attr", reason="captum is not installed")


def test_captums_smoothgrad_with_the_same_noise(captum, curved, monkeypatch):
    session, model = curved["float32"]
    image = pixels(1, SIDE, SIDE)
    x = torch.tensor(values_of(session, image), requires_grad=True)  # or captum warns
    noise = [
        np.random.default_rng([3, number]).standard_normal((3, SIDE, SIDE), np.float32)
        for number in range(8)
    ]
    drawn = torch.tensor(np.stack(noise), dtype=x.dtype)
    monkeypatch.setattr(torch, "normal", lambda mean, deviation: drawn * deviation)
    tunnel = captum.NoiseTunnel(captum.Saliency(model))
    options = {
        "nt_type": "smoothgrad",
        "nt_samples": 8,
        "stdevs": 0.15 * float(np.ptp(x.detach().numpy())),
    }
    theirs = tunnel.attribute(x, target=2, abs=False, **options)[0]
    (ours,) = session.saliency(image, 2, map=SmoothGrad(8, 0.15, signed=True, seed=3))
    assert distance(ours.maps[0], theirs.abs().amax(0).numpy()) < 1e-4

    # Of the maximum over channels, which is the classifier's saliency as Backlit has it.
    copies = (x + drawn * options["stdevs"]).detach().requires_grad_()
    each = captum.Saliency(model).attribute(copies, target=2)
    (ours,) = session.saliency(image, 2, map=SmoothGrad(8, 0.15, seed=3))
    assert distance(ours.maps[0], each.amax(1).mean(0).numpy()) < 1e-4


def test_captums_integrated_gradients_with_the_same_steps(captum, curved):
    session, model = curved["float32"]
    images = pixels(2, SIDE, SIDE)
    x = torch.tensor(values_of(session, images))
    for baseline in ("black", "mean"):
        start = baseline_values(session, images, baseline).astype(np.float64)
        method = captum.IntegratedGradients(model)
        theirs = method.attribute(x, torch.tensor(start), target=1).sum(1)
        found = session.saliency(images, 1, map=IntegratedGradients(baseline=baseline))
        for ours, expected in zip(found, theirs.numpy(), strict=True):
            assert distance(ours.maps[0], expected) < 1e-4


def test_captums_gradient_times_input(captum, curved):
    session, model = curved["float32"]
    images = pixels(2, SIDE, SIDE)
    x = torch.tensor(values_of(session, images), requires_grad=True)
    theirs = captum.InputXGradient(model).attribute(x, target=0).sum(1).detach()
    found = session.saliency(images, 0, map="gradxinput")
    for ours, expected in zip(found, theirs.numpy(), strict=True):
        assert distance(ours.maps[0], expected) < 1e-4


# The command line


def run(*args):
    return CliRunner().invoke(cli.main, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "p.png"
    Image.fromarray(pixels(1, 20, 30)[0]).save(path)
    return path


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("smoothgrad", "smoothgrad"),
        (
            "smoothgrad --samples 3 --noise 0.3 --signed --seed 4",
            SmoothGrad(3, 0.3, signed=True, seed=4),
        ),
        ("ig --steps 7 --baseline blur", IntegratedGradients(7, "blur")),
        ("gradxinput", "gradxinput"),
    ],
)
def test_saliency_command(curved, photo, tmp_path, words, kind):
    session, _ = curved["uint8"]
    args = ["--map", *words.split(), "--class", 3, "-o", tmp_path, "--no-pictures"]
    result = run("saliency", session.path, photo, *args)
    assert result.exit_code == 0, result.output
    maps = np.load(json.loads(result.stdout)["npy"])
    (expected,) = session.saliency(photo, 3, map=kind)
    np.testing.assert_allclose(maps, expected.maps, rtol=1e-5, atol=1e-6)


def test_localize_command(curved, photo, tmp_path):
    session, _ = curved["uint8"]
    args = ["localize", session.path, photo, "--no-pictures", "-o", tmp_path, "--map"]
    assert run(*args, "smoothgrad", "--samples", 3).exit_code == 0
    assert run(*args, "ig", "--steps", 3, "--crops", 10).exit_code == 0
    line = json.loads((tmp_path / "boxes.jsonl").read_text().splitlines()[-1])
    (found,) = session.localize(photo, map=IntegratedGradients(3), crops=10)
    assert line["results"][0]["box"] == list(found.boxes[0])
    assert line["results"][0]["map"] == found.map == "ig"


@pytest.mark.parametrize(
    ("command", "words", "problem", "fix"),
    [
        ("saliency", "--map ig --noise 0.1", "--noise is an option of smoothgrad", "leave"),
        ("saliency", "--steps 3", "--steps is an option of ig", "add --map ig"),
        ("localize", "--seed 3", "--seed is an option of smoothgrad", "add --map"),
        ("saliency", "--map smoothgrad --samples 0", "samples=0", "give 1 or more"),
        ("saliency", "--map ig", "signs", "--maps saliency,features,gradient"),
        ("localize", "--map gradxinput", "signs", "--maps saliency,features,gradient"),
    ],
)
def test_mistakes_are_usage_errors_with_the_fix(tmp_path, photo, command, words, problem, fix):
    linear, _ = linear_session(tmp_path)
    result = run(command, linear.path, photo, *words.split())
    assert result.exit_code == 2
    assert problem in result.stderr
    assert fix in result.stderr


def test_integrated_gradients_refuse_what_is_no_gradient(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
    file = tmp_path / "guided.onnx"
    export(model, file, size=8, maps=("saliency", "gradient"), relu="guided", verify=False)
    with pytest.raises(OptionError, match=r"returns guided maps(.|\n)*without --relu"):
        Session(file).saliency(np.zeros((8, 8, 3), np.uint8), [0], map="ig")
