"""ONNX files that ONNX Runtime runs and that are not as the specification has them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from backlit.export import export
from backlit.export.sources import versions
from backlit.export.sources.load import load
from backlit.runtime import Session
from backlit.runtime.errors import ModelError, OptionError
from onnx import TensorProto, helper, numpy_helper
from support import small
from support.real import SHARED

Change = Callable[[onnx.ModelProto], None]
CASES = SHARED / "cases"


def written(path: Path, model: onnx.ModelProto) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def verified(source: Any, folder: Path, **options: Any) -> Session:
    """Export with verification against float64, and open what it made."""
    report = export(source, folder / "made.onnx", **options)
    found = report.contract.verification
    assert found is not None
    assert found.cosine > 0.9999
    assert found.relative_l2 < 1e-3
    assert found.scores_relative < 1e-4
    return Session(folder / "made.onnx", providers="cpu")


def plain_scores(model: onnx.ModelProto, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    engine = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (scores,) = engine.run(["logits"], {engine.get_inputs()[0].name: image})
    found: np.ndarray[Any, Any] = scores
    return found


def same_as_plain(source: Any, folder: Path) -> None:
    """What a mended file explains is what the file was before it was spoilt."""
    made = verified(source, folder, input="float32")
    x = np.random.default_rng(3).uniform(0, 1, (2, 3, 12, 12)).astype(np.float32)
    found = made.run(x, np.full((2, 1), -1)).scores
    np.testing.assert_allclose(found, plain_scores(small.convnet(), x), rtol=1e-4, atol=1e-5)


# -- what a file may be like -----------------------------------------------------------------------


def reversed_nodes(model: onnx.ModelProto) -> None:
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def shuffled_in_a_branch(model: onnx.ModelProto) -> None:
    """An If whose branch is out of order, and which reads a tensor that is made after it."""
    value = helper.make_empty_tensor_value_info
    inner = [
        helper.make_node("Mul", ["i1", "two"], ["i2"], name="second"),
        helper.make_node("Identity", ["a"], ["i1"], name="first"),
    ]
    then = helper.make_graph(inner, "then", [], [value("i2")])
    other = helper.make_graph([helper.make_node("Neg", ["a"], ["n"])], "else", [], [value("n")])
    branch = helper.make_node("If", ["yes"], ["b"], name="if", then_branch=then, else_branch=other)
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model.graph.initializer.append(numpy_helper.from_array(np.float32(1), "two"))
    model.graph.node.insert(0, branch)
    for node in model.graph.node:
        if node.op_type == "MaxPool":
            node.input[0] = "b"


def long_domain(model: onnx.ModelProto) -> None:
    model.opset_import[0].domain = "ai.onnx"
    for node in model.graph.node:
        node.domain = "ai.onnx"


def both_domains(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("ai.onnx", 17))


def no_output_type(model: onnx.ModelProto) -> None:
    model.graph.output[0].ClearField("type")


def no_output_shape(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.ClearField("shape")


def negative_lengths(model: onnx.ModelProto) -> None:
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = -1


def image_returned(model: onnx.ModelProto) -> None:
    model.graph.output.insert(0, model.graph.input[0])


def twice_returned(model: onnx.ModelProto) -> None:
    model.graph.output.append(model.graph.output[0])


def unused_inputs(model: onnx.ModelProto) -> None:
    """One that nothing reads, and one that is read by what nothing needs; both before the image."""
    model.graph.input.insert(0, helper.make_tensor_value_info("free", TensorProto.FLOAT, ["N", 7]))
    model.graph.input.insert(0, helper.make_tensor_value_info("idle", TensorProto.BOOL, []))
    model.graph.node.append(helper.make_node("Not", ["idle"], ["nothing"], name="idle"))


def newer_ir(model: onnx.ModelProto) -> None:
    model.ir_version = 14


def newer_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = onnx.defs.onnx_opset_version()


def sparse(model: onnx.ModelProto) -> None:
    (bias,) = (t for t in model.graph.initializer if t.name == "vb")
    values = numpy_helper.to_array(bias)
    made = helper.make_sparse_tensor(
        numpy_helper.from_array(values, "vb"),
        numpy_helper.from_array(np.arange(len(values)), "at"),
        [len(values)],
    )
    model.graph.initializer.remove(bias)
    model.graph.sparse_initializer.append(made)


def shared_names(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        node.name = "same"


def sequence_of_scores(model: onnx.ModelProto) -> None:
    of = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    model.graph.node.append(helper.make_node("SequenceConstruct", ["logits"], ["several"]))
    model.graph.output[0].CopyFrom(helper.make_value_info("several", of))


SPOILT: list[Change] = [
    reversed_nodes, shuffled_in_a_branch, long_domain, both_domains, no_output_type,
    no_output_shape, negative_lengths, image_returned, twice_returned, unused_inputs, newer_ir,
    newer_opset, sparse, shared_names, sequence_of_scores,
]  # fmt: skip


@pytest.mark.parametrize("change", SPOILT, ids=lambda change: change.__name__)
@pytest.mark.parametrize("in_memory", [False, True], ids=["file", "proto"])
def test_spoilt_files_are_mended(change: Change, in_memory: bool, tmp_path: Path) -> None:
    model = small.convnet()
    change(model)
    before = model.SerializeToString()
    same_as_plain(model if in_memory else written(tmp_path / "spoilt.onnx", model), tmp_path)
    assert model.SerializeToString() == before


def test_height_and_width_of_minus_one_are_pinned(tmp_path: Path) -> None:
    """As Paddle writes an image of any size."""
    model = small.convnet()
    for dim in (0, 2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[dim].dim_value = -1
    path = written(tmp_path / "paddle.onnx", model)
    with pytest.raises(OptionError, match="no fixed height and width"):
        export(path, tmp_path / "made.onnx")
    made = verified(path, tmp_path, size=12)
    assert (made.contract.image.height, made.contract.image.width) == (12, 12)


def zipmapped(names: list[str] | None = None) -> onnx.ModelProto:
    """As sklearn-onnx and Azure Custom Vision write it: a label, and a sequence of maps."""
    model = small.convnet(end="Softmax")
    keys = {"classlabels_strings": names} if names else {"classlabels_int64s": range(small.CLASSES)}
    model.graph.node.append(helper.make_node("ArgMax", ["ended"], ["label"], axis=1, keepdims=0))
    zipmap = helper.make_node("ZipMap", ["ended"], ["maps"], domain="ai.onnx.ml", **keys)
    model.graph.node.append(zipmap)
    kind = TensorProto.STRING if names else TensorProto.INT64
    of = helper.make_map_type_proto(kind, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    sequence = helper.make_value_info("maps", helper.make_sequence_type_proto(of))
    label = helper.make_tensor_value_info("label", TensorProto.INT64, ["N"])
    del model.graph.output[:]
    model.graph.output.extend([label, sequence])
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    return model


def test_zipmap_is_left_out(tmp_path: Path) -> None:
    same_as_plain(written(tmp_path / "maps.onnx", zipmapped()), tmp_path)


def test_zipmap_names_the_classes(tmp_path: Path) -> None:
    names = [f"kind {i}" for i in range(small.CLASSES)]
    made = verified(zipmapped(names), tmp_path)
    assert made.contract.labels == tuple(names)
    assert made.contract.score.left_out == ("Softmax",)


@pytest.mark.parametrize("typed", [True, False])
def test_a_label_in_words_is_no_score(typed: bool, tmp_path: Path) -> None:
    """As Custom Vision writes it: the best class's name beside the ZipMap, shape unknown."""
    names = [f"kind {i}" for i in range(small.CLASSES)]
    model = zipmapped(names)
    words = helper.make_tensor(
        "words", TensorProto.STRING, [len(names)], [n.encode() for n in names]
    )
    model.graph.initializer.append(words)
    picked = helper.make_node(
        "ArrayFeatureExtractor", ["words", "label"], ["word"], domain="ai.onnx.ml"
    )
    model.graph.node.append(picked)
    model.graph.output[0].CopyFrom(helper.make_empty_tensor_value_info("word"))
    if typed:
        said = helper.make_tensor_value_info("word", TensorProto.STRING, None)
        model.graph.output[0].CopyFrom(said)
    made = verified(written(tmp_path / "words.onnx", model), tmp_path)
    assert made.contract.labels == tuple(names)


def test_an_empty_batch_is_any(tmp_path: Path) -> None:
    same_as_plain(small.convnet(batch=0), tmp_path)


@pytest.mark.parametrize("dtype", [TensorProto.DOUBLE, TensorProto.BFLOAT16])
def test_float64_and_bfloat16_become_float32(dtype: int, tmp_path: Path) -> None:
    """No CPU provider has their convolutions; the scores are those of the same weights."""
    model = small.convnet()
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor).astype(helper.tensor_dtype_to_np_dtype(dtype))
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    for tensor in plain.graph.initializer:
        values = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = dtype
    made = verified(written(tmp_path / "wide.onnx", model), tmp_path, input="float32")
    assert made.contract.precision == "float32"
    x = np.random.default_rng(3).uniform(0, 1, (2, 3, 12, 12)).astype(np.float32)
    scores = made.run(x, np.full((2, 1), -1)).scores
    np.testing.assert_allclose(scores, plain_scores(plain, x), rtol=1e-4, atol=1e-5)


def test_if_on_the_image_size_is_decided(tmp_path: Path) -> None:
    """The branch that this size takes is part of the graph."""
    model = small.convnet()
    value = helper.make_empty_tensor_value_info
    constant = helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.float32(3)))
    then = helper.make_graph(
        [constant, helper.make_node("Mul", ["input", "k"], ["t"])], "then", [], [value("t")]
    )
    other = helper.make_graph([helper.make_node("Neg", ["input"], ["e"])], "e", [], [value("e")])
    first = [
        helper.make_node("Shape", ["input"], ["shape"], name="shape"),
        helper.make_node("Gather", ["shape", "two"], ["height"], name="height", axis=0),
        helper.make_node("Greater", ["height", "ten"], ["large"], name="large"),
        helper.make_node("If", ["large"], ["x"], name="if", then_branch=then, else_branch=other),
    ]
    for name, number in (("two", 2), ("ten", 10)):
        model.graph.initializer.append(numpy_helper.from_array(np.array(number), name))
    model.graph.node[0].input[0] = "x"
    nodes = [*first, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    made = verified(model, tmp_path, input="float32")
    kinds = {n.op_type for n in onnx.load(tmp_path / "made.onnx").graph.node}
    assert "If" not in kinds
    x = np.random.default_rng(3).uniform(0, 1, (1, 3, 12, 12)).astype(np.float32)
    scores = made.run(x, np.full((1, 1), -1)).scores
    np.testing.assert_allclose(scores, plain_scores(model, x), rtol=1e-4, atol=1e-5)


# -- external data ---------------------------------------------------------------------------------


def gathering() -> onnx.ModelProto:
    """A classifier with an index of over 1000 bytes, as torch's exporters write windows."""
    model = small.convnet(
        extra=[
            helper.make_node("Reshape", ["a", "flat"], ["r"], name="r"),
            helper.make_node("Gather", ["r", "at"], ["g"], name="gather", axis=2),
            helper.make_node("Reshape", ["g", "whole"], ["b"], name="w"),
        ]
    )
    at = np.random.default_rng(1).permutation(144)
    for name, values in (("at", at), ("flat", [0, 4, 144]), ("whole", [0, 4, 12, 12])):
        tensor = numpy_helper.from_array(np.array(values, np.int64), name)
        model.graph.initializer.append(tensor)
    return model


def external(path: Path, model: onnx.ModelProto) -> Path:
    onnx.save(model, path, save_as_external_data=True, size_threshold=100, location="beside.data")
    return path


def test_external_indices_are_found_wherever_one_stands(tmp_path: Path) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    made = verified(external(folder / "m.onnx", gathering()), tmp_path, input="float32")
    x = np.random.default_rng(3).uniform(0, 1, (1, 3, 12, 12)).astype(np.float32)
    scores = made.run(x, np.full((1, 1), -1)).scores
    np.testing.assert_allclose(scores, plain_scores(gathering(), x), rtol=1e-4, atol=1e-5)


def test_external_data_counts_in_the_hash(tmp_path: Path) -> None:
    path = external(tmp_path / "m.onnx", gathering())
    before = load(path).sha256
    data = tmp_path / "beside.data"
    data.write_bytes(data.read_bytes()[:-1] + b"\x3f")
    assert load(path).sha256 != before


@pytest.mark.parametrize("left", [None, 64])
def test_external_data_that_is_not_here_is_named(left: int | None, tmp_path: Path) -> None:
    path = external(tmp_path / "m.onnx", gathering())
    data = tmp_path / "beside.data"
    kept = data.read_bytes()[:left]
    data.unlink()
    if left is not None:
        data.write_bytes(kept)
    with pytest.raises(ModelError, match=r"beside\.data") as caught:
        export(path, tmp_path / "x.onnx")
    assert "cop" in str(caught.value.fix)


def test_a_proto_without_its_external_data_names_it(tmp_path: Path) -> None:
    model = onnx.load(external(tmp_path / "m.onnx", gathering()), load_external_data=False)
    with pytest.raises(ModelError, match=r"beside\.data"):
        export(model, tmp_path / "x.onnx")
    same = onnx.load(tmp_path / "m.onnx")
    verified(same, tmp_path)


def test_constants_of_nodes_and_branches_may_be_external(tmp_path: Path) -> None:
    """Every tensor of the file lies beside it, small ones and those in attributes too."""
    model = gathering()
    shuffled_in_a_branch(model)
    next(n for n in model.graph.node if n.name == "r").input[0] = "b_"
    next(n for n in model.graph.node if n.name == "if").output[0] = "b_"
    next(n for n in model.graph.node if n.name == "pool").input[0] = "b"
    tensor = next(t for t in model.graph.initializer if t.name == "at")
    model.graph.initializer.remove(tensor)
    model.graph.node.insert(0, helper.make_node("Constant", [], ["at"], name="k", value=tensor))
    path = tmp_path / "m.onnx"
    onnx.save(
        model, path, save_as_external_data=True, size_threshold=0, location="beside.data",
        convert_attribute=True,
    )  # fmt: skip
    verified(path, tmp_path)


# -- what is refused, in one line ------------------------------------------------------------------


def circular(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "a"


def made_twice(model: onnx.ModelProto) -> None:
    model.graph.node[1].output[0] = "c"


def output_of_nothing(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "nowhere"


def input_of_nothing(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[1] = "nothing"


def no_such_operator(model: onnx.ModelProto) -> None:
    model.graph.node[1].op_type = "Bogus"


def decided_by_pixels(model: onnx.ModelProto) -> None:
    value = helper.make_empty_tensor_value_info
    then = helper.make_graph([helper.make_node("Neg", ["a"], ["t"])], "t", [], [value("t")])
    other = helper.make_graph([helper.make_node("Abs", ["a"], ["e"])], "e", [], [value("e")])
    nodes = [
        helper.make_node("ReduceMax", ["a"], ["m"], name="most", keepdims=0),
        helper.make_node("Cast", ["m"], ["yes"], name="yes", to=TensorProto.BOOL),
        helper.make_node("If", ["yes"], ["b"], name="if", then_branch=then, else_branch=other),
    ]
    model.graph.node[2].input[0] = "b"
    model.graph.node.extend(nodes)


def only_maps(model: onnx.ModelProto) -> None:
    del model.graph.output[:]
    of = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    model.graph.node.append(helper.make_node("SplitToSequence", ["logits"], ["parts"], axis=1))
    model.graph.output.append(helper.make_value_info("parts", of))


def other_channels(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 65535


def far_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 99


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (circular, "depend on themselves"),
        (output_of_nothing, "not a readable ONNX model: .*'nowhere'"),
        (input_of_nothing, "not a readable ONNX model: .*'nothing' of node: name: conv"),
        (no_such_operator, "not a readable ONNX model: .*Bogus"),
        (decided_by_pixels, "If 'if' chooses at run time"),
        (made_twice, "two nodes that make the tensor 'c'"),
        (only_maps, r"no tensor that it computes: parts \(sequence_type\)"),
        (other_channels, "not a readable ONNX model: .*C: 65535 kernel channels: 3"),
        (far_opset, f"opset 99; what is installed reads up to {versions.newest_opset()}"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.parametrize("in_memory", [False, True], ids=["file", "proto"])
def test_what_cannot_be_mended_is_said(
    change: Change, says: str, in_memory: bool, tmp_path: Path
) -> None:
    model = small.convnet()
    change(model)
    with pytest.raises(ModelError, match=says):
        export(model if in_memory else written(tmp_path / "m.onnx", model), tmp_path / "x.onnx")


@pytest.mark.parametrize(
    ("op_type", "most", "opset", "says"),
    [
        ("Relu", 22, 25, None),
        ("Swish", 22, 25, "opset 25; .* up to 22, and Swish changed since"),
        ("GroupNormalization", 20, 21, "GroupNormalization changed since"),
    ],
)
def test_opsets_are_lowered_where_operators_allow(
    op_type: str, most: int, opset: int, says: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Newer than the runtime reads, with operators that were the same before, or were not."""
    monkeypatch.setattr(versions, "newest_opset", lambda: most)
    model = small.convnet(opset=opset)
    model.graph.node[1].op_type = op_type
    if says is None:
        versions.lower_versions(model, "m.onnx")
        assert model.opset_import[0].version == most
        return
    with pytest.raises(ModelError, match=says):
        versions.lower_versions(model, "m.onnx")


@pytest.mark.parametrize("cut", [0, 1, 100, 2000])
def test_parts_and_other_files_are_not_readable(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "part.onnx"
    path.write_bytes(small.convnet().SerializeToString()[:cut])
    with pytest.raises(ModelError, match="not a readable ONNX model"):
        export(path, tmp_path / "x.onnx")


@pytest.mark.parametrize(
    "name",
    [
        "aionnx_domain", "bf16", "double", "if_shape", "ir14", "no_output_shape", "out_is_input",
        "unsorted", "untyped_output", "unused_input", "zipmap", "external_int64/idx",
    ],
)  # fmt: skip
def test_reported_files_export_and_verify(name: str, tmp_path: Path) -> None:
    path = CASES / f"{name}.onnx"
    if not path.is_file():
        pytest.skip("the reported files are not here")
    verified(path, tmp_path)
