"""What is written out before rules are asked: batch statistics, loops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import helper, numpy_helper
from support.small import convnet

from backlit import ModelError, export

PLAIN = {"scale": [1.0, 2, 0.5, 1], "shift": [0.1, 0, 0, 1], "mean": [0.0] * 4, "var": [1.0] * 4}


def with_constants(model: onnx.ModelProto, **values: Any) -> onnx.ModelProto:
    for name, value in values.items():
        array = np.asarray(value)
        array = array.astype(np.float32) if array.dtype.kind == "f" else array
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    return model


def normalised(batch: int | str, training: bool) -> onnx.ModelProto:
    """By the statistics of the batch: in training mode, or as torch's exporter writes it."""
    if training:
        nodes = [
            helper.make_node(
                "BatchNormalization", ["a", "scale", "shift", "mean", "var"], ["b", "rm", "rv"],
                name="bn", training_mode=1,
            )
        ]  # fmt: skip
    else:
        axes = {"axes": [0, 2, 3]}
        nodes = [
            helper.make_node("ReduceMean", ["a"], ["m4"], name="mean4", **axes),
            helper.make_node("Sub", ["a", "m4"], ["d"], name="less"),
            helper.make_node("Mul", ["d", "d"], ["dd"], name="square"),
            helper.make_node("ReduceMean", ["a"], ["m"], name="mean1", keepdims=0, **axes),
            helper.make_node("ReduceMean", ["dd"], ["spread"], name="var1", keepdims=0, **axes),
            helper.make_node(
                "BatchNormalization", ["a", "scale", "shift", "m", "spread"], ["b"], name="bn"
            ),
        ]
    return with_constants(convnet(extra=nodes, batch=batch), **PLAIN)


@pytest.mark.parametrize("training", [True, False])
def test_statistics_of_one_image_are_its_own(training: bool, tmp_path: Path) -> None:
    """Of a file for one image; batches of the exported one are of such images."""
    report = export(normalised(1, training), tmp_path / "out.backlit.onnx")
    assert report.contract.verification is not None
    assert report.contract.verification.cosine > 0.9999


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("batch", ["N", 4])
def test_statistics_of_a_batch_are_refused(
    batch: int | str, training: bool, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="averages over the batch") as error:
        export(normalised(batch, training), tmp_path / "out.backlit.onnx")
    assert "with a batch of one image" in error.value.fix


def test_statistics_of_weights_are_constants(tmp_path: Path) -> None:
    """Weight standardisation, as BiT and NFNet have it."""
    model = convnet()
    model = with_constants(model, flat=[1, 4, -1], back=[4, 3, 3, 3], **PLAIN)
    nodes = [
        helper.make_node("Reshape", ["w", "flat"], ["rows"], name="rows"),
        helper.make_node(
            "BatchNormalization", ["rows", "scale", "shift", "mean", "var"], ["std", "rm", "rv"],
            name="bn", training_mode=1,
        ),
        helper.make_node("Reshape", ["std", "back"], ["ws"], name="back"),
    ]  # fmt: skip
    for place, node in enumerate(nodes):
        model.graph.node.insert(place, node)
    model.graph.node[3].input[1] = "ws"
    report = export(model, tmp_path / "out.backlit.onnx")
    assert report.contract.verification is not None
    assert report.contract.verification.scores_relative < 1e-5


def body(text: str) -> onnx.GraphProto:
    return onnx.parser.parse_graph(text)


HALVED = """turn (int64 i, bool go, float[N,4,12,12] h) => (
  bool go_on, float[N,4,12,12] h1, float s
) <float half = {0.5}> {
  t = Tanh(h)  scaled = Mul(t, half)  h1 = Add(scaled, a)
  number = Cast<to = 1>(i)  all = ReduceMax<keepdims = 0>(number)  s = Add(all, half)
  go_on = Identity(go)
}"""
COUNTED = """turn (int64 i, bool go, float[N,4,12,12] h, int64 j) => (
  bool go_on, float[N,4,12,12] h1, int64 j1
) <int64 two = {2}, int64 five = {5}> { h1 = Tanh(h)  j1 = Add(j, two)  go_on = Less(j1, five) }"""
NESTED = """turn (int64 i, bool go, float[N,4,12,12] h) => (bool go, float[N,4,12,12] h1)
<int64 two = {2}, bool yes = {1}> {
  h1 = Loop<body = inner (int64 k, bool on, float[N,4,12,12] x) => (bool on, float[N,4,12,12] y) {
    s = Sin(x)  y = Add(s, h)
  }>(two, yes, h)
}"""
DECIDED = """turn (int64 i, bool go, float[N,4,12,12] h) => (bool go_on, float[N,4,12,12] h1)
<float one = {1.0}> {
  h1 = Tanh(h)  m = ReduceMax<keepdims = 0>(h1)  go_on = Less(m, one)
}"""
SAME = """turn (int64 i, bool go, float[N,4,12,12] h) => (bool go_on, float[N,4,12,12] h1) {
  h1 = Identity(h)  go_on = Identity(go)
}"""
ROWS = """turn (float[N,4,12] h, float[N,4,12] x) => (float[N,4,12] h1, float[N,4,12] y) {
  s = Add(h, x)  h1 = Tanh(s)  y = Mul(h1, x)
}"""


def looped(text: str, turns: int | None, *carried: str, outputs: int = 1) -> list[onnx.NodeProto]:
    """A Loop on "a" that gives "b"."""
    others = [f"more{i}" for i in range(1, outputs)]
    count = "" if turns is None else "turns"
    return [
        helper.make_node(
            "Loop", [count, "go", "a", *carried], ["b", *others], name="loop", body=body(text)
        )
    ]


def scanned(**attributes: Any) -> list[onnx.NodeProto]:
    """A Scan along the rows of "a", from the zeros of one; "b" is what it collects."""
    return [
        helper.make_node("ReduceMin", ["a", "rows"], ["h"], name="first", keepdims=0),
        helper.make_node(
            "Scan", ["h", "a"], ["last", "b"], name="scan", num_scan_inputs=1, body=body(ROWS),
            scan_input_axes=[2], scan_output_axes=[2], **attributes,
        ),
    ]  # fmt: skip


def of_a_loop(nodes: list[onnx.NodeProto], batch: int | str = "N") -> onnx.ModelProto:
    constants: dict[str, Any] = {"turns": 3, "go": True, "j": 0, "rows": [2]}
    used = {x for node in nodes for x in node.input}
    kept = {k: v for k, v in constants.items() if k in used}
    return with_constants(convnet(extra=nodes, batch=batch, opset=18), **kept)


LOOPS = {
    "counted": lambda: looped(HALVED, 3, outputs=2),
    "until": lambda: looped(COUNTED, None, "j", outputs=2),
    "counted or until": lambda: looped(COUNTED, 3, "j", outputs=2),
    "nested": lambda: looped(NESTED, 3),
    "scan": scanned,
    "scan up": lambda: scanned(scan_input_directions=[1]),
    "scan, put before": lambda: scanned(scan_output_directions=[1]),
}


@pytest.mark.parametrize("batch", ["N", 2])
@pytest.mark.parametrize("name", LOOPS)
def test_loops_of_constant_turns_are_written_out(
    name: str, batch: int | str, tmp_path: Path
) -> None:
    report = export(of_a_loop(LOOPS[name](), batch), tmp_path / "out.backlit.onnx")
    verified = report.contract.verification
    assert verified is not None
    assert verified.cosine > 0.9999
    assert verified.scores_relative < 1e-5
    made = {node.op_type for node in onnx.load(tmp_path / "out.backlit.onnx").graph.node}
    assert not made & {"Loop", "Scan"}


def test_a_loop_without_types_that_makes_no_turn_passes_on_what_it_is_given(tmp_path: Path) -> None:
    model = of_a_loop(looped(SAME, 3))
    model.opset_import[0].version = 23
    for tensor in model.graph.initializer:
        if tensor.name == "go":
            tensor.CopyFrom(numpy_helper.from_array(np.array(False), "go"))
    (loop,) = (node for node in model.graph.node if node.op_type == "Loop")
    for value in (*loop.attribute[0].g.input[2:], *loop.attribute[0].g.output[1:]):
        value.ClearField("type")
    verified = export(model, tmp_path / "out.backlit.onnx").contract.verification
    assert verified is not None
    assert verified.outcome == "agrees"


@pytest.mark.parametrize(
    ("turns", "text", "problem", "fix"),
    [
        (3, DECIDED, "until a condition that the image decides", "constant number of turns"),
        (9000, HALVED, "makes 9000 turns or more", "without the loop"),
        (0, HALVED, None, ""),
    ],
)
def test_other_loops_are_refused(
    turns: int, text: str, problem: str | None, fix: str, tmp_path: Path
) -> None:
    model = of_a_loop(looped(text, turns, outputs=2 if text == HALVED else 1))
    for tensor in model.graph.initializer:
        if tensor.name == "turns":
            tensor.CopyFrom(numpy_helper.from_array(np.array(turns), "turns"))
    if problem is None:  # no turn: what goes in comes out, and nobody reads what it collects
        export(model, tmp_path / "out.backlit.onnx")
        return
    with pytest.raises(ModelError, match=problem) as error:
        export(model, tmp_path / "out.backlit.onnx")
    assert fix in error.value.fix


def test_turns_that_the_image_decides_are_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceMax", ["a"], ["top"], name="top", keepdims=0),
        helper.make_node("Cast", ["top"], ["turns"], name="cast", to=onnx.TensorProto.INT64),
        *looped(HALVED, 3, outputs=2),
    ]
    model = of_a_loop(nodes)
    del model.graph.initializer[[t.name for t in model.graph.initializer].index("turns")]
    with pytest.raises(ModelError, match="Loop") as error:
        export(model, tmp_path / "out.backlit.onnx")
    assert "its number of turns is constant" in error.value.fix


GATHERED = """turn (int64 i, bool go, seq(float[N,4,12,12]) q) => (
  bool go, seq(float[N,4,12,12]) q1
) { t = Cast<to = 1>(i)  y = Add(t, a)  z = Tanh(y)  q1 = SequenceInsert(q, z) }"""


@pytest.mark.parametrize("known", ["constant", "shape"])
@pytest.mark.parametrize("batch", ["N", 2])
def test_what_a_loop_gathered_in_a_sequence(batch: int | str, known: str, tmp_path: Path) -> None:
    """As torch.jit.script writes ``torch.stack`` of a list, and one of its elements."""
    nodes = [
        helper.make_node("SequenceEmpty", [], ["q"], name="empty"),
        helper.make_node(
            "Loop", ["turns", "go", "q"], ["all"], name="loop", body=body(GATHERED)
        ),
        helper.make_node("ConcatFromSequence", ["all"], ["joined"], name="join", axis=1),
        helper.make_node("SequenceAt", ["all", "last"], ["one"], name="at"),
        helper.make_node("Slice", ["joined", "from", "to", "along"], ["part"], name="part"),
        helper.make_node("Add", ["part", "one"], ["b"], name="both"),
    ]  # fmt: skip
    if known == "shape":
        nodes[:0] = [
            helper.make_node("Shape", ["a"], ["lengths"], name="lengths"),
            helper.make_node("Gather", ["lengths", "one_"], ["turns"], name="turns"),
        ]
    model = of_a_loop(nodes, batch)
    places = {"last": -1, "from": [3], "to": [7], "along": [1], "one_": 1}
    model = with_constants(
        model, **{k: v for k, v in places.items() if k != "one_" or known == "shape"}
    )
    if known == "shape":
        del model.graph.initializer[[t.name for t in model.graph.initializer].index("turns")]
    report = export(model, tmp_path / "out.backlit.onnx")
    assert report.contract.verification is not None
    assert report.contract.verification.scores_relative < 1e-5
