"""Reasons to trust a map: measurements against hand computation, and the report's command."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from backlit.export import export
from backlit.export.trust import complete, perturb, pointing, randomise, sample, similarity
from backlit.export.trust.questions.completeness import with_gradient
from backlit.export.trust.questions.perturbation import CENTRED, RANDOM
from backlit.export.trust.questions.sanity import SHOWN
from backlit.export.trust.rebuild import classifier as prepared_classifier
from backlit.runtime import Session
from backlit.runtime.cli import main
from backlit.runtime.errors import DatasetError, ImageError, ModelError, OptionError
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from support import labelled, small
from support.linear_file import write_linear_file
from support.slow import some_slow

SIDE = 24
CLASSES = 5


def backlit(*args: Any) -> Result:
    return CliRunner().invoke(main, [str(a) for a in args])


def noise(count: int, channels: int = 3, side: int = SIDE, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, side, side, channels), dtype=np.uint8)


def onnx_model(
    nodes: list[Any], weights: dict[str, np.ndarray], channels: int = 3, side: int = SIDE,
    classes: int = CLASSES,
) -> onnx.ModelProto:  # fmt: skip
    graph = helper.make_graph(
        nodes, "made",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", channels, side, side])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", classes])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def linear_model() -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    weights = {"w": rng.standard_normal((CLASSES, 3 * SIDE * SIDE)), "b": np.arange(CLASSES)}
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["y"], transB=1),
    ]
    return onnx_model(nodes, weights)


def image_only_model() -> onnx.ModelProto:
    """Grey pixels squared, averaged, weighted: the gradient is the image, whatever the weights."""
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["s"]),
        helper.make_node("GlobalAveragePool", ["s"], ["m"]),
        helper.make_node("Flatten", ["m"], ["f"]),
        helper.make_node("Gemm", ["f", "w"], ["y"], transB=1),
    ]
    return onnx_model(nodes, {"w": np.arange(1.0, CLASSES + 1)[:, None]}, channels=1)


def checked(model: onnx.ModelProto, path: Path, count: int = 4, **options: Any) -> Any:
    """The sanity check of a model's own saliency."""
    export(model, path, maps="saliency", verify=False)
    session = Session(path, "cpu")
    images = noise(count, session.contract.image.channels)
    out = session.run(images, np.full((count, 1), -1))
    return randomise.sanity_check(
        ir.serde.deserialize_model(model), session.contract, images, out.classes[:, 0],
        {"saliency": out.saliency[:, 0]}, **options,
    )  # fmt: skip


# Similarity


def test_similarity_by_hand() -> None:
    a = np.array([[0.0, 1.0], [2.0, 3.0]])
    assert similarity.ranks(np.array([[5.0, 1.0], [5.0, 9.0]])).tolist() == [2.5, 1.0, 2.5, 4.0]
    same = similarity.Reference(a).similarity(a * 7 + 1)
    assert same == pytest.approx({"spearman": 1, "ssim": 1, "top": 1})
    other = similarity.Reference(a).similarity(np.array([[1.0, 0.0], [2.0, 3.0]]))
    assert other["spearman"] == pytest.approx(1 - 6 * 2 / (4 * 15))  # two ranks differ by 1
    assert similarity.Reference(a).similarity(-a)["spearman"] == pytest.approx(-1)
    assert all(map(math.isnan, similarity.Reference(a).similarity(np.ones((2, 2))).values()))
    assert all(
        map(math.isnan, similarity.Reference(np.full((2, 2), np.nan)).similarity(a).values())
    )


def test_the_highest_tenth_of_unrelated_maps_overlaps_by_a_tenth() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 100, 100))
    found = similarity.Reference(a).similarity(b)
    assert found["top"] == pytest.approx(0.1, abs=0.02)
    assert abs(found["spearman"]) < 0.03
    assert abs(found["ssim"]) < 0.1


# Re-drawn weights


def test_a_linear_models_map_is_unrelated_to_that_of_other_weights(tmp_path: Path) -> None:
    found = checked(linear_model(), tmp_path / "m.onnx", shown=2)
    assert found.layers == ("y",)
    assert found.depths == (0, 1)
    assert found.separates is None
    assert found.maps == ("saliency",)  # nothing rectifies, so there is no control
    similar = found.similarity["cascading"]["saliency"]["spearman"]
    np.testing.assert_allclose(similar[0], 1, atol=1e-9)
    assert np.abs(similar[1]).max() < 0.15
    np.testing.assert_array_equal(similar, found.similarity["independent"]["saliency"]["spearman"])
    assert found.verdict("saliency") == "passes"
    weight = numpy_helper.to_array(linear_model().graph.initializer[0])
    shuffled = np.sort(np.abs(weight.ravel()))[-1] / 255  # the highest weight is somewhere else now
    assert found.kept["saliency"][1].max() <= shuffled * (1 + 1e-6)
    assert found.kept["saliency"].shape == (2, 2, SIDE, SIDE)


def test_a_map_that_ignores_the_weights_fails(tmp_path: Path) -> None:
    found = checked(image_only_model(), tmp_path / "m.onnx")
    assert found.upper("saliency") == pytest.approx(1)
    assert found.threshold("saliency") < 0.8
    assert found.verdict("saliency") == "fails"


def test_layers_and_what_redrawing_changes() -> None:
    source = ir.serde.deserialize_model(small.convnet())
    contract = trust_contract(small.convnet())
    image, scores, model = prepared_classifier(source, contract)
    found = randomise.layers(model.graph, image, scores)
    assert [set(layer.parameters) for layer in found] == [{"w", "wb"}, {"v", "vb"}]
    before = {n: v.const_value.numpy().copy() for n, v in model.graph.initializers.items()}
    randomise.redraw(model.graph, found[:1], seed=3)
    after = {n: v.const_value.numpy() for n, v in model.graph.initializers.items()}
    for name in ("w", "wb"):
        assert not np.array_equal(before[name], after[name])
        np.testing.assert_array_equal(np.sort(before[name], None), np.sort(after[name], None))
    np.testing.assert_array_equal(before["v"], after["v"])
    _, _, again = prepared_classifier(source, contract)
    randomise.redraw(again.graph, found, seed=3)  # the same order, whatever else is re-drawn
    np.testing.assert_array_equal(again.graph.initializers["w"].const_value.numpy(), after["w"])
    assert randomise.spread(3, 12) == (0, 1, 2, 3)
    assert randomise.spread(53, 4) == (0, 1, 18, 36, 53)


def trust_contract(model: onnx.ModelProto) -> Any:
    from backlit.runtime.contract import Contract, ImageInput, Map, Normalisation, Score, Source

    size = model.graph.input[0].type.tensor_type.shape.dim[2].dim_value
    return Contract(
        "test", Source("small", "0" * 64), ImageInput("uint8", "NHWC", 3, size, size),
        Normalisation(), Score(small.CLASSES, "logits"), (Map("saliency", size, size, ""),),
    )  # fmt: skip


def test_maps_that_come_out_flat_leave_the_verdict_open(tmp_path: Path) -> None:
    model = linear_model()
    found = checked(model, tmp_path / "m.onnx")
    flat = {
        mode: {"saliency": {"spearman": np.array([[1.0] * 4, [math.nan] * 3 + [0.0]])}}
        for mode in randomise.MODES
    }
    one = randomise.Sanity(found.layers, found.depths, flat, found.floor, {})
    assert one.flat("saliency") == 0.75
    assert one.verdict("saliency") == "undecided"


def test_a_classifier_without_weights_is_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["m"]),
        helper.make_node("Flatten", ["m"], ["f"]),
        helper.make_node("Concat", ["f", "f"], ["y"], axis=1),
    ]
    model = onnx_model(nodes, {}, classes=6)
    with pytest.raises(ModelError, match="no weights"):
        checked(model, tmp_path / "m.onnx")


@pytest.mark.parametrize(
    "name",
    some_slow(
        ["squeezenet1_1_logits_fp32", "mobilenetv2_1.0_224_deq"], {"mobilenetv2_1.0_224_deq"}
    ),
)
def test_gradient_changes_and_guided_does_not(name: str, shared: Path, tmp_path: Path) -> None:
    manifest = json.loads((shared / "manifest.json").read_text())
    entry = next(m for m in manifest["models"] if name in m["file"])
    how = entry["preprocess"]
    file = tmp_path / "m.onnx"
    export(
        shared / entry["file"], file, mean=how["mean"], std=how["std"], range=how["range"],
        bgr=how["colour"] == "BGR", maps=("saliency",), verify=False,
    )  # fmt: skip
    session = Session(file, "cpu")
    drawn = sample.draw([str(shared / "images/ilsvrc_val_227")], session.contract, 6)
    out = session.run(drawn.views(), np.full((6, 1), -1))
    found = randomise.sanity_check(
        ir.load(shared / entry["file"]), session.contract, drawn.views(), out.classes[:, 0],
        {"saliency": out.saliency[:, 0]}, most=4,
    )  # fmt: skip
    assert found.verdict("saliency") == "passes"
    assert found.verdict(randomise.CONTROL) == "fails"
    assert found.separates is True
    for metric in similarity.METRICS:
        assert found.upper(randomise.CONTROL, metric) > found.upper("saliency", metric) + 0.25


def test_a_control_that_changes_is_said_to_tell_little(tmp_path: Path) -> None:
    found = checked(linear_model(), tmp_path / "m.onnx")
    floor = dict.fromkeys(("saliency", randomise.CONTROL), found.floor["saliency"])
    same = {mode: dict.fromkeys(floor, maps["saliency"]) for mode, maps in found.similarity.items()}
    one = randomise.Sanity(found.layers, found.depths, same, floor, found.kept)
    assert one.verdict(randomise.CONTROL) == "passes"
    assert one.separates is False


# Insertion and deletion


def softmax(scores: np.ndarray) -> np.ndarray:
    raised = np.exp(scores - scores.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_curves_agree_with_a_direct_computation(dtype: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    weight = rng.standard_normal((4, 3, 10, 12)).astype(np.float32) / 30
    linear = write_linear_file(tmp_path / "m.onnx", 4, 10, 12, dtype=dtype, weight=weight)
    session = Session(tmp_path / "m.onnx", "cpu", maps=())
    views = rng.integers(0, 256, (3, 10, 12, 3), dtype=np.uint8)
    classes = np.array([2, 0, 3])
    maps = linear.saliency()[classes]
    orders = {"map": perturb.order(maps), "random": perturb.random_order(3, 10, 12)}
    calls: list[None] = []
    found = perturb.curves(
        session, views, classes, orders, batch=7, done=lambda: calls.append(None)
    )
    assert len(calls) == 3
    mean = np.rint(255 * np.array(linear.contract.normalisation.mean)).astype(np.uint8)
    for name, order in orders.items():
        for n, view in enumerate(views):
            curves = {"insertion": [], "deletion": []}  # type: ignore[var-annotated]
            soft = perturb.blurred(view)
            for step in range(perturb.STEPS + 1):
                moved = order[n][: round(120 * step / perturb.STEPS)]
                inserted, deleted = soft.copy().reshape(-1, 3), view.copy().reshape(-1, 3)
                inserted[moved], deleted[moved] = view.reshape(-1, 3)[moved], mean
                for kind, pixels in (("insertion", inserted), ("deletion", deleted)):
                    scores = linear.scores(pixels.reshape(1, 10, 12, 3))
                    curves[kind].append(softmax(scores)[0, classes[n]])
            for kind, values in curves.items():
                measured = getattr(found[name], kind)[n]
                np.testing.assert_allclose(measured, values, rtol=1e-4, atol=1e-6)
                area = np.interp(np.linspace(0, 1, 20001), found[name].share, values).mean()
                assert found[name].areas(kind)[n] == pytest.approx(area, abs=1e-3)  # type: ignore[arg-type]


def test_the_true_order_beats_random_order_and_its_reverse(tmp_path: Path) -> None:
    weight = np.zeros((2, 3, 16, 16), np.float32)
    weight[0, :, 4:8, 4:8] = 0.05  # class 0 is these pixels being bright
    write_linear_file(tmp_path / "m.onnx", 2, 16, 16, weight=weight)
    session = Session(tmp_path / "m.onnx", "cpu")
    views = np.zeros((2, 16, 16, 3), np.uint8)
    views[:, 4:8, 4:8] = 255
    maps = session.run(views, np.zeros((2, 1), np.int64)).saliency[:, 0]
    best = perturb.order(maps)
    orders = {"map": best, "random": perturb.random_order(2, 16, 16), "reverse": best[:, ::-1]}
    found = perturb.curves(session, views, np.zeros(2, np.int64), orders)
    insertion = {name: one.areas("insertion").mean() for name, one in found.items()}
    deletion = {name: one.areas("deletion").mean() for name, one in found.items()}
    assert insertion["map"] > insertion["random"] > insertion["reverse"]
    assert deletion["map"] < deletion["random"] < deletion["reverse"]


def test_orders() -> None:
    found = perturb.order(np.array([[[0.0, 3.0], [1.0, np.nan]]]))
    assert found[0, :2].tolist() == [1, 2]
    assert sorted(found[0, 2:].tolist()) == [0, 3]
    flat = perturb.order(np.zeros((1, 20, 20)))[0]
    assert sorted(flat.tolist()) == list(range(400))
    assert abs(np.corrcoef(flat, np.arange(400))[0, 1]) < 0.2  # not the reading order
    centred = perturb.centred_order(2, 5, 5)
    assert centred[:, 0].tolist() == [12, 12]
    assert set(centred[0, -4:].tolist()) == {0, 4, 20, 24}
    one, other = perturb.random_order(2, 5, 5, seed=1)
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(perturb.random_order(1, 5, 5, seed=1)[0], one)


# Pointing


def shown(
    picture: Any, boxes: dict[int, Any], contract: Any, size: tuple[int, int] | None = None
) -> sample.Sample:
    from backlit.runtime.images.prepare import prepare

    pixels = np.asarray(picture)
    return sample.Sample(
        "a", prepare(pixels, contract.image), pixels, size or pixels.shape[1::-1], boxes,
        {index: (index,) for index in boxes},
    )  # fmt: skip


@pytest.mark.parametrize("resize", ["stretch", "crop"])
def test_pointing_by_hand(resize: str, tmp_path: Path) -> None:
    linear = write_linear_file(tmp_path / "m.onnx", 3, 20, 20, resize=resize, crop_fraction=0.5)
    one = shown(np.zeros((400, 800, 3), np.uint8), {1: ((600, 100, 700, 200),)}, linear.contract)
    peak = np.zeros((20, 20), np.float32)
    if resize == "stretch":  # 40 x 20 pixels a cell
        peak[7, 16] = 1
        assert pointing.highest(one, peak) == (660, 150)
        near, far = (15, 8), (14, 8)  # x 620 and 580, y 170
    else:  # 400 pixels are 40, the centre 20 of 80 x 40 are shown: 10 pixels a cell from (300, 100)
        peak[5, 16] = 1
        assert pointing.highest(one, peak) == (465, 155)
        near = far = (0, 0)
    assert pointing.highest(one, np.ones((20, 20), np.float32)) is None
    if resize == "crop":
        return
    maps = []
    for x, y in (near, far):
        made = np.zeros((20, 20), np.float32)
        made[y, x] = 1
        maps.append(made)
    by_name = {"hit": {1: maps[0]}, "miss": {1: maps[1]}, "flat": {1: np.zeros((20, 20), "f4")}}
    found = pointing.play([one], [by_name])  # type: ignore[list-item]
    assert found is not None
    assert found.classes == (1,)
    assert found.hits == {"centre": (False,), "hit": (True,), "miss": (False,), "flat": (False,)}


def test_pointing_tolerance_and_mean_over_classes(tmp_path: Path) -> None:
    contract = write_linear_file(tmp_path / "m.onnx", 3, 10, 10).contract
    assert pointing.tolerance((500, 300)) == pointing.tolerance((4000, 300)) == 15
    assert pointing.tolerance((100, 80)) == 3
    picture = np.zeros((100, 100, 3), np.uint8)
    # The centre of 100 pixels is 2.5 from a box that begins at 52, and 4.5 from one at 54.
    rounds = [{0: ((52, 40, 60, 60),)}, {0: ((54, 40, 60, 60),)}, {1: ((40, 40, 60, 60),)}, {}]
    samples = [shown(picture, boxes, contract) for boxes in rounds]
    found = pointing.play(samples, [{} for _ in samples])
    assert found is not None
    assert found.hits["centre"] == (True, False, True)
    assert found.accuracy("centre") == pytest.approx((0.5 + 1) / 2)
    low, high = found.interval("centre")
    assert 0 <= low <= 0.75 <= high <= 1
    assert pointing.play(samples[3:], [{}]) is None


# Completeness


def test_completeness_of_a_linear_file_and_of_a_wrong_one(tmp_path: Path) -> None:
    write_linear_file(tmp_path / "m.onnx", 4, 10, 12, output="gradient")
    views = noise(3, side=12)[:, :10]
    found = complete.measure(
        Session(tmp_path / "m.onnx", "cpu"), views, np.array([0, 3, 1]), (1, 3)
    )
    for sums in (*found.sums.values(), found.plain):
        assert found.errors(sums).max() < 1e-4
    model = onnx.load(tmp_path / "m.onnx")
    (table,) = (t for t in model.graph.initializer if t.name == "table")
    table.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(table), "table"))
    onnx.save(model, tmp_path / "wrong.onnx")
    wrong = complete.measure(
        Session(tmp_path / "wrong.onnx", "cpu"), views, np.array([0, 3, 1]), (3,)
    )
    np.testing.assert_allclose(wrong.errors(wrong.sums[3]), 1, rtol=1e-3)


def test_completeness_converges_with_the_steps(tmp_path: Path) -> None:
    model = small.convnet(size=16)
    export(model, tmp_path / "m.onnx", maps="saliency", verify=False)
    contract = Session(tmp_path / "m.onnx", "cpu").contract
    other = with_gradient(ir.serde.deserialize_model(model), contract, tmp_path / "gradient.onnx")
    assert other.contract.image.dtype == "float32"
    found = complete.measure(other, noise(6, side=16), np.zeros(6, np.int64), (2, 80))
    errors = {steps: np.median(found.errors(sums)) for steps, sums in found.sums.items()}
    assert errors[80] < 0.01 < errors[2] < np.median(found.errors(found.plain))


# The sample


def test_drawing_images(tmp_path: Path) -> None:
    linear = write_linear_file(tmp_path / "m.onnx", 6, 8, 8, labels=labelled.LABELS)
    folder = tmp_path / "photos"
    folder.mkdir()
    for n, picture in enumerate(noise(9)):
        Image.fromarray(picture).save(folder / f"{n}.png")
    (folder / "broken.png").write_bytes(b"none")
    labelled.write_wsolevaluation(tmp_path / "set", 5)
    drawn = sample.draw([str(folder), str(tmp_path / "set")], linear.contract, 100)
    assert drawn.total == 15
    assert len(drawn.samples) == 14
    assert sum(bool(one.boxes) for one in drawn.samples) == 5
    assert any("broken.png was left out" in note for note in drawn.notes)
    assert any("without boxes" in note for note in drawn.notes)
    names = [[one.name for one in sample.draw([str(folder)], linear.contract, 4, seed).samples]
             for seed in (0, 0, 1)]  # fmt: skip
    assert names[0] == names[1] != names[2]
    (single,) = sample.draw([str(folder / "3.png")], linear.contract, 9).samples
    assert single.view.shape == (8, 8, 3)
    with pytest.raises(ImageError, match="not one"):
        sample.draw([str(folder / "broken.png")], linear.contract, 1)
    with pytest.raises(OptionError, match="no such sample"):
        sample.draw([str(folder)], linear.contract, 0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="not a data set"):
        sample.draw([str(tmp_path / "empty")], linear.contract, 1)


# The command


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier with a ReLU, its file, photos and a data set."""
    folder = tmp_path_factory.mktemp("trust")
    rng = np.random.default_rng(2)
    strided = {"pads": [1] * 4, "strides": [2, 2]}
    nodes = [
        helper.make_node("Conv", ["x", "w", "wb"], ["a"], **strided),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "v"], ["c"], **strided),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["e"]),
        helper.make_node("Flatten", ["e"], ["f"]),
        helper.make_node("Gemm", ["f", "u"], ["y"]),
    ]
    weights = {
        "w": rng.standard_normal((8, 3, 3, 3)), "wb": 0.2 * rng.standard_normal(8),
        "v": rng.standard_normal((16, 8, 3, 3)) / 4, "u": rng.standard_normal((16, 6)),
    }  # fmt: skip
    onnx.save(onnx_model(nodes, weights, side=32, classes=6), folder / "small.onnx")
    export(
        folder / "small.onnx", folder / "small.backlit.onnx", labels=labelled.LABELS,
        maps=("saliency", "gradcam"),
    )  # fmt: skip
    labelled.write_wsolevaluation(folder / "set", 6)
    return folder


def read(page: Path) -> Any:
    """The page as XML, and what it refers to."""
    text = page.read_text(encoding="utf-8")
    assert page.stat().st_size < 2_000_000
    root = ElementTree.fromstring(text.split("\n", 1)[1])
    assert not list(root.iter("script"))
    assert not re.search(r"url\(|@import|https?://", text)
    for element in root.iter():
        for key in ("src", "href"):
            assert element.get(key, "data:").startswith("data:")
    return root


def test_report_with_everything(made: Path) -> None:
    done = backlit(
        "verify", made / "small.backlit.onnx", made / "small.onnx", "--report", made / "all",
        "--images", made / "set", "--limit", 5,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    line = json.loads(done.stdout)
    assert line["agrees"] is True
    assert set(line["sanity"]) == {"saliency", "gradcam", randomise.CONTROL}
    assert "report in" in done.stderr
    record = json.loads(Path(line["json"]).read_text())
    assert record["images"]["drawn"] == len(record["per_image"]) == 5
    assert record["images"]["of"] == 6
    assert record["parity"]["agrees"] is True
    assert len(record["parity"]["compared"]) == record["parity"]["samples"]
    assert record["completeness"]["gradient_of"] == "source"
    complete_ = record["completeness"]
    assert complete_["median"][-1] < 0.01 < complete_["median"][0] < complete_["plain"]
    for one in record["sanity"]["maps"].values():
        assert one["cascading"]["spearman"][0] == pytest.approx(1, abs=1e-3)
    orders = record["perturbation"]["orders"]
    assert list(orders) == ["saliency", "gradcam", RANDOM, CENTRED]
    mean = np.mean([row["insertion"]["saliency"] for row in record["per_image"]])
    assert orders["saliency"]["insertion"]["area"] == pytest.approx(mean, rel=1e-4)
    assert set(record["pointing"]["maps"]) == {"saliency", "gradcam", "centre"}
    root = read(Path(line["report"]))
    text = "".join(root.itertext())
    assert "Not measured" not in text
    assert text.count("Does not show") == 5
    assert sum(1 for _ in root.iter("img")) == 5 * 3 + 2 * 5 * SHOWN


@pytest.mark.parametrize("separates", [True, False])
def test_the_report_says_whether_the_control_failed(
    separates: bool, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(randomise.Sanity, "separates", separates)
    done = backlit(
        "verify", made / "small.backlit.onnx", made / "small.onnx", "--report", tmp_path,
        "--images", made / "set", "--limit", 2,
    )  # fmt: skip
    text = "".join(read(tmp_path / "trust.html").itertext())
    assert ("tells little" in text) is ("tells little" in done.stderr) is (not separates)


def test_report_without_a_source_or_boxes(made: Path) -> None:
    pictures = sorted((made / "set/val").glob("*.png"))[:3]
    file, page = made / "small.backlit.onnx", made / "alone.html"
    done = backlit("verify", "--images", *pictures, "--report", page, file)
    assert done.exit_code == 0, done.output
    record = json.loads((made / "alone.json").read_text())
    for name in ("parity", "completeness", "sanity", "pointing"):
        assert record[name]["missing"]
    assert "give the classifier" in record["sanity"]["missing"]
    assert record["perturbation"]["images"] == record["images"]["drawn"] == 3
    assert json.loads(done.stdout)["agrees"] is None
    assert "".join(read(page).itertext()).count("Not measured") == 4


def test_a_wrong_gradient_is_reported_and_exits_3(made: Path, tmp_path: Path) -> None:
    model = onnx.load(made / "small.onnx")
    weight = next(t for t in model.graph.initializer if t.name == "w")
    weight.CopyFrom(numpy_helper.from_array(1.1 * numpy_helper.to_array(weight), "w"))
    onnx.save(model, tmp_path / "other.onnx")
    done = backlit(
        "verify", made / "small.backlit.onnx", tmp_path / "other.onnx", "--report", tmp_path,
        "--images", made / "set", "--limit", 2,
    )  # fmt: skip
    assert done.exit_code == 3, done.output
    assert "hash differs" in done.stderr.replace("\n", " ")
    assert json.loads((tmp_path / "trust.json").read_text())["parity"]["agrees"] is False
    assert "is NOT" in "".join(read(tmp_path / "trust.html").itertext())


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        ([], 2, "SOURCE"),
        (["--report", "r"], 2, "--report needs --images"),
        (["small.onnx", "--images", "set"], 2, "go with --report"),
        (
            ["--report", "r", "--weights", "x", "--images", "set"],
            2,
            "--weights and --constant go with SOURCE",
        ),
        (["--report", "r", "--limit", "0", "--images", "set"], 2, "--limit"),
        (["--report", "r", "--images", "nowhere.png"], 1, "not one image"),
        (["--report", "small.onnx/r", "--images", "set"], 1, "cannot be made"),
        (["none.onnx", "--report", "r", "--images", "set"], 1, "none.onnx does not exist"),
    ],
)
def test_bad_use(
    args: list[str], code: int, said: str, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made)
    done = backlit("verify", "small.backlit.onnx", *args)
    assert done.exit_code == code, done.output
    assert said in done.stderr.replace("\n", " ")
    assert not (made / "r/trust.html").exists()
