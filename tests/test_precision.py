"""Half precision: where it is, where it is not, and how far it is from float32."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from backlit.export import export
from backlit.export.cli.export import export as export_command
from backlit.export.graph.weights import detach, session
from backlit.export.precision.cut import FOREVER, Network
from backlit.export.precision.rounding import rounded
from backlit.runtime.errors import OptionError, VerificationError
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from support.architectures import SIZE, small
from support.real import NAMES, entry, options
from support.slow import some_slow
from support.small import CLASSES, convnet

from benchmarks.precision.cases import compare, dev_images

FLOAT, FLOAT16, BFLOAT16 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16
INT64 = TensorProto.INT64
SMOOTH = [helper.make_node("Tanh", ["c"], ["a"], name="tanh")]


def smooth() -> onnx.ModelProto:
    """A classifier without a kink: Conv, Tanh, Gemm."""
    model = convnet()
    kept = {n.name: n for n in model.graph.node}
    kept["flat"].input[0] = "a"
    weights = [t for t in model.graph.initializer if t.name != "v"]
    v = np.random.default_rng(1).standard_normal((CLASSES, 4 * 12 * 12)) * 0.1
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend([kept["conv"], *SMOOTH, kept["flat"], kept["head"]])
    model.graph.initializer.extend([*weights, numpy_helper.from_array(v.astype(np.float32), "v")])
    return model


def scaled(factor: float) -> onnx.ModelProto:
    """The small classifier, its last weights multiplied."""
    model = convnet()
    for tensor in model.graph.initializer:
        if tensor.name == "v":
            values = numpy_helper.to_array(tensor) * np.float32(factor)
            tensor.CopyFrom(numpy_helper.from_array(values, "v"))
    return model


def made(
    model: onnx.ModelProto, folder: Path, precision: Any = "mixed", check: bool = True
) -> tuple[Path, Path]:
    """The float32 file and the half-precision one."""
    files = folder / "single.onnx", folder / "half.onnx"
    for file, how in zip(files, (None, precision), strict=True):
        export(model, file, maps="gradient", precision=how, verify=check)
    return files


def types(path: Path) -> tuple[onnx.ModelProto, dict[str, int]]:
    """The model, and the type of every tensor by strict inference."""
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    graph = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    values = [*graph.value_info, *graph.input, *graph.output]
    found = {v.name: v.type.tensor_type.elem_type for v in values}
    return model, found | {t.name: t.data_type for t in graph.initializer}


def feed() -> dict[str, Any]:
    pixels = np.random.default_rng(3).integers(0, 256, (2, 12, 12, 3), dtype=np.uint8)
    return {"image": pixels, "class_index": np.array([[-1, 2], [0, -2]])}


def cosines(a: Any, b: Any) -> Any:
    a, b = (np.asarray(g, np.float64).reshape(4, -1) for g in (a, b))
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def gradient(path: Path, rounding: bool = False) -> Any:
    if rounding:
        engine = session(detach(rounded(ir.load(path))), optimise=False)
    else:
        engine = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return engine.run(["gradient"], feed())[0]


@pytest.mark.parametrize("precision", ["fp16", "mixed", "bf16"])
def test_interface_stays_float32_and_typing_is_strict(precision: str, tmp_path: Path) -> None:
    single, half = made(convnet(), tmp_path, precision)
    (plain, _), (model, kinds) = types(single), types(half)
    for side in ("input", "output"):
        want, got = (getattr(m.graph, side) for m in (plain, model))
        assert [v.SerializeToString() for v in got] == [v.SerializeToString() for v in want]
    long = {"fp16": "float16", "mixed": "float16", "bf16": "bfloat16"}[precision]
    narrow = {"float16": FLOAT16, "bfloat16": BFLOAT16}[long]
    products = [n for n in model.graph.node if n.op_type in ("Conv", "ConvTranspose", "Gemm")]
    backward = [n for n in products if n.name.startswith("backward/")]
    assert backward
    assert {kinds[n.output[0]] for n in backward} == {narrow}
    assert f'"precision": "{long}"' in model.metadata_props[0].value


def test_masks_and_what_they_depend_on_stay_float32(tmp_path: Path) -> None:
    model, kinds = types(made(convnet(), tmp_path)[1])
    producer = {y: n for n in model.graph.node for y in n.output}
    deciding = [n for n in model.graph.node if n.op_type in ("Equal", "HardSigmoid", "Greater")]
    stack = [x for n in deciding for x in n.input if kinds[x] in (FLOAT, FLOAT16)]
    assert len(stack) > 3
    seen: set[str] = set()
    while stack:
        name = stack.pop()
        assert kinds[name] != FLOAT16, name
        if name in producer and name not in seen:
            stack += producer[name].input
        seen.add(name)


def test_fp16_is_in_half_precision_whole(tmp_path: Path) -> None:
    model, kinds = types(made(convnet(), tmp_path, "fp16")[1])
    nodes = {kind: [n for n in model.graph.node if n.op_type == kind] for kind in ("Conv", "Gemm")}
    for node in (*nodes["Conv"], *nodes["Gemm"]):
        assert {kinds[x] for x in node.input} == {FLOAT16}, node.name
    masks = [n for n in model.graph.node if n.op_type in ("Greater", "Less")]
    assert {kinds[n.input[0]] for n in masks if n.name.startswith("backward/")} == {FLOAT16}
    assert not any(n.op_type == "HardSigmoid" for n in model.graph.node)  # beyond float16
    # What is compared for equality comes from one copy in float32.
    equal = [n for n in model.graph.node if n.op_type == "Equal" and kinds[n.input[0]] != INT64]
    assert equal
    assert {kinds[x] for n in equal for x in n.input} == {FLOAT}


@pytest.mark.slow
def test_layers_of_a_transformer_are_cast_nowhere(tmp_path: Path) -> None:
    files = tmp_path / "mixed.onnx", tmp_path / "whole.onnx"
    for file, precision in zip(files, ("mixed", "fp16"), strict=True):
        report = export(small("vit"), file, size=SIZE, precision=precision, verify=False)
        assert report.rounding is not None
        assert 0.999 < report.rounding.least <= report.rounding.cosine < 1
        assert 0 < report.rounding.scores < 1e-2
    casts = [sum(n.op_type == "Cast" for n in onnx.load(file).graph.node) for file in files]
    assert casts[1] < 20 < casts[0]
    model, kinds = types(files[1])
    for node in model.graph.node:
        if node.op_type in ("LayerNormalization", "Softmax", "ReduceMean", "MatMul", "Gelu"):
            assert kinds[node.output[0]] == FLOAT16, node.name


def test_smooth_classifier_is_half_precision_forward_too(tmp_path: Path) -> None:
    model, kinds = types(made(smooth(), tmp_path)[1])
    conv = next(n for n in model.graph.node if n.op_type == "Conv")
    assert {kinds[x] for x in conv.input} == {FLOAT16}


@pytest.mark.parametrize("precision", ["fp16", "mixed", "bf16"])
@pytest.mark.parametrize("source", [convnet, smooth])
def test_agrees_with_every_tensor_rounded(source: Any, precision: str, tmp_path: Path) -> None:
    single, half = made(source(), tmp_path, precision)
    exact, narrow = gradient(single), gradient(half, rounding=True)
    assert (cosines(exact, narrow) > 0.9995).all()
    assert np.abs(exact - narrow).max() > 0  # it was rounded
    assert np.abs(exact - narrow).max() < 2e-2 * np.abs(exact).max()


@pytest.mark.parametrize("source", [convnet, smooth])
def test_agrees_in_numpys_float16(source: Any, tmp_path: Path) -> None:
    single, half = made(source(), tmp_path)
    with np.errstate(over="ignore"):  # masks multiply by 3e38 in float32, and clamp
        (narrow,) = ReferenceEvaluator(onnx.load(half)).run(["gradient"], feed())
    assert narrow.dtype == np.float32
    assert (cosines(gradient(single), narrow) > 0.9995).all()


@pytest.mark.parametrize("factor", [1e-6, 1e4])
def test_tiny_and_huge_gradients_survive(factor: float, tmp_path: Path) -> None:
    single, half = made(scaled(factor), tmp_path, check=False)  # differences end at 1e-16 too
    exact, narrow = gradient(single), gradient(half, rounding=True)
    if factor < 1:
        assert np.abs(exact).max() < 2.0**-24  # nothing of it in float16, had it not been scaled
    assert np.isfinite(narrow).all()
    assert (cosines(exact, narrow) > 0.9995).all()


def test_gradients_beyond_float32_are_left_as_they_are(tmp_path: Path) -> None:
    model = convnet()
    for tensor in model.graph.initializer:
        if tensor.name in ("w", "v"):
            large = numpy_helper.to_array(tensor) * np.float32(1e25)
            tensor.CopyFrom(numpy_helper.from_array(large, tensor.name))
    report = export(model, tmp_path / "x.onnx", precision="fp16", verify=False)
    assert report.contract.precision == "float16"
    with pytest.raises(VerificationError, match="nothing was measured"):
        export(model, tmp_path / "y.onnx", precision="fp16")


def test_weights_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backlit.export.write.LARGE", 1000)
    (tmp_path / "large").mkdir()
    large = made(convnet(), tmp_path / "large")[1]
    monkeypatch.undo()
    (tmp_path / "whole").mkdir()
    whole = made(convnet(), tmp_path / "whole")[1]
    assert large.with_name("half.onnx.data").is_file()
    assert np.array_equal(gradient(large), gradient(whole))


def test_only_float32_classifiers_are_lowered(tmp_path: Path) -> None:
    model = convnet()
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = FLOAT16
    with pytest.raises(OptionError, match="computes in float16"):
        export(model, tmp_path / "made.onnx", precision="fp16")


def test_command_line(tmp_path: Path) -> None:
    onnx.save(convnet(), tmp_path / "plain.onnx")
    out = tmp_path / "half.onnx"
    args = [str(tmp_path / "plain.onnx"), "-o", str(out), "--precision", "fp16"]
    done = CliRunner().invoke(export_command, args, catch_exceptions=False)
    assert done.exit_code == 0
    assert "float16" in onnx.load(out).metadata_props[0].value
    assert "cosine of the maps" in " ".join(done.stderr.split())


def test_cut_is_the_cheapest_labelling() -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        names: list[str] = [Network.SOURCE, Network.SINK, *"abcde"]
        edges = [
            (str(a), str(b), int(rng.choice([1, 2, 5, FOREVER], p=[0.4, 0.3, 0.25, 0.05])))
            for a, b in itertools.permutations(names, 2)
            if rng.random() < 0.35 and a != Network.SINK and b != Network.SOURCE
        ]
        net = Network()
        for edge in edges:
            net.edge(*edge)
        costs = {}
        for size in range(6):
            for chosen in itertools.combinations("abcde", size):
                sink = {Network.SINK, *chosen}
                costs[frozenset(chosen)] = sum(
                    c for a, b, c in edges if a not in sink and b in sink
                )
        known = {n for a, b, _ in edges for n in (a, b)}
        found = frozenset(net.sink_side([n for n in "abcde" if n in known]))
        best = min(costs.values())
        assert costs[found] == best
        assert len(found) == min(len(s) for s, c in costs.items() if c == best)


@pytest.mark.parametrize("name", some_slow(NAMES, set(NAMES) - {"mobilenetv1_0.25_224_bn"}))
def test_real_classifiers_agree(name: str, shared: Path, tmp_path: Path) -> None:
    model, files = entry(shared, name), {}
    for precision in (None, "mixed", "fp16"):
        files[precision] = tmp_path / f"{precision}.onnx"
        export(
            shared / model["file"], files[precision], maps="gradient", precision=precision,
            verify=False, **options(model),
        )  # fmt: skip
    images = dev_images(shared)[::45]
    for precision, least in (("mixed", 0.999), ("fp16", 0.8)):
        found = compare(shared, files[None], files[precision], images, kernels=False)
        assert len(found.cosines) == len(images) > 6
        assert found.broken == 0
        assert np.median(found.cosines) >= least
        assert 0 < found.scores < 1e-2
        few = compare(shared, files[None], files[precision], images[:2], True)
        assert np.nanmin(few.cosines) >= least
