"""Outputs are taken out of a file's bytes as the onnx package would do it."""

import numpy as np
import onnx
import onnxruntime
import pytest
from backlit.runtime.backend.protobuf import metadata, with_metadata, without_outputs
from backlit.runtime.errors import ModelError
from onnx import TensorProto, helper
from support.linear_file import write_linear_file


def two_outputs():
    """y = x + 1 and, of no use to y, z = y * two; weights of more than 127 bytes between them."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["x", "one"], ["y"]),
            helper.make_node("Mul", ["y", "two"], ["z"]),
        ],
        "two",
        [value("x", TensorProto.FLOAT, ["N", 200])],
        [value(name, TensorProto.FLOAT, ["N", 200]) for name in ("y", "z")],
        [
            onnx.numpy_helper.from_array(np.full(200, value, np.float32), name)
            for value, name in ((2, "two"), (1, "one"))
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"key": "välue", "empty": ""})
    return model


@pytest.mark.parametrize(
    ("drop", "nodes", "weights"),
    [
        ((), ["Add", "Mul"], ["two", "one"]),
        (("z",), ["Add"], ["one"]),
        (("y",), ["Add", "Mul"], ["two", "one"]),
        (("y", "z"), [], []),
        (("x", "nothing", "one"), ["Add", "Mul"], ["two", "one"]),
    ],
)
def test_what_is_left(drop, nodes, weights):
    model = two_outputs()
    found = onnx.load_from_string(without_outputs(model.SerializeToString(), drop))
    graph = found.graph
    assert [output.name for output in graph.output] == [n for n in ("y", "z") if n not in drop]
    assert [node.op_type for node in graph.node] == nodes
    assert [weight.name for weight in graph.initializer] == weights
    for part in ("output", "node", "initializer"):  # all else is as it was
        for one in (graph, model.graph):
            one.ClearField(part)
    assert found == model


def test_graphs_within_a_node_read_values_around_it():
    value, node = helper.make_tensor_value_info, helper.make_node
    shape = (TensorProto.FLOAT, ["N"])
    branches = [
        helper.make_graph([node("Relu", ["a"], ["r"])], "then", [], [value("r", *shape)]),
        helper.make_graph([node("Identity", ["b"], ["i"])], "else", [], [value("i", *shape)]),
    ]
    graph = helper.make_graph(
        [
            *(node("Neg", ["x"], ["a"]), node("Abs", ["x"], ["b"]), node("Exp", ["x"], ["c"])),
            node("If", ["choice"], ["y"], then_branch=branches[0], else_branch=branches[1]),
        ],
        "nested",
        [value("x", *shape), value("choice", TensorProto.BOOL, [])],
        [value("y", *shape), value("c", *shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data = without_outputs(model.SerializeToString(), ["c"])
    onnx.checker.check_model(onnx.load_from_string(data))
    assert [n.op_type for n in onnx.load_from_string(data).graph.node] == ["Neg", "Abs", "If"]


def test_metadata():
    assert metadata(two_outputs().SerializeToString()) == {"key": "välue", "empty": ""}


@pytest.mark.parametrize(
    "entries",
    [{}, {"new": "text"}, {"key": "other"}, {"empty": "full", "new": "ü" * 300, "": "no name"}],
)
def test_metadata_put_in(entries):
    model = two_outputs()
    data = with_metadata(model.SerializeToString(), entries)
    found = onnx.load_from_string(data)
    props = {"key": "välue", "empty": "", **entries}
    assert {entry.key: entry.value for entry in found.metadata_props} == props
    assert len(found.metadata_props) == len(props)
    assert metadata(data) == props
    helper.set_model_props(model, props)
    for one in (found, model):
        one.metadata_props.sort(key=lambda entry: entry.key)
    assert found == model
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map == props


def test_bytes_stay_as_they_are_where_nothing_is_dropped(tmp_path):
    path = tmp_path / "m.onnx"
    write_linear_file(path, height=32, width=32)
    assert without_outputs(path.read_bytes(), ["no"]) == path.read_bytes()


def test_onnxruntime_takes_what_is_left():
    model = without_outputs(two_outputs().SerializeToString(), ["z"])
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {"x": np.zeros((2, 200), np.float32)})
    assert (result == 1).all()


def test_damaged_files():
    whole = two_outputs().SerializeToString()
    with pytest.raises(ModelError, match="damaged"):
        without_outputs(whole[: len(whole) // 2], ["z"])
    with pytest.raises(ModelError, match="damaged"):
        metadata(whole[:-1])
    with pytest.raises(ModelError, match="damaged"):
        with_metadata(whole[:-1], {"key": "text"})
    for data in (b"hello world\n", b"\xff" * 30, b"\x0b\x0c"):
        with pytest.raises(ModelError, match="damaged"):
            without_outputs(data, ["z"])
