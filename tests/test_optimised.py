"""What ONNX Runtime's optimiser and quantiser write is taken apart into standard operators."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from backlit.export import differentiate
from backlit.export.graph.weights import detach
from backlit.export.prepare import normalise
from backlit.export.prepare.forms import FORMER, FORMS, MICROSOFT
from backlit.export.verify.reference import Evaluator
from onnx import TensorProto, helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from support.fused import CASES, FORMULAS, Array, Fused, draw, fused
from support.small import convnet
from torch import nn

from backlit import ModelError, UnsupportedOperatorError, export

# Where processors lack VNNI, these saturate, unless ONNX Runtime is told to be exact. Others fail
# then: of weights that two nodes share it adds a copy twice.
SATURATE = ("DynamicQuantizeMatMul", "MatMulIntegerToFloat", "QAttention")


def run(model: onnx.ModelProto, feed: dict[str, Array], exact: bool = False) -> Array:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if exact:
        options.add_session_config_entry("session.x64quantprecision", "1")
    session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return np.asarray(session.run(None, feed)[0])


def standard(model: onnx.ModelProto) -> onnx.ModelProto:
    made = normalise.modernise(ir.serde.deserialize_model(model))
    assert {node.domain for node in made.graph} <= {"", "ai.onnx"}
    return ir.serde.serialize_model(made)


@pytest.mark.parametrize("case", [c for c in CASES if c.runs], ids=lambda c: c.name)
def test_the_form_equals_onnx_runtimes_own_kernel(case: Fused) -> None:
    feed = {"x": case.inputs[0]}
    exact = case.op in SATURATE
    expected, found = (run(m, feed, exact) for m in (case.model(), standard(case.model())))
    assert found.dtype == expected.dtype
    if expected.dtype.kind == "f":
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)
    else:  # a step where two libraries round a tie
        assert np.abs(found.astype(int) - expected).max() <= 1
        assert np.mean(found != expected) < 0.02


@pytest.mark.parametrize("case", [c for c in CASES if not c.runs], ids=lambda c: c.name)
def test_the_form_equals_the_formula(case: Fused) -> None:
    expected = FORMULAS[case.op](case, *case.inputs)
    found = run(standard(case.model()), {"x": case.inputs[0]})
    step = 1 if expected.dtype.kind == "u" else 1e-5  # where a mean lies between two numbers
    np.testing.assert_allclose(found.astype(float), expected.astype(float), rtol=1e-4, atol=step)


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.inputs[0].dtype.kind == "f"], ids=lambda c: c.name
)
def test_its_gradient_equals_central_differences(case: Fused) -> None:
    x = case.inputs[0]
    made = differentiate(typed(case), seed="seed")
    evaluator = Evaluator(detach(ir.serde.deserialize_model(case.model())))
    evaluator.anchor({"x": x.astype(np.float64)})
    y = evaluator.run(None, {"x": x.astype(np.float64)})[0]
    seed, direction = draw(1, *y.shape, seed=8), draw(*x.shape, seed=9)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(made.SerializeToString(), options, ["CPUExecutionProvider"])
    (found,) = session.run(["gradient"], {"x": x, "seed": seed})
    step = 1e-6
    ahead, behind = (
        evaluator.run(None, {"x": x + sign * step * direction.astype(np.float64)})[0]
        for sign in (1, -1)
    )
    expected = ((ahead - behind) / (2 * step) * seed[0]).sum()
    np.testing.assert_allclose((found * direction).sum(), expected, rtol=2e-3, atol=2e-4)


def typed(case: Fused) -> onnx.ModelProto:
    """The case with its output declared as a float tensor, which a gradient is asked of."""
    model = case.model()
    name = model.graph.output[0].name
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return model


def test_every_form_has_a_case() -> None:
    """Those of ONNX's own domain and of the QDQ pair are in quantised models (test_wild.py)."""
    tried = {c.op for c in CASES}
    own = {op for domain, op in FORMS if domain in (MICROSOFT, FORMER)}
    in_models = {"QGemm", "QLinearConcat", "QuantizeLinear", "DequantizeLinear", "QLinearWhere"}
    assert own - tried - in_models == {"RMSNormalization"}


class Attention(nn.Module):
    """As timm writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(n, tokens, 3, 2, 8).permute(2, 0, 3, 1, 4)
        seen = ((q * 8**-0.5) @ k.transpose(-2, -1)).softmax(-1) @ v
        made: torch.Tensor = self.out(seen.transpose(1, 2).reshape(n, tokens, width))
        return made


class Transformer(nn.Module):
    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, 16, 4, 4), nn.Linear(16, 5)
        self.norms = nn.ModuleList(nn.LayerNorm(16) for _ in range(5))
        self.attend = nn.ModuleList(Attention() for _ in range(2))
        wide = (nn.Sequential(nn.Linear(16, 32), activation, nn.Linear(32, 16)) for _ in range(2))
        self.wide = nn.ModuleList(wide)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        for i in range(2):
            x = x + self.attend[i](self.norms[2 * i](x))
            x = x + self.wide[i](self.norms[2 * i + 1](x))
        scores: torch.Tensor = self.head(self.norms[4](x).mean(1))
        return scores


class Convolutional(nn.Module):
    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.first, self.act = nn.Conv2d(3, 8, 3, padding=1), activation
        self.second, self.head = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.first(x))
        x = self.act(x + self.second(x))
        scores: torch.Tensor = self.head(x.mean((2, 3)))
        return scores


def written(module: nn.Module, path: Path) -> Path:
    """By torch's TorchScript exporter, whose patterns ONNX Runtime's fusions were made for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(), (torch.zeros(1, 3, 16, 16),), str(path), opset_version=17,
            dynamo=False, dynamic_axes={"x": {0: "N"}}, input_names=["x"],
        )  # fmt: skip
    return path


def optimised(path: Path, level: str) -> Path:
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
    options.optimized_model_filepath = str(path.with_suffix(f".{level}.onnx"))
    options.log_severity_level = 4
    ort.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    return path.with_suffix(f".{level}.onnx")


def operators(path: Path) -> set[str]:
    return {f"{n.domain}::{n.op_type}" for n in onnx.load(path).graph.node if n.domain}


NETWORKS = {
    "relu": (lambda: Convolutional(nn.ReLU()), {"FusedConv"}),
    "leaky": (lambda: Convolutional(nn.LeakyReLU(0.1)), {"FusedConv"}),
    "relu6": (lambda: Convolutional(nn.ReLU6()), {"FusedConv"}),
    "silu": (lambda: Convolutional(nn.SiLU()), {"QuickGelu"}),
    "gelu": (lambda: Transformer(nn.GELU()), {"FusedMatMul", "SkipLayerNormalization", "BiasGelu"}),
    "tanh": (lambda: Transformer(nn.GELU("tanh")), {"FusedMatMul", "SkipLayerNormalization"}),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_file_that_the_optimiser_wrote_exports(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, expected = NETWORKS[name]
    path = optimised(written(module(), tmp_path / "net.onnx"), "EXTENDED")
    assert {f"com.microsoft::{op}" for op in expected} & operators(path)
    report = export(path, tmp_path / "out.backlit.onnx")
    assert report.contract.verification is not None
    assert report.contract.verification.scores_relative < 1e-5
    assert operators(tmp_path / "out.backlit.onnx") == set()


def test_a_file_for_one_processor_is_refused(tmp_path: Path) -> None:
    """Its weights are in blocks, of 8 or 16 channels, as that processor has them."""
    torch.manual_seed(0)
    path = optimised(written(Convolutional(nn.ReLU()), tmp_path / "net.onnx"), "ALL")
    if "com.microsoft.nchwc::Conv" not in operators(path):
        pytest.skip("this processor has no blocked convolutions")
    with pytest.raises(ModelError, match=r"com\.microsoft.nchwc::Conv") as error:
        export(path, tmp_path / "out.backlit.onnx")
    assert "before ONNX Runtime's optimiser" in error.value.fix
    assert "ORT_ENABLE_EXTENDED" in error.value.fix


class Images(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.left = [{"x": rng.standard_normal((1, 3, 16, 16), np.float32)} for _ in range(3)]

    def get_next(self) -> dict[str, Array] | None:
        return self.left.pop() if self.left else None


@pytest.mark.parametrize("level", ["EXTENDED", "ALL"])
@pytest.mark.parametrize("how", ["QDQ", "QOperator", "dynamic"])
def test_a_quantised_file_that_the_optimiser_wrote_exports(
    how: str, level: str, tmp_path: Path
) -> None:
    """Slopes of LeakyReLU count: of quantised numbers many are 0, where it has its kink."""
    torch.manual_seed(0)
    path = written(Convolutional(nn.LeakyReLU(0.1)), tmp_path / "net.onnx")
    quantised = tmp_path / "quantised.onnx"
    if how == "dynamic":
        quantize_dynamic(path, quantised, weight_type=QuantType.QUInt8)
    else:
        quantize_static(path, quantised, Images(), quant_format=getattr(QuantFormat, how))
    made = optimised(quantised, level)
    assert operators(made)
    report = export(made, tmp_path / "out.backlit.onnx")
    assert report.contract.precision == "int8"
    assert operators(tmp_path / "out.backlit.onnx") == set()


@pytest.mark.parametrize(
    "case",
    [
        fused("Attention", draw(2, 5, 8), draw(8, 24), draw(24), num_heads=2, unidirectional=1),
        fused("FusedConv", draw(2, 3, 7, 6), draw(4, 3, 3, 3), activation="Wave"),
        fused(
            "Attention", draw(2, 5, 8), draw(8, 24), draw(24), np.array([3, 4], np.int32),
            num_heads=2,
        ),
        fused("SkipLayerNormalization", draw(2, 5, 8), draw(2, 5, 8), draw(8), outputs=2, use=1),
    ],
    ids=lambda c: c.name,
)  # fmt: skip
def test_other_forms_are_refused_with_the_way_out(case: Fused) -> None:
    with pytest.raises(ModelError, match=r"com\.microsoft::") as error:
        differentiate(typed(case))
    assert "before ONNX Runtime's optimiser" in error.value.fix


def test_other_operators_of_onnx_runtime_name_the_way_out(tmp_path: Path) -> None:
    node = helper.make_node("CDist", ["a", "a"], ["b"], name="own", domain=MICROSOFT)
    model = convnet(extra=[node])
    model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
    onnx.save(model, tmp_path / "own.onnx")
    with pytest.raises(UnsupportedOperatorError, match=r"com\.microsoft::CDist") as error:
        export(tmp_path / "own.onnx", tmp_path / "out.backlit.onnx")
    assert "before its optimiser" in error.value.fix
