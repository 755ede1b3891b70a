"""Gradients of quantised operators, straight through: no difference quotient equals them.

What they are to be is written out in numpy: the derivative of the numbers without rounding, and
nothing where a number saturates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx.parser
import onnxruntime as ort
import pytest
import torch
from backlit.export import differentiate
from onnx import helper, numpy_helper

Array = np.ndarray[Any, Any]
K = 3


def gradient(
    x: Array, lines: str, seed_shape: tuple[int, ...], constants: dict[str, Any], target: Any
) -> tuple[Array, Array]:
    """d z / d x [K, *x's shape] of a model in ONNX's text, and the seeds [K, *z's shape]."""
    dims = ", ".join(map(str, x.shape[1:]))
    rank = ", ".join(f"D{i}" for i in range(1, len(seed_shape)))
    graph = onnx.parser.parse_graph(f"g (float[N, {dims}] x) => (float[N, {rank}] z) {{ {lines} }}")
    for name, value in constants.items():
        array = np.asarray(value)
        array = array.astype(np.float32) if array.dtype == np.float64 else array
        graph.initializer.append(numpy_helper.from_array(array, name))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    seeds = np.random.default_rng(5).standard_normal((K, *seed_shape)).astype(np.float32)
    made = differentiate(model, seed="seed", target=target)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(
        made.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feed = {"x": x.astype(np.float32), "seed": seeds}
    return np.asarray(session.run(["gradient"], feed)[0]), seeds


def numbers(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


TARGETS = pytest.mark.parametrize("target", ["portable", "openvino"])


@TARGETS
@pytest.mark.parametrize(
    ("kind", "zero"), [(np.uint8, 0), (np.uint8, 120), (np.int8, -20), (np.int8, 0)]
)
def test_what_saturates_passes_nothing(kind: Any, zero: int, target: Any) -> None:
    """The last whole number on either side saturates, too: it may have been beyond."""
    x, scale, other = numbers(4, 3, 5, 6), 0.011, 0.7
    z = np.array(zero, kind)
    found, seeds = gradient(
        x, "q = QuantizeLinear(x, scale, zero)\nz = DequantizeLinear(q, other, zero)", x.shape,
        {"scale": scale, "other": other, "zero": z}, target,
    )  # fmt: skip
    limits = np.iinfo(kind)
    level = np.round(x / np.float32(scale)) + zero
    inside = (level > limits.min) & (level < limits.max)
    assert 0.1 < inside.mean() < 0.9
    assert (level >= limits.max).any()
    np.testing.assert_allclose(found, seeds * inside * other / scale, rtol=1e-5)


@TARGETS
@pytest.mark.parametrize(("axis", "shape"), [(1, (4, 3, 5, 6)), (2, (4, 5, 3, 6)), (-1, (2, 5, 3))])
def test_a_scale_for_each_index_of_an_axis(axis: int, shape: tuple[int, ...], target: Any) -> None:
    x, scales, others = numbers(*shape), np.array([0.02, 0.05, 0.3]), np.array([1.0, 0.2, 3.0])
    zeros = np.array([100, 130, 128], np.uint8)
    found, seeds = gradient(
        x,
        f"q = QuantizeLinear<axis = {axis}>(x, s, zero)\n"
        f"z = DequantizeLinear<axis = {axis}>(q, o, zero)",
        shape, {"s": scales, "o": others, "zero": zeros}, target,
    )  # fmt: skip
    around = [1] * len(shape)
    around[axis] = 3
    level = np.round(x / scales.astype(np.float32).reshape(around)) + zeros.reshape(around)
    inside = (level > 0) & (level < 255)
    assert inside.mean() > 0.5
    np.testing.assert_allclose(found, seeds * inside * (others / scales).reshape(around), rtol=1e-5)


@TARGETS
@pytest.mark.parametrize("per_column", [False, True])
def test_a_product_of_integers(per_column: bool, target: Any) -> None:
    """Square weights, which nothing but the numbers tells from transposed ones."""
    x = numbers(3, 5)
    w = np.random.default_rng(1).integers(0, 256, (5, 5)).astype(np.uint8)
    zero = np.array([90, 120, 130, 128, 100] if per_column else 120, np.uint8)
    found, seeds = gradient(
        x,
        "q, s, z0 = DynamicQuantizeLinear(x)\ni = MatMulInteger(q, w, z0, zero)\n"
        "c = Cast<to = 1>(i)\nz = Mul(c, s)",
        (3, 5), {"w": w, "zero": zero}, target,
    )  # fmt: skip
    right = seeds @ (w.astype(np.float64) - zero).T
    np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-3)


@TARGETS
def test_a_convolution_of_integers(target: Any) -> None:
    x = numbers(2, 3, 7, 6)
    w = np.random.default_rng(1).integers(0, 256, (3, 3, 3, 2)).astype(np.uint8)
    found, seeds = gradient(
        x,
        "q, s, z0 = DynamicQuantizeLinear(x)\n"
        "i = ConvInteger<pads = [1, 0, 0, 1], strides = [2, 1]>(q, w, z0, zero)\n"
        "c = Cast<to = 1>(i)\nz = Mul(c, s)",
        (2, 3, 3, 6), {"w": w, "zero": np.array(7, np.uint8)}, target,
    )  # fmt: skip
    weights = torch.tensor(w.astype(np.float64) - 7)
    image = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    padded = torch.nn.functional.pad(image, (0, 1, 1, 0))
    y = torch.nn.functional.conv2d(padded, weights, stride=(2, 1))
    for k in range(K):
        (right,) = torch.autograd.grad(y, image, torch.tensor(seeds[k]).double(), retain_graph=True)
        np.testing.assert_allclose(found[k], right, rtol=1e-4, atol=1e-2)


@TARGETS
def test_pooling_routes_integers_to_the_first_maximum(target: Any) -> None:
    """Many are equal, and many 0, which is what a padding must not be."""
    x = -np.abs(numbers(2, 3, 6, 5))
    found, seeds = gradient(
        x,
        "q = QuantizeLinear(x, scale, zero)\nd = DequantizeLinear(q, scale, zero)\n"
        "z = MaxPool<kernel_shape = [3, 2], strides = [2, 2], pads = [1, 1, 1, 0]>(d)",
        (2, 3, 3, 3), {"scale": 0.5, "zero": np.array(100, np.uint8)}, target,
    )  # fmt: skip
    levels = torch.tensor(np.round(x / 0.5) * 0.5, requires_grad=True)
    padded = torch.nn.functional.pad(levels, (1, 0, 1, 1), value=-torch.inf)
    y = torch.nn.functional.max_pool2d(padded, (3, 2), 2)
    assert (y == 0).any()
    for k in range(K):
        (right,) = torch.autograd.grad(y, levels, torch.tensor(seeds[k]), retain_graph=True)
        np.testing.assert_allclose(found[k], right, rtol=1e-5, atol=1e-6)
