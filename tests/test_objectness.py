"""Detectors whose boxes have a score of their own: what tells them from others, and what is made of
them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from backlit.export import export
from backlit.export.prepare.heads import yolo
from backlit.export.sources.classifier import Preprocessing
from backlit.export.sources.stated import inside
from backlit.export.trust.rebuild import rebuilt
from backlit.runtime.cli import main
from backlit.runtime.errors import OptionError
from click.testing import CliRunner
from onnx.reference import ReferenceEvaluator
from support.tailed import SIZE, tailed

BOXES = SIZE * SIZE
RNG = np.random.default_rng(7)
WEIGHTS: dict[str, object] = {
    "place": RNG.standard_normal((4, 8, 1, 1)),
    "kinds": RNG.standard_normal((3, 8, 1, 1)),
    "one": RNG.standard_normal((1, 8, 1, 1)),
    "row": RNG.standard_normal((8, 8, 1, 1)),
    "anchored": RNG.standard_normal((16, 8, 1, 1)),
    "flat": [0, -1, BOXES],
    "pairs": [2, 2, 4],
    "places": [4, 4],
    "cells": [0, 2, 8, SIZE, SIZE],
    "rows": [0, 2 * BOXES, 8],
    "sizes": [[[[[4.0, 9.0]]]]],
    "sides": [2.0],
    "n": [2.0],
    "ones": np.ones((1, 1, 1)),
    "box": 8.0,
    "column": [0, 1, BOXES],
    "from2": [2], "from4": [4], "to8": [8], "axis4": [4],
    "half": [0.5],
}  # fmt: skip
APART = (
    "b = Conv(r, place)\nboxes = Reshape(b, flat)\nk = Conv(r, one)\nq = Reshape(k, flat)\n"
    "sure = Sigmoid(q)\nl = Conv(r, kinds)\nlogits = Reshape(l, flat)\ns = Sigmoid(logits)\n"
)
ANCHORS = (
    "h = Conv(r, anchored)\nc5 = Reshape(h, cells)\nt = Transpose<perm = [0, 1, 3, 4, 2]>(c5)\n"
)
PLACES = (
    "xy1 = Mul(xy0, sides)\nxy = Sub(xy1, half)\nwh1 = Mul(wh0, sides)\nwh2 = Pow(wh1, n)\n"
    "wh = Mul(wh2, sizes)\nj = Concat<axis = 4>(xy, wh, conf)\ny = Reshape(j, rows)"
)
Y = f"float[N, {2 * BOXES}, 8] y"

HEADS = {
    "YOLOv5": (
        ANCHORS + "a = Sigmoid(t)\nxy0, wh0, conf = Split<axis = 4>(a, pairs)\n" + PLACES, Y, 1,
    ),
    "YOLOv5, a Sigmoid for each part": (
        ANCHORS + "xy_, wh_, conf_ = Split<axis = 4>(t, pairs)\nxy0 = Sigmoid(xy_)\n"
        "wh0 = Sigmoid(wh_)\nconf = Sigmoid(conf_)\n" + PLACES, Y, 1,
    ),
    "YOLOv5, sliced": (
        ANCHORS + "a = Sigmoid(t)\nxy0 = Slice(a, zero1, from2, axis4)\n"
        "wh0 = Slice(a, from2, from4, axis4)\nconf = Slice(a, from4, to8, axis4)\n" + PLACES, Y, 1,
    ),
    "two levels": (
        ANCHORS + "a = Sigmoid(t)\nxy0, wh0, conf = Split<axis = 4>(a, pairs)\n"
        + PLACES.replace("\ny = ", "\ny1 = ") + "\ny = Concat<axis = 1>(y1, y1)",
        f"float[N, {4 * BOXES}, 8] y", 1,
    ),
    "YOLOX": (
        APART + "z = Concat<axis = 1>(boxes, sure, s)\ny = Transpose<perm = [0, 2, 1]>(z)",
        f"float[N, {BOXES}, 8] y", 1,
    ),
    "YOLOX, boxes last": (
        APART + "y = Concat<axis = 1>(boxes, sure, s)", f"float[N, 8, {BOXES}] y", 2,
    ),
    "YOLOv6": (
        APART + "e = Shape(sure)\no = Expand(ones, e)\nz = Concat<axis = 1>(boxes, o, s)\n"
        "y = Transpose<perm = [0, 2, 1]>(z)", f"float[N, {BOXES}, 8] y", 1,
    ),
}  # fmt: skip


def built(name: str) -> onnx.ModelProto:
    lines, outputs, _ = HEADS[name]
    return tailed(lines, outputs, constants={**WEIGHTS, "zero1": [0]})


@pytest.mark.parametrize("name", HEADS)
def test_the_score_of_the_box_multiplies_those_of_its_classes(name: str, tmp_path: Path) -> None:
    model, axis = built(name), HEADS[name][2]
    report = export(model, tmp_path / "m.onnx", input="float32", maps="gradient")
    score = report.contract.score
    assert (score.tensor, score.classes, score.box_axis, score.objectness) == ("y", 3, axis, 4)
    (note,) = report.notes
    assert (
        "a score of each, and those of 3 classes; the score of a class is the largest prod" in note
    )
    assert report.contract.verification is not None
    assert report.contract.verification.relative_l2 < 1e-3
    image = np.random.default_rng(2).random((2, 3, SIZE, SIZE), np.float32)
    session = ort.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    (scores,) = session.run(["scores"], {"image": image, "class_index": np.full((2, 1), 1)})
    (head,) = ReferenceEvaluator(model).run(None, {"x": image})
    rows = head if axis == 1 else head.transpose(0, 2, 1)
    np.testing.assert_allclose(scores, (rows[..., 4:5] * rows[..., 5:]).max(1), rtol=1e-5)
    again = rebuilt(ir.serde.deserialize_model(model), report.contract, ["saliency"])
    assert [v.name for v in again.graph.outputs] == ["scores", "class", "score", "saliency"]


EVEN = (
    "h = Conv(r, row)\nf2 = Reshape(h, flat)\np, l = Split<axis = 1>(f2, places)\ns = Sigmoid(l)\n"
    "z = Concat<axis = 1>(p, s)\ny = Transpose<perm = [0, 2, 1]>(z)"
)


def test_the_number_of_labels_says_it_where_the_graph_does_not(tmp_path: Path) -> None:
    model = tailed(EVEN, f"float[N, {BOXES}, 8] y", constants=WEIGHTS)
    for options in ({}, {"output_name": "y"}):
        with pytest.raises(OptionError, match=r"4 classes .* those of 3 classes") as caught:
            export(model, tmp_path / "m.onnx", **options)
        assert "--labels" in caught.value.fix
    three = export(model, tmp_path / "m.onnx", labels="abc").contract.score
    assert (three.classes, three.objectness) == (3, 4)
    four = export(model, tmp_path / "m.onnx", labels="abcd").contract.score
    assert (four.classes, four.objectness, four.tensor) == (4, None, "l")
    named = export(model, tmp_path / "m.onnx", output_name="l").contract.score
    assert (named.classes, named.objectness) == (4, None)


@pytest.mark.parametrize("turned", [False, True])
def test_a_layer_that_makes_classes_alone_makes_no_score_of_the_box(turned: bool) -> None:
    lines = APART + "z = Concat<axis = 1>(boxes, s)"
    if turned:
        lines += "\ny = Transpose<perm = [0, 2, 1]>(z)"
    shape = f"float[N, {BOXES}, 7] y" if turned else f"float[N, 7, {BOXES}] z"
    model = tailed(lines, shape, constants=WEIGHTS)
    for value in onnx.shape_inference.infer_shapes(model, data_prop=True).graph.value_info:
        model.graph.value_info.append(value)
    graph = ir.serde.deserialize_model(model).graph
    names = {str(y.name) for node in graph for y in node.outputs}
    found = yolo(graph, names, None)
    assert found is not None
    assert found.classes is None
    assert str(found.scores.name) == "logits"


def test_ultralytics_metadata_have_labels_and_size(tmp_path: Path) -> None:
    metadata = {"author": "Ultralytics", "names": "{1: 'b', 0: \"a's\"}", "imgsz": "[64, 96]"}
    said = inside(metadata, Preprocessing())
    assert (said.labels, said.size, said.mean, said.range) == (
        ("a's", "b"),
        (64, 96),
        (0.0,),
        "0-1",
    )
    assert inside({"names": "['a', 'b']"}, Preprocessing()) == Preprocessing(labels=("a", "b"))
    for damaged in ("{0: 'a'", "[" * 5000, "{'a': 1}", "import os", "", "[1]", "9" * 5000):
        assert inside({"names": damaged}, Preprocessing()) == Preprocessing()
    model = tailed(EVEN, f"float[N, {BOXES}, 8] y", constants=WEIGHTS)
    onnx.helper.set_model_props(model, {"names": "{0: 'a', 1: 'b', 2: 'c'}", "stride": "32"})
    onnx.save(model, tmp_path / "d.onnx")
    run: Any = CliRunner()
    made = run.invoke(main, ["export", str(tmp_path / "d.onnx"), "-o", str(tmp_path / "m.onnx")])
    assert made.exit_code == 0, made.output
    told = run.invoke(main, ["info", str(tmp_path / "m.onnx")]).output
    assert "3 classes, 3 labels, times the score of the box, the largest over a detector's" in told
