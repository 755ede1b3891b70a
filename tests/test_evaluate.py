"""``backlit evaluate`` on small data sets of drawn pictures, with a classifier known in full."""

import dataclasses
import json
from xml.etree import ElementTree

import numpy as np
import pytest
from backlit.export import export
from backlit.runtime import Session
from backlit.runtime.boxes.geometry import centred_box, iou
from backlit.runtime.boxes.recipes import get_recipe
from backlit.runtime.evaluation import datasets, metrics, sweep
from backlit.runtime.evaluation import maps as evaluate_maps
from backlit.runtime.evaluation.measure import Evaluation, class_rows
from backlit.runtime.evaluation.summary import Summary
from backlit.runtime.maps.evidence import evidence
from PIL import Image
from support.labelled import (
    LABELS,
    RECIPE,
    SIDE,
    evaluate,
    result_of,
    table_of,
    write_classifier,
    write_voc,
    write_wsolevaluation,
)

from backlit import models


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    write_classifier(folder / "m.onnx")
    write_wsolevaluation(folder / "wsol", 12)
    write_voc(folder / "voc", [[0], [1, 2], [3], [4, 5, 0], [2]])
    return folder


@pytest.fixture(scope="module")
def whole(work):
    """One run with every baseline."""
    options = ("-o", work / "whole", "--gallery", 5, "--heatmaps", work / "maps")
    return result_of(work / "m.onnx", work / "wsol", *options)


def read(work, name="wsol"):
    return datasets.read(work / name, LABELS, len(LABELS))


def record_lines(folder):
    return [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]


# The numbers


def test_numbers_equal_a_direct_computation(work, whole):
    """Each metric again, from `Session.localize` and `Session.saliency` and by its definition."""
    session, examples = Session(work / "m.onnx"), read(work).examples
    paths = [one.path for one in examples]
    true = [next(iter(one.boxes)) for one in examples]
    boxes = [one.boxes[index][0] for one, index in zip(examples, true, strict=True)]
    top = session.localize(paths, top=5)
    known = session.localize(paths, classes=[[index] for index in true])
    plain = session.localize(paths, classes=[[index] for index in true], recipe="textbook")
    centred = [centred_box(one.width, one.height) for one in known]
    found = {
        RECIPE: [one.boxes[0] for one in known],
        "textbook": [one.boxes[0] for one in plain],
        "centred": centred,
    }

    def value(key, method):
        return whole["metrics"][key][method]["value"]

    for k in (1, 5):
        wrong = [c not in one.classes[:k] for one, c in zip(top, true, strict=True)]
        assert value(f"top{k}_classification_error", "classifier") == pytest.approx(
            np.mean(wrong), abs=1e-6
        )
        missed = [
            not any(
                int(c) == t and iou(box, b) >= 0.5
                for c, box in zip(one.classes[:k], one.boxes[:k], strict=True)
            )
            for one, t, b in zip(top, true, boxes, strict=True)
        ]
        assert value(f"top{k}_localization_error", RECIPE) == pytest.approx(
            np.mean(missed), abs=1e-6
        )
    for method, guesses in found.items():
        ious = np.array([iou(a, b) for a, b in zip(guesses, boxes, strict=True)])
        for threshold in (0.3, 0.5, 0.7):
            share = value(f"gt_known_iou_{threshold}", method)
            assert share == pytest.approx((ious >= threshold).mean(), abs=1e-6)
        per_class = [np.mean((ious >= 0.5)[np.array(true) == c]) for c in sorted(set(true))]
        assert value("corloc", method) == pytest.approx(np.mean(per_class), abs=1e-6)
        curve = whole["curves"]["iou"]
        shares = [(ious >= threshold).mean() for threshold in curve["threshold"]]
        assert curve[method] == pytest.approx(shares, abs=1e-6)
    # The recipe's boxes are better than the others' here, or the comparisons above say little.
    assert value("gt_known_mean", RECIPE) > value("gt_known_mean", "centred") > 0


def test_score_map_metrics_equal_a_direct_computation(work, whole):
    session, examples = Session(work / "m.onnx"), read(work).examples
    for method, crops in ((RECIPE, 2), ("textbook", 1), ("centred", 0)):
        recipe = get_recipe(method) if crops else None
        largest, best, hits, classes = [], [], [], []
        for example in examples:
            (index,), ((box,),) = example.boxes, example.boxes.values()
            width, height = example.size
            if recipe is None:
                score_map = evaluate_maps.centred_map()
            else:
                (found,) = session.saliency(example.path, classes=index, crops=crops)
                values = evidence(found.maps[0], recipe.power, recipe.smoothing)
                resized = Image.fromarray(values).resize((224, 224), Image.Resampling.BILINEAR)
                score_map = np.asarray(resized)
            scaled = sweep.boxes_in_map([box], example.size, (224, 224))
            sweeps = sweep.box_sweep(score_map, scaled)
            largest.append(sweeps[0])
            best.append(sweeps[1])
            y, x = np.unravel_index(score_map.argmax(), score_map.shape)
            point = (x + 0.5) * width / 224, (y + 0.5) * height / 224
            hits.append(metrics.pointing_hit(point, [box]))
            classes.append(index)
        expected = {
            "max_box_acc": sweep.max_box_acc(largest),
            "max_box_acc_v2": sweep.max_box_acc_v2(best),
            "pointing_game": metrics.pointing_game(hits, classes),
        }
        got = {key: whole["metrics"][key][method]["value"] for key in expected}
        assert got == pytest.approx(expected, abs=1e-6)
        curve = whole["curves"]["score_threshold"][method]
        assert max(curve) == pytest.approx(expected["max_box_acc"], abs=1e-6)


def test_thousandths_keep_the_side_of_a_threshold():
    edges = np.array([0.3, 0.5, 0.7, 0.3 - 1e-5, 0.5 - 1e-5, 0.7 - 1e-5, 1, 0], np.float32)
    steps = evaluate_maps.thousandths(edges)
    assert steps == [300, 500, 700, 299, 499, 699, 1000, 0]
    back = (np.array(steps) / 1000).astype(np.float32)
    for threshold in (0.3, 0.5, 0.7):
        limit = np.float32(threshold)
        assert ((back >= limit) == (edges >= limit)).all()


def test_intervals_hold_the_value(whole):
    for cells in whole["metrics"].values():
        for cell in cells.values():
            assert 0 <= cell["low"] <= cell["value"] <= cell["high"] <= 1
    cell = whole["metrics"]["gt_known_mean"][RECIPE]
    assert cell["low"] < cell["value"] < cell["high"]


def test_several_true_classes(work):
    """VOC: every class of an image is explained, and counts in the metrics of pairs."""
    got = result_of(work / "m.onnx", work / "voc", "-o", work / "o_voc", "--baselines", "none")
    session, examples = Session(work / "m.onnx"), read(work, "voc").examples
    ious, classes, wrong = [], [], []
    for example in examples:
        (found,) = session.localize(example.path, classes=list(example.boxes))
        for index, box in zip(example.boxes, found.boxes, strict=True):
            ious.append(max(iou(box, true) for true in example.boxes[index]))
            classes.append(index)
        (best,) = session.saliency(example.path, crops=2)
        wrong.append(int(best.classes[0]) not in example.boxes)
    assert len(ious) == 8
    values = {key: cells.get(RECIPE, {}).get("value") for key, cells in got["metrics"].items()}
    assert values["gt_known_iou_0.5"] == pytest.approx(np.mean(np.array(ious) >= 0.5), abs=1e-6)
    assert values["corloc"] == pytest.approx(
        metrics.cor_loc(np.array(ious) >= 0.5, classes), abs=1e-6
    )
    error = got["metrics"]["top1_classification_error"]["classifier"]["value"]
    assert error == pytest.approx(np.mean(wrong), abs=1e-6)
    assert list(got["metrics"]["corloc"]) == [RECIPE]


def test_a_category_of_several_classes_is_explained_by_the_best(work):
    """A category that stands for cat and dog: the one of the two that scores higher."""
    dataset = read(work, "voc")
    chosen = [one for one in dataset.examples if set(one.boxes) & {0, 2}]
    grouped = dataclasses.replace(dataset, groups={0: (0, 1), 2: (2, 3)})
    session = Session(work / "m.onnx")
    evaluation = Evaluation(session, grouped, get_recipe(RECIPE))
    for example in chosen:
        (row,) = class_rows(evaluation, [example])
        assert row[:5].tolist() == [-1, -2, -3, -4, -5]
        pixels = np.asarray(Image.open(example.path).resize((SIDE, SIDE), 2).convert("RGB"))
        scores = session.run(pixels[None], np.array([[-1]])).scores[0]
        pairs = {0: (0, 1), 2: (2, 3)}
        expected = [
            max(pairs.get(index, (index,)), key=scores.__getitem__) for index in example.boxes
        ]
        assert row[5:].tolist() == expected


def test_summary_without_boxes_or_images():
    assert Summary([], [RECIPE], 5).table() == {}
    record = {"image": "a", "size": [9, 9], "ranked": [1, 2], "classes": [1, 2, 1], "true": [1]}
    record |= {"boxes": [[]], "methods": {RECIPE: {}}}
    table = Summary([record], [RECIPE], 2).table()
    assert table.keys() == {"top1_classification_error", "top2_classification_error"}
    assert table["top1_classification_error"]["classifier"]["value"] == 0


def test_picks_are_best_median_and_worst_and_none_twice(work, whole):
    lines = record_lines(work / "whole")
    summary = Summary(lines, [RECIPE], 5)
    for count in (0, 1, 3, 7, 12, 50):
        picks = summary.picks(count)
        names = [one.image for part in picks.values() for one in part]
        assert len(names) == len(set(names)) == min(count, 12)
        ious = [one.iou for part in picks.values() for one in part]
        if count == 3:
            everything = sorted(
                metrics.best_iou(one["methods"][RECIPE]["true"][0], one["boxes"][0])
                for one in lines
            )
            assert ious[0] == everything[-1]
            assert ious[1] in everything[4:8]
            assert ious[2] == everything[0]


def test_boxes_given_in_the_pixels_of_another_size(work, tmp_path):
    """The metadata is of the originals, the pictures are reduced: boxes are the metadata's."""
    write_wsolevaluation(tmp_path / "data", 2)
    for path in (tmp_path / "data" / "val").iterdir():
        with Image.open(path) as picture:
            small = picture.resize((picture.width // 2, picture.height // 4))
        small.save(path)
    options = ("--baselines", "centred", "--gallery", 0, "-o", tmp_path / "out")
    result_of(work / "m.onnx", tmp_path / "data", *options)
    session = Session(work / "m.onnx")
    for line in record_lines(tmp_path / "out"):
        (found,) = session.localize(tmp_path / "data" / line["image"], classes=line["true"])
        width, height = line["size"]
        scale = np.array([width / found.width, height / found.height] * 2)
        assert scale[1] == 4
        (box,) = line["methods"][RECIPE]["true"]
        assert box == pytest.approx(np.array(found.boxes[0]) * scale)
        assert line["methods"]["centred"]["true"] == [list(centred_box(width, height))]


# What is written


def test_outputs(work, whole):
    folder = work / "whole"
    assert json.loads((folder / "metrics.json").read_text()) == whole
    assert whole["images"] == 12
    assert list(whole["metrics"]["max_box_acc"]) == [RECIPE, "textbook", "centred"]
    rows = table_of(folder)
    examples = read(work).examples
    assert [row["image"] for row in rows] == [one.name for one in examples]
    ious = [float(row[f"iou_{RECIPE}"]) for row in rows]
    share = whole["metrics"]["gt_known_iou_0.5"][RECIPE]["value"]
    assert np.mean(np.array(ious) >= 0.5) == pytest.approx(share, abs=1e-6)
    page = (folder / "report.html").read_text()
    root = ElementTree.fromstring(page.split("\n", 1)[1])
    assert len(list(root.iter("img"))) == 15
    assert "http" not in page
    shown = [cell.text for cell in root.iterfind(".//tbody/tr/td")]
    assert f"{100 * share:.1f} %" in shown
    assert [one.name for one in folder.iterdir() if one.name.startswith(".")] == []


def test_heatmaps_are_wsolevaluations(work, whole):
    for example in read(work).examples:
        values = np.load(work / "maps" / f"{example.name}.npy")
        assert values.shape == (224, 224)
        assert values.dtype == np.float32
        assert values.min() == 0
        assert values.max() == 1
        (box,) = next(iter(example.boxes.values()))
        y, x = np.unravel_index(values.argmax(), values.shape)
        line = next(r for r in record_lines(work / "whole") if r["image"] == example.name)
        hit = metrics.pointing_hit(
            ((x + 0.5) * example.size[0] / 224, (y + 0.5) * example.size[1] / 224), [box]
        )
        assert line["methods"][RECIPE]["pointing"] == [hit]


def test_heatmaps_can_be_asked_for_later(work, whole):
    before = (work / "whole" / "metrics.json").read_bytes()
    (work / "maps" / "val" / "003.png.npy").unlink()
    again = result_of(
        work / "m.onnx",
        work / "wsol",
        "-o",
        work / "whole",
        "--resume",
        "--heatmaps",
        work / "maps",
    )
    assert (work / "maps" / "val" / "003.png.npy").exists()
    assert again == json.loads(before)
    names = [line["image"] for line in record_lines(work / "whole")]
    assert len(names) == len(set(names)) == 12


def test_names_cannot_lead_out_of_the_heatmaps_folder(tmp_path):
    example = datasets.Example("../../evil", tmp_path / "x.png", None, {1: ()})
    assert evaluate_maps.heatmap_paths(tmp_path, example) == [tmp_path / "evil.npy"]


def test_stdout_is_one_json_object_and_the_table_goes_to_stderr(work, whole):
    done = evaluate(
        work / "m.onnx", work / "wsol", "-o", work / "whole", "--resume", "--gallery", 0
    )
    assert done.stdout.count("\n") == 1
    assert "12 of 12 images are done; going on" in done.stderr
    for text in ("top-5 localisation error", "MaxBoxAccV2", "textbook", "centred box"):
        assert text in done.stderr


def test_another_map_to_start_from(tmp_path, work):
    path = tmp_path / "maps.onnx"
    maps = ("saliency", "features", "layercam")
    export(str(models.tiny_convnet()), path, maps=maps, verify=False)
    options = ("-o", tmp_path / "out", "--limit", 3, "--gallery", 3, "--map", "layercam")
    got = result_of(path, work / "wsol", *options)
    assert got["recipe_settings"]["map"] == {"name": "layercam"}
    session = Session(path)
    for line in record_lines(tmp_path / "out"):
        image = work / "wsol" / line["image"]
        (found,) = session.localize(image, classes=line["true"], map="layercam")
        (other,) = session.localize(image, classes=line["true"])
        assert line["methods"]["default"]["true"] == [list(box) for box in found.boxes]
        assert (found.map, other.map) == ("layercam", "object")
        assert not np.array_equal(found.maps, other.maps)


@pytest.mark.parametrize("recipe", ["textbook", "pixels-threshold"])
def test_a_baseline_is_not_compared_with_itself(work, recipe):
    options = ("--recipe", recipe, "--limit", 2, "-o", work / f"o_{recipe}")
    got = result_of(work / "m.onnx", work / "wsol", *options)
    methods = list(got["metrics"]["corloc"])
    assert methods == [*dict.fromkeys([recipe, "textbook", "centred"])]
    assert got["images"] == 2


def test_a_file_of_feature_maps_alone(work, tmp_path):
    """Boxes start from the recipe's own map; what needs the gradient is left out, and said."""
    path = tmp_path / "features.onnx"
    export(str(models.tiny_convnet()), path, maps="features", verify=False)
    done = evaluate(path, work / "wsol", "-o", tmp_path / "out", "--limit", 3, "--gallery", 3)
    assert done.exit_code == 0, done.stderr
    assert list(json.loads(done.stdout)["metrics"]["corloc"]) == ["default", "centred"]
    assert "note: no textbook recipe: the file has no map saliency" in done.stderr
    session = Session(path)
    for line in record_lines(tmp_path / "out"):
        (found,) = session.localize(work / "wsol" / line["image"], classes=line["true"])
        assert line["methods"]["default"]["true"] == [list(box) for box in found.boxes]
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<img ") == 9


def test_ten_crops_and_the_textbook_box_of_the_whole_image(work):
    """The ten views share no frame with the plain image; its boxes are the textbook's own."""
    options = ("--crops", 10, "--limit", 2, "-o", work / "o_ten")
    result_of(work / "m.onnx", work / "wsol", *options)
    session = Session(work / "m.onnx")
    for line, example in zip(record_lines(work / "o_ten"), read(work).examples, strict=False):
        for recipe in (RECIPE, "textbook"):
            crops = 10 if recipe == RECIPE else 1
            (found,) = session.localize(
                example.path, classes=line["classes"], recipe=recipe, crops=crops
            )
            got = line["methods"][recipe]
            boxes = [None if box is None else list(map(float, box)) for box in found.boxes]
            assert got["ranked"] + got["true"] == boxes
