"""The ReLU rules of the paper's section 4: by hand, against torch's hooks, and verified."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from backlit.export import differentiate, export
from backlit.export.cli.export import export as export_command
from backlit.export.cli.export import verify as verify_command
from backlit.export.graph.rewrites import REWRITES
from backlit.export.graph.weights import detach, session
from backlit.export.precision.rounding import rounded
from backlit.export.rules import relu as rules
from backlit.export.sources.torch_export import quiet
from backlit.export.verify.verify import verify
from backlit.runtime import Session
from backlit.runtime.cli import main
from backlit.runtime.errors import OptionError, VerificationError
from click.testing import CliRunner
from support import zoo
from support.reference import evaluator
from support.slow import some_slow
from support.small import convnet
from torch import nn
from torch.nn import functional as F

RULES = ["deconvnet", "guided"]
VARIANTS: list[dict[str, Any]] = [
    {}, {"target": "openvino"}, {"without": list(REWRITES)},
    {"target": "openvino", "without": list(REWRITES)},
    *({"without": [name]} for name in REWRITES),
    {"target": "openvino", "without": ["separable-pool"]},
]  # fmt: skip


def model(body: str, shape: str) -> onnx.ModelProto:
    """A graph from x to y, both [N, shape]."""
    return onnx.parser.parse_model(
        f'<ir_version: 9, opset_import: ["" : 20]> net (float[N, {shape}] x) => (float[N, M] y)'
        f"{body}"
    )


def gradients(made: onnx.ModelProto, x: Any, seeds: Any) -> Any:
    """In ONNX Runtime: the gradient for each seed."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    runs = ort.InferenceSession(made.SerializeToString(), options, ["CPUExecutionProvider"])
    x, seeds = np.asarray(x, np.float32), np.asarray(seeds, np.float32)
    name = runs.get_inputs()[0].name
    return runs.run(["gradient"], {name: x, "seed": seeds})[0]


X = [[-2.0, -2.0, -1.0, 1.0, 1.0, 3.0, 9.0, 9.0]]
G = [[[-4.0, 4.0, 0.0, -4.0, 4.0, 8.0, 4.0, -4.0]], [[1.0, -1.0, 2.0, 1.0, -2.0, 0.5, -1.0, 3.0]]]
RELU = {
    "gradient": [[0, 0, 0, -4, 4, 8, 4, -4], [0, 0, 0, 1, -2, 0.5, -1, 3]],
    "deconvnet": [[0, 4, 0, 0, 4, 8, 4, 0], [1, 0, 2, 1, 0, 0.5, 0, 3]],
    "guided": [[0, 0, 0, 0, 4, 8, 4, 0], [0, 0, 0, 1, 0, 0.5, 0, 3]],
}
RELU6 = {
    "gradient": [[0, 0, 0, -4, 4, 8, 0, 0], [0, 0, 0, 1, -2, 0.5, 0, 0]],
    "deconvnet": [[0, 4, 0, 0, 4, 8, 0, 0], [1, 0, 2, 1, 0, 0.5, 0, 0]],
    "guided": [[0, 0, 0, 0, 4, 8, 0, 0], [0, 0, 0, 1, 0, 0.5, 0, 0]],
}
LEAKY = {  # a slope of 1/4 where the test fails, 1/16 where both do
    "gradient": [[-1, 1, 0, -4, 4, 8, 4, -4], [0.25, -0.25, 0.5, 1, -2, 0.5, -1, 3]],
    "deconvnet": [[-1, 4, 0, -1, 4, 8, 4, -1], [1, -0.25, 2, 1, -0.5, 0.5, -0.25, 3]],
    "guided": [[-0.25, 1, 0, -1, 4, 8, 4, -1], [0.25, -0.0625, 0.5, 1, -0.5, 0.5, -0.25, 3]],
}
THRESHOLDED = {  # x > 2
    "gradient": [[0, 0, 0, 0, 0, 8, 4, -4], [0, 0, 0, 0, 0, 0.5, -1, 3]],
    "deconvnet": RELU["deconvnet"],
    "guided": [[0, 0, 0, 0, 0, 8, 4, 0], [0, 0, 0, 0, 0, 0.5, 0, 3]],
}
LAYERS = {
    "Relu": ("{ y = Relu (x) }", RELU),
    "Relu after Relu": ("{ a = Relu (x)\n y = Relu (a) }", RELU),
    "Clip(0)": ("<float z = {0}> { y = Clip (x, z) }", RELU),
    "Max(x, 0)": ("<float z = {0}> { y = Max (x, z) }", RELU),
    "Max(0, x)": ("<float[1] z = {0}> { y = Max (z, x) }", RELU),
    "Clip(0, 6)": ("<float z = {0}, float s = {6}> { y = Clip (x, z, s) }", RELU6),
    "LeakyRelu": ("{ y = LeakyRelu <alpha = 0.25> (x) }", LEAKY),
    "PRelu": ("<float[1] s = {0.25}> { y = PRelu (x, s) }", LEAKY),
    "ThresholdedRelu": ("{ y = ThresholdedRelu <alpha = 2.0> (x) }", THRESHOLDED),
}


@pytest.mark.parametrize("rule", ["gradient", *RULES])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_by_hand(name: str, rule: Any) -> None:
    body, expected = LAYERS[name]
    for how in VARIANTS[:4]:
        made = differentiate(model(body, "8"), seed="seed", relu=rule, **how)
        np.testing.assert_array_equal(gradients(made, X, G)[:, 0], expected[rule], err_msg=str(how))


def test_prelu_has_a_slope_per_channel() -> None:
    net = model("<float[2, 1, 1] s = {0.5, -2}> { a = PRelu (x, s)\n y = Flatten (a) }", "2, 1, 2")
    x, seed = [[[[-1, 1]], [[-1, 1]]]], [[[3, -3, 3, -3]], [[-3, 3, -3, 3]]]
    for how in VARIANTS[:4]:
        for rule, right in {
            "deconvnet": [[[3, -1.5], [3, 6]], [[-1.5, 3], [6, 3]]],
            "guided": [[[1.5, -1.5], [-6, 6]], [[-0.75, 3], [-12, 3]]],
        }.items():
            made = differentiate(net, seed="seed", relu=rule, **how)  # type: ignore[arg-type]
            np.testing.assert_array_equal(gradients(made, x, seed)[:, 0, :, 0], right)


def test_the_sum_of_gradients_is_tested_where_a_relu_is_shared() -> None:
    """A ReLU read twice sees one gradient, 1 - 3 or 3 - 1; two ReLUs of one tensor see one each."""
    shared = "<float[2] w = {3, 1}> { a = Relu (x)\n b = Mul (a, w)\n y = Sub (a, b) }"
    x, seeds = [[1.0, -1.0]], [[[1.0, 1.0]], [[-1.0, 1.0]]]
    for how in VARIANTS[:4]:
        made = differentiate(model(shared, "2"), seed="seed", relu="guided", **how)
        np.testing.assert_array_equal(gradients(made, x, seeds)[:, 0], [[0, 0], [2, 0]])
        residual = "{ a = Relu (x)\n b = Neg (a)\n c = Relu (b)\n y = Add (x, c) }"
        made = differentiate(model(residual, "2"), seed="seed", relu="deconvnet", **how)
        # seed 1: the branch sends back relu(-relu(1)) = 0, the skip 1; seed -1: nothing, and -1.
        np.testing.assert_array_equal(gradients(made, x, seeds)[:, 0], [[1, 1], [-1, 1]])


def test_pooling_routes_before_the_gradient_is_tested() -> None:
    """Both windows of 3 have their maximum in the middle: 5 - 2 arrives there, and is positive."""
    pooled = """{ r = Relu (x)
        p = MaxPool <kernel_shape = [3], strides = [2]> (r)
        y = Flatten (p) }"""
    x = [[[1.0, -1.0, 4.0, -2.0, 3.0]], [[-1.0, -1.0, -3.0, -1.0, -2.0]]]
    seeds = [[[5.0, -2.0], [5.0, -2.0]], [[-5.0, 2.0], [-5.0, 2.0]]]
    right = {  # second image: all ReLUs are off, each window's first element is its maximum
        "gradient": [[[0, 0, 3, 0, 0], [0] * 5], [[0, 0, -3, 0, 0], [0] * 5]],
        "deconvnet": [[[0, 0, 3, 0, 0], [5, 0, 0, 0, 0]], [[0] * 5, [0, 0, 2, 0, 0]]],
        "guided": [[[0, 0, 3, 0, 0], [0] * 5], [[0] * 5, [0] * 5]],
    }
    for how in VARIANTS:
        for rule, expected in right.items():
            net = model(pooled, "1, 5")
            made = differentiate(net, seed="seed", relu=rule, **how)  # type: ignore[arg-type]
            np.testing.assert_array_equal(gradients(made, x, seeds)[:, :, 0], expected, str(how))


def test_smooth_activations_keep_their_derivative() -> None:
    smooth = """<float three = {3}, float zero = {0}, float six = {6}, float low = {-1}> {
        a = Elu (x)
        b = Gelu (a)
        c = HardSwish (b)
        d = Clip (c, low, six)
        e = Add (d, three)
        f = Clip (e, zero, six)
        y = Mul (d, f)
    }"""
    with pytest.raises(OptionError, match="there is no ReLU on the way"):
        differentiate(model(smooth, "4"), relu="guided")
    first = smooth.replace("Elu (x)", "Elu (x0)").replace(" {\n", " { x0 = Relu (x)\n", 1)
    rng = np.random.default_rng(0)
    x, seeds = rng.normal(1, 1, (3, 4)), rng.standard_normal((1, 3, 4))
    true, tested = (
        gradients(differentiate(model(first, "4"), seed="seed", relu=rule), x, seeds)
        for rule in ("gradient", "guided")
    )
    assert (true < 0).any()
    np.testing.assert_allclose(tested, np.maximum(true, 0), rtol=1e-6)


def hooked(module: nn.Module, rule: str) -> nn.Module:
    """Give every rectifier of a torch module the rule by a backward hook."""

    def remember(layer: Any, given: Any, made: Any) -> None:
        layer.on = given[0].detach() < 6

    def hook(layer: Any, into: Any, out: Any) -> Any:
        g = into[0] if rule == "guided" else out[0]
        if isinstance(layer, nn.LeakyReLU):
            return (F.leaky_relu(g, layer.negative_slope),)
        if isinstance(layer, nn.PReLU):
            return (F.prelu(g, layer.weight.detach()),)
        return (g.clamp(min=0) * layer.on if isinstance(layer, nn.ReLU6) else g.clamp(min=0),)

    for layer in module.modules():
        if isinstance(layer, nn.ReLU | nn.ReLU6 | nn.LeakyReLU | nn.PReLU):
            layer.inplace = False
            layer.register_forward_hook(remember)
            layer.register_full_backward_hook(hook)
    return module


def by_torch(module: nn.Module, image: Any, seeds: Any) -> Any:
    x = torch.tensor(image, requires_grad=True)
    scores = module(x)
    return np.stack([
        torch.autograd.grad(scores, x, torch.tensor(seed), retain_graph=True)[0].numpy()
        for seed in seeds
    ])  # fmt: skip


def distance(found: Any, right: Any) -> float:
    return float(np.linalg.norm(found - right) / np.linalg.norm(right))


class Residual(nn.Module):
    """One ReLU module used twice, as in ResNet, and every other rectifier."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 6, 3, padding=1)
        self.third, self.fourth = nn.Conv2d(6, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.relu, self.pool = nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        self.six, self.leaky, self.slopes = nn.ReLU6(), nn.LeakyReLU(0.2), nn.PReLU(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Any) -> Any:
        a = self.relu(self.first(3 * x))
        b = self.pool(self.relu(self.second(a) + a))
        c = self.six(4 * self.third(b))
        d = F.silu(self.slopes(self.fourth(c)) + self.leaky(c - 2))
        return self.head(d.mean((2, 3)))


@pytest.mark.parametrize("rule", RULES)
def test_every_rewrite_and_target_equals_hooks(rule: Any) -> None:
    torch.manual_seed(0)
    net = Residual().eval()
    single = traced(net, 22)
    rng = np.random.default_rng(0)
    image, seeds = rng.standard_normal((2, 3, 22, 22)), rng.standard_normal((3, 2, 5))
    net = net.double()
    wide = traced(net, 22)
    plain = by_torch(net, image, seeds)
    right = by_torch(hooked(net, rule), image, seeds)
    assert distance(plain, right) > 0.1
    for how in VARIANTS:
        made = differentiate(wide, seed="seed", relu=rule, **how)
        found = evaluator(made).run(["gradient"], {"input": image, "seed": seeds})[0]
        assert distance(found, right) < 1e-7, how  # slopes are float32 attributes
        made = differentiate(single, seed="seed", relu=rule, **how)
        assert distance(gradients(made, image, seeds), right) < 1e-4, how


@pytest.mark.parametrize(
    ("name", "exact"),
    some_slow(
        [("resnet18", True), ("squeezenet1_1", True), ("mobilenet_v2", False),
         ("shufflenet_v2_x0_5", False), ("mnasnet0_5", False)],
        {"resnet18", "mobilenet_v2", "shufflenet_v2_x0_5"},
    ),
)  # fmt: skip
def test_networks_equal_hooks(name: str, exact: bool) -> None:
    """Float32 in ONNX Runtime; and where its convolutions are fast, float64 in the evaluator."""
    size, net = 33, zoo.classifier(name, size=64)
    rng = np.random.default_rng(0)
    image, seeds = rng.standard_normal((1, 3, size, size)), rng.standard_normal((2, 1, 1000))
    image, seeds = (v.astype(np.float32).astype(np.float64) for v in (image, seeds))
    single, wide = traced(net, size), copy.deepcopy(net).double()
    for rule in RULES:
        right = by_torch(hooked(copy.deepcopy(wide), rule), image, seeds)
        for target in ("portable", "openvino"):
            made = differentiate(single, seed="seed", relu=rule, target=target)  # type: ignore[arg-type]
            assert distance(gradients(made, image, seeds), right) < 1e-4
        if exact:
            made = differentiate(traced(wide, size), seed="seed", relu=rule)  # type: ignore[arg-type]
            feed = {"input": image, "seed": seeds}
            (found,) = evaluator(made).run(["gradient"], feed)
            assert distance(found, right) < 1e-9


def traced(net: nn.Module, size: int) -> onnx.ModelProto:
    """By PyTorch's old exporter: a second where the other takes six."""
    example = torch.zeros(1, 3, size, size, dtype=next(net.parameters()).dtype)
    with quiet():
        torch.onnx.export(
            copy.deepcopy(net), (example,), file := io.BytesIO(), dynamo=False, opset_version=20,
            input_names=["input"], dynamic_axes={"input": {0: "N"}},
        )  # fmt: skip
    return onnx.load_from_string(file.getvalue())


LEAKY_NODE = onnx.helper.make_node("LeakyRelu", ["a0"], ["b"], name="leaky", alpha=0.3)
EXTRA = [onnx.helper.make_node("Sub", ["a", "wb0"], ["a0"], name="sub"), LEAKY_NODE]


def leaky() -> onnx.ModelProto:
    """The small classifier, with a LeakyRelu after its Relu."""
    made = convnet(extra=EXTRA)
    shift = onnx.numpy_helper.from_array(np.float32(0.2), "wb0")
    made.graph.initializer.append(shift)
    return made


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("how", [{}, {"target": "openvino"}, {"precision": "mixed"}], ids=str)
@pytest.mark.parametrize("source", [convnet, leaky])
def test_files_are_verified_against_the_rule(
    source: Any, how: Any, rule: Any, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    report = export(source(), path, maps=["saliency", "gradient"], relu=rule, **how)
    assert report.refused == ()
    checked = report.contract.verification
    assert checked is not None
    assert "held" in checked.reference
    assert checked.relative_l2 < (2e-2 if "precision" in how else 1e-5)
    runs = Session(path, "cpu")
    assert runs.contract.relu == rule
    assert f"by the {rule} rule" in runs.contract.maps[0].definition


@pytest.mark.parametrize("rule", RULES)
def test_half_precision_keeps_the_signs(rule: Any, tmp_path: Path) -> None:
    """The seed is scaled by a power of two: the test on the gradient must not see that."""
    tiny = leaky()
    for tensor in tiny.graph.initializer:
        if tensor.name == "v":  # gradients far below what float16 holds
            values = onnx.numpy_helper.to_array(tensor) * np.float32(1e-7)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, "v"))
    feed = {
        "image": np.random.default_rng(3).integers(0, 256, (2, 12, 12, 3), dtype=np.uint8),
        "class_index": np.array([[-1, 2], [0, -2]]),
    }
    found = []
    for precision in (None, "mixed"):
        path = tmp_path / f"{precision}.onnx"
        export(tiny, path, maps="gradient", relu=rule, precision=precision)  # type: ignore[arg-type]
        engine = session(detach(rounded(ir.load(path))), optimise=False)
        found.append(engine.run(["gradient"], feed)[0].astype(np.float64))
    single, half = found
    assert 0 < np.abs(single).max() < 1e-6
    assert distance(half, single) < 2e-3
    kinds = {n.op_type for n in onnx.load(tmp_path / "mixed.onnx").graph.node if "back" in n.name}
    assert {"Relu", "LeakyRelu"} <= kinds


def test_verification_finds_a_wrong_rule(tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "model.onnx"
    for test in ("_positive", "_slope"):
        with monkeypatch.context() as patch:
            if test == "_positive":
                patch.setattr(rules, test, lambda op, g: g)
            else:
                patch.setattr(rules, test, lambda op, node, below: op.const(1.0))
            with pytest.raises(VerificationError, match="held to the slopes"):
                export(leaky(), path, relu="guided")
    assert not path.exists()
    export(leaky(), path, relu="guided", maps="gradient")
    made, contract = ir.load(path), Session(path, "cpu").contract
    source = ir.serde.deserialize_model(leaky())
    assert verify(made, source, None, contract).relative_l2 < 1e-5
    with pytest.raises(VerificationError, match="held to the slopes"):
        verify(made, source, None, dataclasses.replace(contract, relu="deconvnet"))


def test_command_line(tmp_path: Path) -> None:
    source, path = tmp_path / "small.onnx", tmp_path / "small.backlit.onnx"
    onnx.save(convnet(end="Softmax"), source)
    run = CliRunner().invoke
    assert run(export_command, [str(source), "-o", str(path), "--relu", "guided"]).exit_code == 0
    assert "ReLU rule guided" in run(main, ["info", str(path)]).output
    result = run(verify_command, [str(path), str(source)])
    assert result.exit_code == 0, result.output
    assert "held" in json.loads(result.stdout)["reference"]
    assert run(export_command, [str(source), "-o", str(path), "--relu", "x"]).exit_code == 2


def test_errors(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    with pytest.raises(OptionError, match="gradient, deconvnet, guided"):
        export(convnet(), path, relu="zeiler")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="before quantisation"):
        export(quantise(convnet()), path, relu="guided")
    assert not list(tmp_path.iterdir())


def quantise(plain: onnx.ModelProto) -> onnx.ModelProto:
    """Round the output of the Relu to uint8 and back."""
    scale, zero = ((np.float32(0.05), "scale"), (np.uint8(0), "zero"))
    plain.graph.initializer.extend(onnx.numpy_helper.from_array(*v) for v in (scale, zero))
    pool = next(n for n in plain.graph.node if n.op_type == "MaxPool")
    pool.input[0] = "dq"
    place = list(plain.graph.node).index(pool)
    nodes = [
        onnx.helper.make_node("QuantizeLinear", ["a", "scale", "zero"], ["q"], name="q"),
        onnx.helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["dq"], name="dq"),
    ]
    for offset, node in enumerate(nodes):
        plain.graph.node.insert(place + offset, node)
    return plain
