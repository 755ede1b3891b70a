"""ONNX files as they are in the wild: layouts, precisions, quantised and large ones."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from backlit.export import differentiate, export, write
from backlit.export.graph.protos import with_outputs
from backlit.export.rules import pooling
from backlit.runtime import Session
from backlit.runtime.errors import ModelError, OptionError, VerificationError
from onnx import TensorProto, helper, numpy_helper
from support import small

Array = np.ndarray[Any, Any]
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def cpu(model: onnx.ModelProto | Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    data = str(model) if isinstance(model, Path) else model.SerializeToString()
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def images(count: int, size: int = 12, seed: int = 0) -> Array:
    return np.random.default_rng(seed).uniform(0, 1, (count, 3, size, size)).astype(np.float32)


def exported(model: Any, path: Path, **options: Any) -> ort.InferenceSession:
    export(model, path, input="float32", maps="gradient", **options)
    return cpu(path)


def run(session: ort.InferenceSession, image: Array, k: int = 2) -> list[Array]:
    index = np.tile(-1 - np.arange(k), (len(image), 1))
    found: list[Array] = session.run(
        ["scores", "class", "gradient"], {"image": image, "class_index": index}
    )
    return found


# -- layouts ---------------------------------------------------------------------------------------


def nhwc(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same classifier as TensorFlow's exporters write it: a Transpose first."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    (image,) = result.graph.input
    dims = [d.dim_value or d.dim_param for d in image.type.tensor_type.shape.dim]
    inner = f"{image.name}/nchw"
    for node in result.graph.node:
        node.input[:] = [inner if name == image.name else name for name in node.input]
    node = helper.make_node("Transpose", [image.name], [inner], name="first", perm=[0, 3, 1, 2])
    result.graph.node.insert(0, node)
    shape = [dims[0], dims[2], dims[3], dims[1]]
    image.CopyFrom(helper.make_tensor_value_info(image.name, TensorProto.FLOAT, shape))
    return result


@pytest.mark.parametrize("batch", ["unk__7", 1])
def test_channels_last(batch: str | int, tmp_path: Path) -> None:
    """The file's interface is the same whatever layout the classifier takes."""
    plain = small.convnet(batch=batch)
    found = run(exported(nhwc(plain), tmp_path / "last.onnx"), images(3))
    for ours, right in zip(
        found, run(exported(plain, tmp_path / "m.onnx"), images(3)), strict=True
    ):
        np.testing.assert_allclose(ours, right, rtol=1e-5, atol=1e-6)
    export(nhwc(plain), tmp_path / "uint8.onnx", **IMAGENET)
    picture = (images(1)[0] * 255).astype(np.uint8).transpose(1, 2, 0)
    (saliency,) = Session(tmp_path / "uint8.onnx", providers=["cpu"]).saliency(picture)
    assert saliency.maps.shape == (1, 12, 12)
    assert saliency.maps.max() > 0


def test_dynamic_height_and_width_are_pinned(tmp_path: Path) -> None:
    model = nhwc(small.convnet())
    for d, name in zip(model.graph.input[0].type.tensor_type.shape.dim[1:3], "hw", strict=True):
        d.ClearField("dim_value")
        d.dim_param = name
    with pytest.raises(Exception, match="--size"):
        export(model, tmp_path / "m.onnx")
    report = export(model, tmp_path / "m.onnx", size=12)
    assert (report.contract.image.height, report.contract.image.width) == (12, 12)


# -- outputs ---------------------------------------------------------------------------------------


def test_the_output_that_looks_like_scores_is_taken_unless_one_is_named(tmp_path: Path) -> None:
    model = small.convnet()
    features = helper.make_tensor_value_info("a", TensorProto.FLOAT, ["N", 4, 12, 12])
    flat = helper.make_tensor_value_info("f", TensorProto.FLOAT, ["N", 144])
    model.graph.output.insert(0, features)
    model.graph.output.append(flat)
    report = export(model, tmp_path / "m.onnx")
    assert report.contract.score.tensor == "logits"
    report = export(model, tmp_path / "m.onnx", output_name="f")
    assert (report.contract.score.tensor, report.contract.score.classes) == ("f", 144)
    with pytest.raises(OptionError, match="choose one of: a, logits, f"):
        export(model, tmp_path / "m.onnx", output_name="nothing")


# -- precision -------------------------------------------------------------------------------------


def half(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model, all in float16."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for tensor in result.graph.initializer:
        values = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for value in (*result.graph.input, *result.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    return result


def single(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same float16 model, all in float32."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for tensor in result.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for value in (*result.graph.input, *result.graph.output, *result.graph.value_info):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    return result


def test_float16_model(tmp_path: Path) -> None:
    """The interface stays float32; the scores are the float16 model's own."""
    model = half(small.convnet())
    report = export(model, tmp_path / "m.onnx", input="float32", maps="gradient")
    assert report.contract.precision == "float16"
    scores, _, gradient = run(cpu(tmp_path / "m.onnx"), images(3))
    assert scores.dtype == gradient.dtype == np.float32
    (own,) = cpu(model).run(None, {"input": images(3).astype(np.float16)})
    # ONNX Runtime computes in float32 here and rounds wherever it did not fuse the rounding away.
    np.testing.assert_allclose(scores, own, rtol=4e-3, atol=4e-3)
    full = run(exported(small.convnet(), tmp_path / "full.onnx"), images(3))
    assert np.linalg.norm(gradient - full[2]) < 0.01 * np.linalg.norm(full[2])


@pytest.mark.parametrize("kind", ["overlapping", "maximum"])
def test_maxima_of_a_float16_model(kind: str, tmp_path: Path) -> None:
    """ONNX Runtime hands a float16 tensor rounded to one reader and as it was to another."""
    model = small.convnet(size=25)
    pool = next(node for node in model.graph.node if node.op_type == "MaxPool")
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "v")
    values, count = numpy_helper.to_array(weights), 4 * 12 * 12
    if kind == "maximum":
        made = helper.make_node("ReduceMax", ["a"], ["p"], name="max", axes=[2, 3], keepdims=0)
        pool.CopyFrom(made)
        count = 4
    else:
        kernel = next(one for one in pool.attribute if one.name == "kernel_shape")
        kernel.ints[:] = [3, 3]
    weights.CopyFrom(numpy_helper.from_array(values[:, :count].copy(), "v"))
    image = np.random.default_rng(2).standard_normal((8, 3, 25, 25)).astype(np.float32)
    found = []
    for name, one in {"half": half(model), "full": model}.items():
        export(one, tmp_path / name, input="float32", maps="gradient", verify=False)
        found.append(run(cpu(tmp_path / name), image)[2])
    assert np.linalg.norm(found[0] - found[1]) < 0.06 * np.linalg.norm(found[1])


def test_a_float16_gradient_that_only_onnx_runtime_gets_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small.convnet(size=25)
    pool = next(node for node in model.graph.node if node.op_type == "MaxPool")
    next(one for one in pool.attribute if one.name == "kernel_shape").ints[:] = [3, 3]
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "v")
    values = numpy_helper.to_array(weights)[:, : 4 * 12 * 12].copy()
    weights.CopyFrom(numpy_helper.from_array(values, "v"))
    export(half(model), tmp_path / "m.onnx")
    monkeypatch.setattr(pooling, "HALF", frozenset())  # as if masks were compared in float16
    monkeypatch.setattr(pooling, "_lowest", lambda op: op.const(-65504.0, op.dtype))
    with pytest.raises(VerificationError, match="as ONNX Runtime rounds it"):
        export(half(model), tmp_path / "m.onnx")


class Calibration:
    """What onnxruntime's quantiser reads its ranges from."""

    def __init__(self) -> None:
        self.feeds = iter({"input": image[None]} for image in images(8, seed=1))

    def get_next(self) -> dict[str, Array] | None:
        return next(self.feeds, None)


def quantised(how: str, folder: Path) -> onnx.ModelProto:
    """A small classifier with a residual sum, an average and a Concat, quantised by onnxruntime."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnxruntime.quantization import QuantFormat, quantize_dynamic, quantize_static
    extra = [
        helper.make_node("Add", ["a", "c"], ["s"], name="sum"),
        helper.make_node("Concat", ["s", "a"], ["both"], name="both", axis=1),
        helper.make_node("AveragePool", ["both"], ["av"], name="av", kernel_shape=[1, 1]),
        helper.make_node("Slice", ["av", "from", "to", "along"], ["b"], name="half"),
    ]
    model = small.convnet(extra=extra)
    for name, value in {"from": 2, "to": 6, "along": 1}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array([value]), name))
    source, target = folder / "float.onnx", folder / f"{how}.onnx"
    onnx.save(model, source)
    logging.disable(logging.WARNING)  # it recommends its own pre-processing
    try:
        if how == "dynamic":
            quantize_dynamic(source, target)
        else:
            quantize_static(
                source, target, Calibration(), quant_format=QuantFormat[how],
                per_channel=how == "QDQ", extra_options={"ForceQuantizeNoInputCheck": True},
            )  # fmt: skip
    finally:
        logging.disable(logging.NOTSET)
    return onnx.load(target)


@pytest.mark.parametrize("how", ["QDQ", "QOperator", "dynamic"])
def test_int8_model(how: str, tmp_path: Path) -> None:
    """Differentiated straight through; the scores stay those of the int8 graph."""
    model = quantised(how, tmp_path)
    report = export(model, tmp_path / "m.onnx", input="float32", maps="gradient")
    verified = report.contract.verification
    assert verified is not None
    assert verified.relative_l2 < 0.05  # the float64 reference rounds a few values the other way
    assert report.contract.precision == "int8"
    scores, _, gradient = run(cpu(tmp_path / "m.onnx"), images(1))
    (own,) = cpu(model).run(None, {"input": images(1)})
    np.testing.assert_array_equal(scores, own)
    full = run(exported(onnx.load(tmp_path / "float.onnx"), tmp_path / "full.onnx"), images(1))
    cosine = np.vdot(gradient, full[2]) / np.linalg.norm(gradient) / np.linalg.norm(full[2])
    assert cosine > 0.9


def test_quantised_files_of_the_zoo(shared: Path, tmp_path: Path) -> None:
    """shufflenet-v2-12-int8 (QLinear operators, batch 1) and SqueezeNet_fp16, as they are."""
    rng = np.random.default_rng(0)
    coarse = rng.standard_normal((4, 3, 16, 16)).astype(np.float32)
    image = np.kron(coarse, np.ones((1, 1, 14, 14), np.float32))
    for name, precision in (("shufflenet-v2-12-int8", "int8"), ("SqueezeNet_fp16", "float16")):
        path = shared / "models" / f"{name}.onnx"
        report = export(path, tmp_path / "m.onnx", input="float32", maps="gradient")
        assert report.contract.precision == precision
        found, _, gradient = run(cpu(tmp_path / "m.onnx"), image)
        source = with_outputs(onnx.load(path), [report.contract.score.tensor])
        session = cpu(source)
        (given,) = session.get_inputs()
        kind = np.float16 if given.type == "tensor(float16)" else np.float32
        own = [session.run(None, {given.name: one[None].astype(kind)})[0] for one in image]
        own = np.concatenate(own).reshape(4, -1)
        if precision == "int8":
            np.testing.assert_array_equal(found, own)
        else:  # the batch of 4 sums in another order than the batch of 1
            np.testing.assert_allclose(found, own, rtol=2e-3, atol=2e-2)
            export(single(onnx.load(path)), tmp_path / "single.onnx", input="float32",
                   maps="gradient", verify=False)  # fmt: skip
            right = run(cpu(tmp_path / "single.onnx"), image)[2]
            cosine = (gradient * right).sum() / np.linalg.norm(gradient) / np.linalg.norm(right)
            assert cosine > 0.99
        assert np.isfinite(gradient).all()
        assert (np.abs(gradient).max((2, 3, 4)) > 0).all()


# -- size ------------------------------------------------------------------------------------------


def test_external_data_is_read_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is too large for one protobuf message lies beside the file, and the runtime reads it."""
    folder = tmp_path / "source"
    folder.mkdir()
    ir.save(ir.from_proto(small.convnet()), folder / "m.onnx", external_data="m.weights")
    assert (folder / "m.weights").is_file()
    export(folder / "m.onnx", tmp_path / "whole.onnx")
    monkeypatch.setattr(write, "LARGE", 1000)
    report = export(folder / "m.onnx", tmp_path / "parts.onnx")
    files = {"source", "whole.onnx", "parts.onnx", "parts.onnx.data"}
    assert {f.name for f in tmp_path.iterdir()} == files
    assert report.bytes == sum((tmp_path / f).stat().st_size for f in files if "parts" in f)
    picture = (images(1)[0] * 255).astype(np.uint8).transpose(1, 2, 0)
    one, other = (
        Session(tmp_path / f, providers=["cpu"]).saliency(picture)[0].maps
        for f in ("whole.onnx", "parts.onnx")
    )
    np.testing.assert_array_equal(one, other)
    changed = bytearray((folder / "m.weights").read_bytes())
    changed[100] ^= 1
    (folder / "m.weights").write_bytes(changed)
    again = export(folder / "m.onnx", tmp_path / "again.onnx")
    assert again.contract.source.sha256 != report.contract.source.sha256


def test_a_missing_weights_file_is_named(tmp_path: Path) -> None:
    ir.save(ir.from_proto(small.convnet()), tmp_path / "m.onnx", external_data="m.weights")
    (tmp_path / "m.weights").unlink()
    with pytest.raises(ModelError, match=r"m\.weights"):
        export(tmp_path / "m.onnx", tmp_path / "out.onnx")


# -- old and odd graphs ----------------------------------------------------------------------------


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 15, 18, 20, 21, 22, 23, 24, 25])
def test_opset(opset: int, tmp_path: Path) -> None:
    """Every opset from 7 on gives the same gradient."""
    model = small.convnet(end="Softmax", opset=opset)
    if opset < 9:  # initializers were inputs, too
        model.ir_version = 3
        for t in model.graph.initializer:
            value = helper.make_tensor_value_info(t.name, t.data_type, list(t.dims))
            model.graph.input.append(value)
    path = tmp_path / "m.onnx"
    export(model, path, input="float32", maps="gradient")
    newest = run(exported(small.convnet(), tmp_path / "new.onnx"), images(2))
    for ours, right in zip(run(cpu(path), images(2)), newest, strict=True):
        np.testing.assert_allclose(ours, right, rtol=1e-5, atol=1e-6)


def test_weights_from_constant_nodes_and_a_local_function(tmp_path: Path) -> None:
    model = small.convnet()
    constants = [
        helper.make_node("Constant", [], [t.name], name=f"make_{t.name}", value=t)
        for t in model.graph.initializer
    ]
    del model.graph.initializer[:]
    nodes = [*constants, *model.graph.node]
    for node in nodes:
        if node.op_type == "Relu":
            node.op_type, node.domain = "Rectify", "mine"
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    body = [helper.make_node("Relu", ["x"], ["y"])]
    opset = helper.make_opsetid("", 17)
    model.functions.append(helper.make_function("mine", "Rectify", ["x"], ["y"], body, [opset]))
    model.opset_import.append(helper.make_opsetid("mine", 1))
    plain = run(exported(small.convnet(), tmp_path / "plain.onnx"), images(2))
    for ours, right in zip(
        run(exported(model, tmp_path / "m.onnx"), images(2)), plain, strict=True
    ):
        np.testing.assert_array_equal(ours, right)


# -- differentiate ---------------------------------------------------------------------------------


def test_differentiate_a_model_over_the_limit_of_one_message() -> None:
    """An onnx_ir model is taken as it is, its weights uncopied."""
    made = differentiate(ir.from_proto(small.convnet()), output="logits", wrt="input")
    (score, gradient) = cpu(made).run(None, {"input": images(1)})
    assert gradient.shape == (1, 3, 12, 12)
    step = 1e-2 * gradient / np.linalg.norm(gradient)
    (ahead, _), (behind, _) = (
        cpu(made).run(None, {"input": images(1) + s * step}) for s in (1, -1)
    )
    slope = float(ahead.sum() - behind.sum()) / 0.02
    assert slope == pytest.approx(float(np.linalg.norm(gradient)), rel=0.02)
    assert json.dumps([o.name for o in made.graph.output]) == '["logits", "gradient"]'
    assert score.shape == (1, small.CLASSES)
