"""What ONNX lets files say in several ways, and classical models: each is served, and right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from backlit.export import export
from backlit.runtime.errors import OptionError
from onnx import TensorProto, helper, numpy_helper, parser
from support.tailed import CLASSES, FEATURES, SIZE, tailed

HEAD = f"float[N, {CLASSES}] y"


def agrees(model: onnx.ModelProto, folder: Path, **options: Any) -> Any:
    """Export and verify; the file's scores must be what ONNX Runtime makes of the source."""
    report = export(model, folder / "m.onnx", input="float32", maps="gradient", **options)
    assert report.contract.verification is not None
    image = report.contract.image
    rng = np.random.default_rng(0)
    x = rng.random((1, image.channels, image.height, image.width), np.float32)
    providers = ["CPUExecutionProvider"]
    made = ort.InferenceSession(str(folder / "m.onnx"), providers=providers)
    (found,) = made.run(["scores"], {"image": x, "class_index": np.zeros((1, 1), np.int64)})
    own = ort.InferenceSession(model.SerializeToString(), providers=providers)
    (given,) = own.get_inputs()
    (expected,) = own.run(
        [own.get_outputs()[0].name],
        {given.name: x.reshape([d if isinstance(d, int) else 1 for d in given.shape])},
    )
    if not report.contract.score.left_out:
        np.testing.assert_allclose(found.ravel(), expected.ravel(), rtol=1e-4, atol=1e-5)
    return report.contract


@pytest.mark.parametrize("given", ["value_float = 1.5", "value_floats = [1.5]"])
def test_numbers_of_constants(given: str, tmp_path: Path) -> None:
    agrees(tailed(f"k = Constant<{given}>()\ny = Mul(head, k)", HEAD), tmp_path)


@pytest.mark.parametrize("kind", ["initializer", "constant", "by coordinates"])
def test_sparse_weights(kind: str, tmp_path: Path) -> None:
    model = tailed("y = MatMul(f, sparse)", HEAD)
    places = [[0, 1], [3, 2], [7, 4]]
    at = places if kind == "by coordinates" else [row * CLASSES + column for row, column in places]
    values = numpy_helper.from_array(np.float32([1, 2, -3]), "sparse")
    indices = numpy_helper.from_array(np.array(at), "at")
    tensor = helper.make_sparse_tensor(values, indices, [FEATURES, CLASSES])
    if kind == "constant":
        model.graph.node.insert(
            0, helper.make_node("Constant", [], ["sparse"], sparse_value=tensor)
        )
    else:
        model.graph.sparse_initializer.append(tensor)
    agrees(model, tmp_path)


LOOP = (
    "y = Loop(turns, , head) <body = b (int64 i, bool c0, float[N, 5] s) => "
    "(bool c1, float[N, 5] t) { c1 = Identity(c0) u = Mul(s, k) t = Tanh(u) }>"
)


@pytest.mark.parametrize(
    "turns",
    ["turns = Constant<value = int64 {3}>()", "turns = Add(one, two)",
     "h = Shape(c)\nturns = Gather(h, one)"],
    ids=["constant", "computed", "of a shape"],
)  # fmt: skip
def test_loops_without_a_condition(turns: str, tmp_path: Path) -> None:
    constants = {"k": 1.3, "one": 1, "two": 2}
    agrees(
        tailed(
            f"{turns}\n{LOOP}",
            HEAD,
            constants=constants,
        ),
        tmp_path,
    )


def test_defaults_of_a_models_own_functions(tmp_path: Path) -> None:
    leaky = helper.make_node("LeakyRelu", ["x"], ["y"])
    slope = leaky.attribute.add()
    slope.name, slope.ref_attr_name, slope.type = "alpha", "slope", onnx.AttributeProto.FLOAT
    opset = [helper.make_opsetid("", 17)]
    function = helper.make_function(
        "own", "Leaky", ["x"], ["y"], [leaky], opset,
        attribute_protos=[helper.make_attribute("slope", 0.25)],
    )  # fmt: skip
    model = tailed("p = own.Leaky(head)\ny = own.Leaky<slope = 0.5>(p)", HEAD)
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("own", 1))
    agrees(model, tmp_path)


def linear(lines: str, outputs: str, features: int = 64) -> onnx.ModelProto:
    """What sklearn-onnx makes of a pipeline on rows of pixels."""
    graph = parser.parse_graph(f"g (float[N, {features}] x) => ({outputs}) {{\n{lines}\n}}")
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    rng = np.random.default_rng(1)
    for node in model.graph.node:
        if node.op_type.startswith("Linear"):
            numbers = rng.standard_normal(3 * features).tolist()
            node.attribute.append(helper.make_attribute("coefficients", numbers))
            node.attribute.append(helper.make_attribute("intercepts", [0.1, -0.2, 0.3]))
    return model


def test_a_logistic_regression_of_sklearn(tmp_path: Path) -> None:
    model = linear(
        "s = ai.onnx.ml.Scaler<offset = [0.5], scale = [2.0]>(x)\n"
        'label, p = ai.onnx.ml.LinearClassifier<post_transform = "SOFTMAX", multi_class = 1, '
        'classlabels_strings = ["a", "b", "c"]>(s)\n'
        'n = ai.onnx.ml.Normalizer<norm = "L1">(p)\n'
        'z = ai.onnx.ml.ZipMap<classlabels_strings = ["a", "b", "c"]>(n)',
        "string[N] label, float[N, 3] z",
    )
    model.graph.output[1].type.CopyFrom(
        helper.make_sequence_type_proto(
            helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(1, []))
        )
    )
    with pytest.raises(OptionError, match="is flat"):
        export(model, tmp_path / "m.onnx")
    contract = export(model, tmp_path / "m.onnx", size=8, input="float32").contract
    assert (contract.score.classes, contract.labels) == (3, ("a", "b", "c"))
    x = np.random.default_rng(0).random((2, 1, 8, 8), np.float32)
    providers = ["CPUExecutionProvider"]
    made = ort.InferenceSession(str(tmp_path / "m.onnx"), providers=providers)
    (found,) = made.run(["scores"], {"image": x, "class_index": np.zeros((2, 1), np.int64)})
    own = ort.InferenceSession(model.SerializeToString(), providers=providers)
    (maps,) = own.run(["z"], {"x": x.reshape(2, 64)})
    expected = [[one[name] for name in "abc"] for one in maps]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_other_linear_models(tmp_path: Path) -> None:
    ridge = "y = ai.onnx.ml.LinearRegressor<targets = 3>(x)\n"
    agrees(linear(ridge, "float[N, 3] y"), tmp_path, size=8)
    rows = (
        'r = ai.onnx.ml.Normalizer<norm = "{}">(x)\ny = ai.onnx.ml.LinearRegressor<targets = 3>(r)'
    )
    for norm in ("MAX", "L2"):
        agrees(linear(rows.format(norm), "float[N, 3] y"), tmp_path, size=8)


@pytest.mark.parametrize("axes", [[0, 1], [-4, -3]])
def test_one_grey_image_without_a_batch(axes: list[int], tmp_path: Path) -> None:
    model = tailed("y = Squeeze(head, first)", f"float[{CLASSES}] y", constants={"first": [0]})
    old = model.graph.node[0]
    old.input[0] = "batched"
    model.graph.node.insert(0, helper.make_node("Unsqueeze", ["x", "axes"], ["batched"]))
    model.graph.initializer.append(numpy_helper.from_array(np.array(axes), "axes"))
    grey = np.random.default_rng(3).standard_normal((FEATURES, 1, 3, 3)).astype(np.float32)
    weights = [t for t in model.graph.initializer if t.name != "w"]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*weights, numpy_helper.from_array(grey, "w")])
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [SIZE, SIZE])
    model.graph.input[0].CopyFrom(value)
    assert agrees(model, tmp_path).image.channels == 1


def test_a_row_that_becomes_a_picture_is_no_picture(tmp_path: Path) -> None:
    """[1, 64] turned into [1, 1, 8, 8] is flat, not an image of one row."""
    graph = parser.parse_graph(
        "g (float[1, 64] x) => (float[1, 64] y) "
        "{\nq = Reshape(x, shape)\nt = Tanh(q)\ny = Flatten(t)\n}"
    )
    graph.initializer.append(numpy_helper.from_array(np.array([1, 1, 8, 8]), "shape"))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(OptionError, match="is flat"):
        export(model, tmp_path / "m.onnx")
    assert agrees(model, tmp_path, size=8).image.height == 8
