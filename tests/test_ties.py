"""At kinks and ties a gradient is a choice; Backlit's is PyTorch's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from backlit.export import differentiate
from cases import Array, Case, case
from onnx.reference import ReferenceEvaluator
from torch.nn import functional as F


def gradient(tied: Case, feed: dict[str, Array], wrt: str = "x") -> tuple[Array, Array]:
    """Backlit's gradient of the weighted sum of the outputs, and the weights."""
    output = np.asarray(ReferenceEvaluator(tied.model()).run(None, feed)[0])
    seed = np.random.default_rng(1).standard_normal((1, *output.shape))
    made = differentiate(tied.model(), wrt=wrt, seed="seed")
    return np.asarray(ReferenceEvaluator(made).run(None, feed | {"seed": seed})[1])[0], seed[0]


KINKS = np.array([[-6.0, -3.0, -2.5, -1.0, -0.0, 0.0, 1.0, 1.5, 2.5, 3.0, 6.0, 7.0]])


@pytest.mark.parametrize(
    ("tied", "reference"),
    [
        (case("Relu", (1, 12)), F.relu),
        (case("LeakyRelu", (1, 12), alpha=0.1), lambda x: F.leaky_relu(x, 0.1)),
        (case("ThresholdedRelu", (1, 12), alpha=1.0), lambda x: F.threshold(x, 1.0, 0.0)),
        (case("Clip", (1, 12), np.array(-1.0), np.array(1.5)), lambda x: torch.clamp(x, -1.0, 1.5)),
        (case("Clip", (1, 12), np.array(0.0), np.array(6.0)), F.relu6),
        (case("Elu", (1, 12), alpha=0.7), lambda x: F.elu(x, 0.7)),
        (case("Celu", (1, 12), alpha=0.7), lambda x: F.celu(x, 0.7)),
        (case("Selu", (1, 12)), F.selu),
        (case("Abs", (1, 12)), torch.abs),
        (case("HardSigmoid", (1, 12), alpha=1 / 6, beta=0.5), F.hardsigmoid),
        (case("HardSwish", (1, 12)), F.hardswish),
        (case("Shrink", (1, 12), lambd=1.5, bias=1.5), lambda x: F.softshrink(x, 1.5)),
        (case("Shrink", (1, 12), lambd=1.5, bias=0.0), lambda x: F.hardshrink(x, 1.5)),
        (case("Mish", (1, 12)), F.mish),
    ],
    ids=lambda v: v.name if isinstance(v, Case) else "",
)
def test_kinks_of_elementwise_functions(
    tied: Case, reference: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    found, seed = gradient(tied, {"x": KINKS})
    x = torch.tensor(KINKS, requires_grad=True)
    reference(x).backward(torch.tensor(seed))
    np.testing.assert_allclose(found, x.grad.numpy(), rtol=1e-6, atol=1e-12)


WIDE = np.linspace(-6, 6, 97)[None] + 0.01


@pytest.mark.parametrize(
    ("smooth", "reference"),
    [
        (case("Gelu", (1, 97)), F.gelu),
        (case("Gelu", (1, 97), approximate="tanh"), lambda x: F.gelu(x, approximate="tanh")),
        (case("Erf", (1, 97)), torch.erf),
        (case("Sigmoid", (1, 97)), torch.sigmoid),
        (case("Tanh", (1, 97)), torch.tanh),
        (case("Softplus", (1, 97)), F.softplus),
        (case("Softsign", (1, 97)), F.softsign),
        (case("Mish", (1, 97)), F.mish),
        (case("Elu", (1, 97), alpha=0.7), lambda x: F.elu(x, 0.7)),
        (case("Celu", (1, 97), alpha=0.7), lambda x: F.celu(x, 0.7)),
        (case("Selu", (1, 97)), F.selu),
        (case("HardSwish", (1, 97)), F.hardswish),
        (case("LeakyRelu", (1, 97)), F.leaky_relu),
    ],
    ids=lambda v: v.name if isinstance(v, Case) else "",
)
def test_smooth_functions_far_from_zero(
    smooth: Case, reference: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    """In float64: an approximation, or a constant of few digits, is another function."""
    found, seed = gradient(smooth, {"x": WIDE})
    x = torch.tensor(WIDE, requires_grad=True)
    reference(x).backward(torch.tensor(seed))
    np.testing.assert_allclose(found, x.grad.numpy(), rtol=2e-6, atol=1e-7)  # its Erf: 1e-8


def integers(shape: tuple[int, ...]) -> Array:
    """Few different values, so nearly every window has a tie."""
    return np.random.default_rng(2).integers(0, 3, shape).astype(np.float64)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "ceil"),
    [(2, 2, 0, 1, False), (3, 2, 1, 1, False), (3, 1, 1, 1, False), (3, 2, 0, 1, True),
     (2, 3, 1, 1, False), (3, 2, 1, 2, False), (3, 2, 1, 1, True)],
)  # fmt: skip
def test_max_pool_routes_to_the_first_maximum(
    kernel: int, stride: int, padding: int, dilation: int, ceil: bool
) -> None:
    values = integers((2, 3, 9, 8))
    tied = case(
        "MaxPool", values.shape, kernel_shape=[kernel] * 2, strides=[stride] * 2,
        pads=[padding] * 4, dilations=[dilation] * 2, ceil_mode=int(ceil),
    )  # fmt: skip
    x = torch.tensor(values, requires_grad=True)
    y = F.max_pool2d(x, kernel, stride, padding, dilation, ceil)
    seed = np.random.default_rng(1).standard_normal((1, *y.shape))
    y.backward(torch.tensor(seed[0]))
    made = differentiate(tied.model(np.float32), seed="seed")
    found = run(made, {"x": values.astype(np.float32), "seed": seed.astype(np.float32)})
    np.testing.assert_allclose(found[0], x.grad.numpy(), rtol=1e-5, atol=1e-6)


def test_global_max_pool_routes_to_the_first_maximum() -> None:
    values = integers((2, 3, 5, 4))
    found, seed = gradient(case("GlobalMaxPool", values.shape), {"x": values})
    x = torch.tensor(values, requires_grad=True)
    F.adaptive_max_pool2d(x, 1).backward(torch.tensor(seed))
    np.testing.assert_array_equal(found, x.grad.numpy())


@pytest.mark.parametrize("op", ["Max", "Min"])
def test_elementwise_extrema_share_ties_evenly(op: str) -> None:
    feed = {"x": integers((4, 5)), "y": integers((4, 5))[::-1].copy()}
    function = torch.maximum if op == "Max" else torch.minimum
    for wrt in ("x", "y"):
        found, seed = gradient(case(op, (4, 5), second=(4, 5)), feed, wrt)
        tensors = {k: torch.tensor(v, requires_grad=True) for k, v in feed.items()}
        function(tensors["x"], tensors["y"]).backward(torch.tensor(seed))
        np.testing.assert_array_equal(found, tensors[wrt].grad.numpy())


@pytest.mark.parametrize("op", ["ReduceMax", "ReduceMin"])
def test_reduced_extrema_share_ties_evenly(op: str) -> None:
    values = integers((3, 4, 5))
    found, seed = gradient(case(op, values.shape, np.array([0, 2]), keepdims=0), {"x": values})
    x = torch.tensor(values, requires_grad=True)
    (torch.amax if op == "ReduceMax" else torch.amin)(x, (0, 2)).backward(torch.tensor(seed))
    np.testing.assert_allclose(found, x.grad.numpy(), rtol=1e-12)


@pytest.mark.parametrize("largest", [True, False])
def test_top_k_of_ties_gives_each_gradient_to_one_element(largest: bool) -> None:
    """PyTorch may choose other ones of equal elements than ONNX does, which takes the first."""
    values = integers((4, 9))
    tied = case("TopK", values.shape, np.array([3]), outputs=2, largest=int(largest))
    found, seed = gradient(tied, {"x": values})
    order = np.argsort(-values if largest else values, axis=1, kind="stable")[:, :3]
    expected = np.zeros_like(values)
    np.put_along_axis(expected, order, seed, 1)
    np.testing.assert_array_equal(found, expected)


def test_product_with_zeros() -> None:
    values = np.array([[1.5, 0.0, -2.0], [0.0, 0.0, 3.0], [2.0, 0.5, 4.0]])
    found, seed = gradient(
        case("ReduceProd", values.shape, np.array([1]), keepdims=0), {"x": values}
    )
    x = torch.tensor(values, requires_grad=True)
    torch.prod(x, 1).backward(torch.tensor(seed))
    np.testing.assert_allclose(found, x.grad.numpy(), rtol=1e-12)


@pytest.mark.parametrize("p", [1, 2, 3])
def test_norms_at_zero(p: int) -> None:
    values = np.array([[[[0.0, 0.0, 1.0, -2.0], [0.0, 0.0, 0.0, 0.5]]]])
    tied = case("LpPool", values.shape, kernel_shape=[2, 2], strides=[2, 2], p=p)
    made = differentiate(tied.model(np.float32), seed="seed")
    seed = np.array([[[[[2.0, -3.0]]]]], np.float32)
    found = run(made, {"x": values.astype(np.float32), "seed": seed})
    x = torch.tensor(values, requires_grad=True)
    windows = x.unfold(3, 2, 2).permute(0, 1, 3, 2, 4).flatten(3)
    torch.linalg.vector_norm(windows, p, -1).backward(torch.tensor(seed[0, :, :, 0]).double())
    np.testing.assert_allclose(found[0], x.grad.numpy(), rtol=1e-6)


@pytest.mark.parametrize(("op", "reference"), [("ReduceL1", 1), ("ReduceL2", 2)])
def test_reduced_norms_at_zero(op: str, reference: int) -> None:
    values = np.array([[0.0, 0.0], [0.0, -3.0]])
    found, seed = gradient(case(op, values.shape, np.array([1])), {"x": values})
    x = torch.tensor(values, requires_grad=True)
    torch.linalg.vector_norm(x, reference, 1, keepdim=True).backward(torch.tensor(seed))
    np.testing.assert_allclose(found, x.grad.numpy(), rtol=1e-12)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_resize_equals_torch(mode: str) -> None:
    values = np.random.default_rng(0).standard_normal((2, 3, 5, 4)).astype(np.float32)
    tied = case(
        "Resize", values.shape, None, None, np.array([11, 3]), axes=[2, 3], mode=mode,
        coordinate_transformation_mode="asymmetric" if mode == "nearest" else "half_pixel",
        nearest_mode="floor",
    )  # fmt: skip
    made = differentiate(tied.model(np.float32), seed="seed")
    seed = np.random.default_rng(1).standard_normal((1, 2, 3, 11, 3)).astype(np.float32)
    found = run(made, {"x": values, "seed": seed})
    x = torch.tensor(values, requires_grad=True)
    how = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    F.interpolate(x, (11, 3), mode=how).backward(torch.tensor(seed[0]))
    np.testing.assert_allclose(found[0], x.grad.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("aligned", [1, 0])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_sampling_exactly_at_pixels(padding: str, mode: str, aligned: int) -> None:
    """And at the borders, and outside of them; where they are not aligned, between pixels too."""
    rng = np.random.default_rng(0)
    n, choices = (5, [-1, -0.5, 0, 0.5, 1, -1.5, 2])
    if not aligned:
        n, choices = (4, [-0.75, -0.25, 0, 0.25, 0.75, -1.25, 1])
        # ONNX rounds before it reflects, PyTorch after: 4.5 is pixel 3 of four, or 2.
        choices += [] if mode == "nearest" else [1.5]
    places = rng.choice(choices, (2, 4, 3, 2)).astype(np.float32)
    feed = {"x": rng.standard_normal((2, 3, n, n)).astype(np.float32), "y": places}
    sample = case(
        "GridSample", (2, 3, n, n), second=(2, 4, 3, 2), padding_mode=padding,
        align_corners=aligned, mode=mode, opset=16,
    )  # fmt: skip
    seed = rng.standard_normal((1, 2, 3, 4, 3)).astype(np.float32)
    x, grid = (torch.tensor(v, requires_grad=True) for v in feed.values())
    y = F.grid_sample(x, grid, mode, padding, align_corners=bool(aligned))
    y.backward(torch.tensor(seed[0]))
    for wrt, tensor in (("x", x), ("y", grid)):
        made = differentiate(sample.model(np.float32), wrt=wrt, seed="seed")
        found = run(made, feed | {"seed": seed})
        np.testing.assert_allclose(found[0], tensor.grad.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("kind", ["GRU", "RNN", "LSTM"])
def test_recurrent_layers_equal_torch(kind: str, both: bool) -> None:
    """ReLU's kink included: zeros in the sequence, no bias."""
    torch.manual_seed(0)
    how = {"nonlinearity": "relu"} if kind == "RNN" else {}
    layer = getattr(torch.nn, kind)(5, 3, bidirectional=both, bias=False, **how).double()
    values = np.random.default_rng(0).standard_normal((4, 2, 5))
    values[:, 1] = 0
    x = torch.tensor(values, requires_grad=True)
    y, _ = layer(x)
    seed = np.random.default_rng(1).standard_normal((4, 1 + both, 2, 3)).astype(np.float32)
    y.backward(torch.tensor(seed).double().permute(0, 2, 1, 3).reshape(y.shape))
    order = {"GRU": [1, 0, 2], "RNN": [0], "LSTM": [0, 3, 1, 2]}[kind]
    ends = ["", "_reverse"][: 1 + both]

    def weights(name: str) -> Array:
        found = [getattr(layer, f"weight_{name}_l0{end}").detach().numpy() for end in ends]
        return np.stack(
            [np.concatenate([np.split(v, len(order))[i] for i in order]) for v in found]
        )

    attributes = {"linear_before_reset": 1} if kind == "GRU" else {}
    attributes |= {"activations": ["Relu"] * (1 + both)} if kind == "RNN" else {}
    made = case(
        kind, values.shape, weights("ih"), weights("hh"), hidden_size=3,
        direction="bidirectional" if both else "forward", **attributes,
    )  # fmt: skip
    made = differentiate(made.model(np.float32), seed="seed")
    found = run(made, {"x": values.astype(np.float32), "seed": seed[None]})
    np.testing.assert_allclose(found[0], x.grad.numpy(), rtol=1e-4, atol=1e-6)


def test_zero_to_a_power_and_zero_norm() -> None:
    values = np.array([[0.0, 0.0, 2.0]], np.float32)
    seed = np.array([[[1.0, -2.0, 3.0]]], np.float32)
    powers = case("Pow", (1, 3), np.array([0.0, 2.0, 3.0])).model(np.float32)
    found = run(differentiate(powers, seed="seed"), {"x": values, "seed": seed})[0]
    x = torch.tensor(values, requires_grad=True)
    (x ** torch.tensor([0.0, 2.0, 3.0])).backward(torch.tensor(seed[0]))
    np.testing.assert_allclose(found, x.grad.numpy(), rtol=1e-6)
    norm = differentiate(case("ReduceL2", (1, 3), np.array([1])).model(np.float32))
    found = run(norm, {"x": np.zeros((1, 3), np.float32)})
    np.testing.assert_array_equal(found, np.zeros((1, 3)))


def test_lrn_equals_torch() -> None:
    values = np.random.default_rng(0).standard_normal((2, 7, 3, 4)).astype(np.float32)
    tied = case("LRN", values.shape, size=5, alpha=0.3, beta=0.75, bias=2.0)
    made = differentiate(tied.model(np.float32), seed="seed")
    seed = np.random.default_rng(1).standard_normal((1, *values.shape)).astype(np.float32)
    found = run(made, {"x": values, "seed": seed})
    x = torch.tensor(values, requires_grad=True)
    F.local_response_norm(x, 5, 0.3, 0.75, 2.0).backward(torch.tensor(seed[0]))
    np.testing.assert_allclose(found[0], x.grad.numpy(), rtol=1e-5, atol=1e-6)


def run(made: onnx.ModelProto, feed: dict[str, Array]) -> Array:
    """The gradient, computed by ONNX Runtime (the reference evaluator's LRN, and its MaxPool with
    ceil_mode and padding, do not follow their specifications)."""
    session = ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["gradient"], feed)[0])
