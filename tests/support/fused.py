"""Operators of ONNX Runtime's own, one row each, and what they compute."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import torch
from backlit.export.prepare.forms import MICROSOFT
from onnx import helper, numpy_helper
from torch.nn import functional as F

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True)
class Fused:
    """One operator: ``x`` first, None for an input left out, arrays for constants."""

    op: str
    inputs: tuple[Any, ...]
    attributes: dict[str, Any] = dataclasses.field(default_factory=dict)
    domain: str = MICROSOFT
    outputs: int = 1
    use: int = 0
    opset: int = 17
    runs: bool = True  # on ONNX Runtime's CPU provider

    @property
    def name(self) -> str:
        shapes = "-".join("none" if v is None else str(np.shape(v)) for v in self.inputs)
        text = f"{self.op}-{shapes}-{self.attributes}-{self.use}"
        return "".join(c for c in text if c not in " '{}()\"")

    def model(self) -> onnx.ModelProto:
        made = {"x": self.inputs[0]}
        names = ["x"]
        for i, value in enumerate(self.inputs[1:]):
            names.append("" if value is None else f"c{i}")
            made |= {} if value is None else {f"c{i}": value}
        outs = ["" if i and i != self.use else f"o{i}" for i in range(self.outputs)]
        node = helper.make_node(
            self.op, names, outs, name="fused", domain=self.domain,
            **{{"since": "opset"}.get(k, k): v for k, v in self.attributes.items()},
        )  # fmt: skip
        given = helper.make_tensor_value_info("x", kind(self.inputs[0]), self.inputs[0].shape)
        out = outs[self.use]
        target = helper.make_empty_tensor_value_info(out)
        constants = [numpy_helper.from_array(v, k) for k, v in made.items() if k != "x"]
        graph = helper.make_graph([node], "fused", [given], [target], constants)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def kind(array: Array) -> int:
    return int(helper.np_dtype_to_tensor_dtype(array.dtype))


def draw(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def fused(op: str, *inputs: Any, **rest: Any) -> Fused:
    own = {f.name for f in dataclasses.fields(Fused)}
    fields = {k: rest.pop(k) for k in list(rest) if k in own}
    return Fused(op, inputs, {k: v for k, v in rest.items() if v != []}, **fields)


def u8(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def i8(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(-127, 128, shape).astype(np.int8)


def f(value: Any) -> Array:
    return np.array(value, np.float32)


IMAGE, W = draw(2, 3, 7, 6), draw(4, 3, 3, 3, seed=1)
TOKENS, WIDE = draw(2, 5, 8), draw(8, 24, seed=1)
ZERO = np.array(120, np.uint8)
MASK = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32)
CASES = [
    *(fused("FusedConv", IMAGE, W, draw(4), activation=a, activation_params=p, kernel_shape=[3, 3])
      for a, p in (("Relu", []), ("LeakyRelu", [0.1]), ("Sigmoid", []), ("Tanh", []), ("Clip", [0.0, 1.5]), ("HardSigmoid", [0.3, 0.4]))),
    fused("FusedConv", IMAGE, W, draw(4), draw(2, 4, 3, 3, seed=2), activation="Relu", strides=[2, 2], pads=[1, 1, 0, 0]),
    fused("FusedConv", IMAGE, draw(6, 1, 3, 3), activation="Relu", group=3, auto_pad="SAME_UPPER"),
    *(fused("FusedGemm", draw(3, 4), draw(4, 5, seed=1), draw(5), activation=a, **p)
      for a, p in (("Relu", {}), ("LeakyRelu", {"activation_alpha": 0.2}), ("Elu", {"activation_alpha": 0.7}), ("HardSigmoid", {"activation_alpha": 0.3, "activation_beta": 0.4}),
                   ("Softplus", {}), ("Softsign", {}), ("Tanh", {}), ("Sigmoid", {}), ("ThresholdedRelu", {"activation_alpha": 0.5}), ("Selu", {"activation_alpha": 1.5, "activation_gamma": 1.1}))),
    fused("FusedGemm", draw(4, 3), draw(5, 4, seed=1), draw(3, 5), transA=1, transB=1, alpha=0.5, beta=2.0, activation="Relu"),
    fused("FusedMatMul", draw(2, 3, 4), draw(2, 4, 5, seed=1), alpha=0.25),
    fused("FusedMatMul", draw(2, 4, 3), draw(2, 5, 4, seed=1), transA=1, transB=1),
    fused("FusedMatMul", draw(4, 2, 3), draw(2, 3, 5, seed=1), transBatchA=1),
    fused("FusedMatMul", draw(2, 4, 3), draw(3, 2, 5, seed=1), transBatchB=1),
    fused("FusedMatMul", draw(3, 2, 4), draw(5, 2, 3, seed=1), transBatchA=1, transBatchB=1, transA=1, transB=1),
    fused("TransposeMatMul", draw(2, 4, 3), draw(2, 4, 5, seed=1), transA=1, alpha=2.0),
    fused("FusedMatMulActivation", draw(3, 4), draw(4, 5, seed=1), activation="Relu", runs=False),
    fused("FusedMatMulActivation", draw(3, 4), draw(4, 5, seed=1), activation="Softmax", activation_axis=0, runs=False),
    fused("Gelu", TOKENS),
    fused("BiasGelu", TOKENS, draw(8)),
    fused("FastGelu", TOKENS),
    fused("FastGelu", TOKENS, draw(8)),
    fused("GemmFastGelu", draw(3, 4), draw(4, 5, seed=1), draw(5), runs=False),
    fused("QuickGelu", TOKENS),
    fused("QuickGelu", TOKENS, alpha=1.0),
    fused("ScaledSiLU", TOKENS, f([0.5]), alpha=1.3, runs=False),
    fused("BiasSplitGelu", TOKENS, draw(8), runs=False),
    fused("BiasAdd", TOKENS, draw(8), draw(2, 5, 8, seed=3), runs=False),
    fused("BiasDropout", TOKENS, draw(8), draw(2, 5, 8, seed=3), outputs=2, runs=False),
    fused("BiasSoftmax", draw(2, 3, 4, 4), draw(1, 1, 4, 4), axis=3, is_inner_broadcast=0, runs=False),
    fused("BiasSoftmax", draw(2, 3, 4, 4), draw(2, 1, 1, 4), axis=-1, is_inner_broadcast=1, runs=False),
    fused("BiasSoftmax", draw(2, 3, 4), draw(1, 3, 4), axis=1, is_inner_broadcast=0, runs=False),
    fused("SkipLayerNormalization", TOKENS, draw(2, 5, 8, seed=2), draw(8), draw(8, seed=4), epsilon=1e-5),
    fused("SkipLayerNormalization", TOKENS, draw(5, 8, seed=2), draw(8), None, draw(8, seed=4)),
    fused("SkipLayerNormalization", TOKENS, draw(2, 5, 8, seed=2), draw(8), draw(8, seed=4), outputs=4, use=3),
    fused("SkipSimplifiedLayerNormalization", TOKENS, draw(2, 5, 8, seed=2), draw(8), draw(8, seed=4), epsilon=1e-5),
    fused("SkipSimplifiedLayerNormalization", TOKENS, draw(2, 5, 8, seed=2), draw(8), outputs=4, use=3),
    fused("LayerNormalization", TOKENS, draw(8), draw(8, seed=4), domain="", opset=13, epsilon=1e-3),
    fused("LayerNormalization", TOKENS, draw(5, 8), draw(5, 8, seed=4), domain="", opset=12, axis=1),
    fused("SimplifiedLayerNormalization", TOKENS, draw(8), domain="", epsilon=1e-3),
    fused("SimplifiedLayerNormalization", TOKENS, draw(8), domain="", axis=2, opset=13),
    fused("GridSample", IMAGE, draw(2, 4, 3, 2), padding_mode="border", opset=13),
    fused("Trilu", draw(4, 5), np.array(1), upper=0, opset=13),
    fused("Pad", draw(4, 5), np.array([1, 0, 0, 2]), opset=13),
    fused("ExpandDims", draw(4, 5), np.array(1, np.int32), opset=13),
    fused("ImageScaler", IMAGE, domain="", scale=0.5, bias=[0.1, 0.2, 0.3], opset=7),
    fused("Affine", IMAGE, domain="", alpha=0.5, beta=2.0, opset=7),
    fused("Scale", IMAGE, domain="", scale=0.5, opset=7),
    fused("ScaledTanh", IMAGE, domain="", alpha=0.5, beta=2.0, opset=7),
    fused("ParametricSoftplus", IMAGE, domain="", alpha=0.5, beta=2.0, opset=7),
    fused("Crop", IMAGE, domain="", border=[1, 2, 0, 1], opset=7),
    fused("Crop", IMAGE, domain="", border=[1, 2, 0, 0], scale=[3, 4], opset=7),
    fused("Attention", TOKENS, WIDE, draw(24), num_heads=2),
    fused("Attention", TOKENS, WIDE, draw(24), num_heads=2, scale=0.3),
    fused("Attention", TOKENS, draw(8, 20, seed=1), draw(20), num_heads=2, qkv_hidden_sizes=[8, 8, 4]),
    fused("Attention", TOKENS, WIDE, draw(24), MASK, num_heads=2, mask_filter_value=-30.0),
    fused("Attention", TOKENS, WIDE, draw(24), np.tril(np.ones((2, 5, 5), np.int32)), num_heads=4),
    fused("Attention", TOKENS, WIDE, draw(24), None, None, draw(1, 2, 5, 5), num_heads=2),
    fused("MultiHeadAttention", TOKENS, draw(2, 6, 8, seed=2), draw(2, 6, 8, seed=3), num_heads=2),
    fused("MultiHeadAttention", TOKENS, draw(2, 6, 8, seed=2), draw(2, 6, 4, seed=3), draw(20), num_heads=2, scale=0.7),
    fused("MultiHeadAttention", TOKENS, draw(2, 5, 8, seed=2), draw(2, 5, 8, seed=3), draw(24), MASK, draw(2, 2, 5, 5), num_heads=2),
    fused("MultiHeadAttention", TOKENS, draw(2, 2, 6, 4, seed=2), draw(2, 2, 6, 4, seed=3), num_heads=2),
    fused("MultiHeadAttention", draw(2, 5, 2, 3, 4), num_heads=2, runs=False),
    fused("MultiHeadAttention", TOKENS, draw(2, 6, 2, 2, 4, seed=2), num_heads=2, runs=False),
    fused("MatMulIntegerToFloat", u8(3, 4), i8(4, 5), f(0.02), f(0.01), ZERO, np.array(3, np.int8), draw(5)),
    fused("MatMulIntegerToFloat", u8(3, 4), i8(4, 5), f(0.02), f(np.linspace(0.01, 0.02, 5)), ZERO, i8(5, seed=2)),
    fused("DynamicQuantizeMatMul", draw(3, 4), i8(4, 5), f(0.01), np.array(3, np.int8), draw(5)),
    fused("DynamicQuantizeMatMul", draw(3, 4), i8(4, 5), f(np.linspace(0.01, 0.02, 5))),
    fused("QAttention", u8(2, 5, 8), i8(8, 24), draw(24), f(0.02), f(0.01), None, ZERO, np.array(1, np.int8), num_heads=2),
    fused("QAttention", u8(2, 5, 8), i8(8, 24), draw(24), f(0.02), f(np.linspace(0.01, 0.02, 24)), None, ZERO, np.zeros(24, np.int8), num_heads=2),
    fused("QLinearConv", u8(2, 7, 6, 3), f(0.02), ZERO, i8(4, 3, 3, 3), f(0.01), np.array(0, np.int8), f(0.05), ZERO, np.arange(4, dtype=np.int32), channels_last=1, pads=[1, 1, 1, 1]),
    fused("QLinearReduceMean", u8(2, 3, 4), f(0.02), ZERO, f(0.01), ZERO, axes=[1, 2], keepdims=0, runs=False),
    fused("QLinearAdd", u8(3, 4), f(0.02), ZERO, u8(4, seed=3), f(0.03), ZERO, f(0.05), ZERO),
    fused("QLinearMul", u8(3, 4), f(0.02), ZERO, u8(3, 4, seed=3), f(0.03), ZERO, f(0.05), ZERO),
    fused("QLinearSigmoid", u8(3, 4), f(0.02), ZERO, f(0.004), np.array(0, np.uint8)),
    fused("QLinearLeakyRelu", u8(3, 4), f(0.02), ZERO, f(0.02), ZERO, alpha=0.3),
    fused("QLinearSoftmax", u8(3, 4), f(0.02), ZERO, f(0.004), np.array(0, np.uint8), axis=1, since=13),
    fused("QLinearSoftmax", u8(2, 3, 4), f(0.02), ZERO, f(0.004), np.array(0, np.uint8), axis=1, since=11),
    fused("QLinearGlobalAveragePool", u8(2, 4, 5, 3), f(0.02), ZERO, f(0.01), ZERO, channels_last=1),
    fused("QLinearAveragePool", u8(2, 4, 6, 3), f(0.02), ZERO, f(0.02), ZERO, channels_last=1, kernel_shape=[2, 2], strides=[2, 2]),
    fused("NhwcMaxPool", u8(2, 7, 6, 3), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    fused("NhwcFusedConv", draw(2, 7, 6, 3), W, draw(4), activation="Relu", runs=False),
    *(fused("MatMulNBits", draw(3, 40), u8(6, 3, 16 * b // 8), draw(6, 3), z, None, bias, N=6, K=40, bits=b, block_size=16)
      for b in (4, 8) for z, bias in ((None, None), (u8(6, -(-3 * b // 8), seed=5), draw(6)), (draw(6, 3, seed=6), None)) if bias is not None or z is None or b == 4),
    fused("GroupNorm", draw(2, 3, 4, 6), draw(6), draw(6, seed=2), groups=3, activation=1, runs=False),
    fused("GroupNorm", draw(2, 6, 3, 4), draw(6), draw(6, seed=2), groups=2, activation=0, channels_last=0, runs=False),
    fused("SkipGroupNorm", draw(2, 3, 4, 6), draw(6), draw(6, seed=2), draw(2, 6), draw(6, seed=3), groups=3, activation=1, outputs=2, use=1, runs=False),
]  # fmt: skip


def gelu(x: Array) -> Array:
    return np.asarray(x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2)


def fast_gelu(x: Array) -> Array:
    return np.asarray(x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2)


def softmax(x: Array, axis: int | tuple[int, ...] = -1) -> Array:
    y = np.exp(x - x.max(axis, keepdims=True))
    return np.asarray(y / y.sum(axis, keepdims=True))


def heads(q: Array, k: Array, v: Array) -> Array:
    """[N,S,heads,size] each, as Attention puts them together again."""
    q, k, v = (x.transpose(0, 2, 1, 3) for x in (q, k, v))
    y = softmax(q @ k.swapaxes(2, 3) / math.sqrt(q.shape[-1])) @ v
    return np.asarray(y.transpose(0, 2, 1, 3).reshape(len(q), q.shape[2], -1))


def group_norm(case: Fused) -> Array:
    x, scale, bias, *rest = case.inputs
    last, groups = case.attributes.get("channels_last", 1), case.attributes["groups"]
    if rest:
        x = x + rest[0][:, None, None] + rest[1]
    if case.use:
        return np.asarray(x)
    x = np.moveaxis(x, -1, 1) if last else x
    g = x.reshape(len(x), groups, -1)
    g = (g - g.mean(-1, keepdims=True)) / np.sqrt(g.var(-1, keepdims=True) + 1e-5)
    y = g.reshape(x.shape) * scale[:, None, None] + bias[:, None, None]
    y = y / (1 + np.exp(-y)) if case.attributes["activation"] else y
    return np.moveaxis(y, 1, -1) if last else y


def conv_last(case: Fused) -> Array:
    x, w, b = (torch.tensor(v) for v in case.inputs)
    return np.asarray(F.relu(F.conv2d(x.permute(0, 3, 1, 2), w, b)).permute(0, 2, 3, 1))


FORMULAS: dict[str, Callable[..., Array]] = {  # of what only other providers run
    "GemmFastGelu": lambda c, x, w, b: fast_gelu(x @ w + b),
    "ScaledSiLU": lambda c, x, s: s * x / (1 + np.exp(-1.3 * x)),
    "BiasSplitGelu": lambda c, x, b: (x + b)[..., :4] * gelu((x + b)[..., 4:]),
    "BiasAdd": lambda c, x, b, s: x + b + s,
    "BiasDropout": lambda c, x, b, s: x + b + s,
    "BiasSoftmax": lambda c, x, b: softmax(x + b, -1 if c.attributes["axis"] != 1 else (1, 2)),
    "FusedMatMulActivation": lambda c, a, b: np.maximum(a @ b, 0) if c.attributes["activation"] == "Relu" else softmax(a @ b, 0),
    "MultiHeadAttention": lambda c, q, k=None: heads(*(np.moveaxis(q, 3, 0) if k is None else (q.reshape(2, 5, 2, 4), *np.moveaxis(k, 3, 0)))),
    "QLinearReduceMean": lambda c, x, s, z, t, u: np.clip(np.rint(((x - 120.0) * s).mean((1, 2)) / t) + 120, 0, 255).astype(np.uint8),
    "GroupNorm": lambda c, *_: group_norm(c),
    "SkipGroupNorm": lambda c, *_: group_norm(c),
    "NhwcFusedConv": lambda c, *_: conv_last(c),
}  # fmt: skip
