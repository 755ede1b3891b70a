"""The table of faults: one text of the package and what it is replaced by."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Fault:
    """A fault.

    Attributes:
        name: what is wrong, in words.
        file: of the repository.
        old, new: a text that stands there once, and what is put for it.
        network: whose output it changes, of ``networks.NETWORKS``.
        tests: arguments of pytest: files that concern the code, quick ones first.
    """

    name: str
    file: str
    old: str
    new: str
    network: str
    tests: tuple[str, ...]


def _rule(name: str, module: str, network: str, old: str, new: str, cases: str) -> Fault:
    """A fault in a module of rules, which the cases of those operators should see."""
    files = ("tests/test_rules.py", "tests/test_ties.py")
    return Fault(name, f"export/rules/{module}.py", old, new, network, (*files, "-k", cases))


_RULES = (
    _rule(
        "Gelu's CDF by tanh", "activation", "Gelu",
        "return g * (op.Erf(x * math.sqrt(0.5)) + x * twice_pdf + 1) * 0.5",
        "cdf = op.Tanh((x + x * x * x * 0.044715) * math.sqrt(2 / math.pi))\n"
        "    return g * (cdf + x * twice_pdf + 1) * 0.5",
        "Gelu or smooth",
    ),
    _rule(
        "a quotient's divisor without its sign", "arithmetic", "Div",
        "return g / b, g * op.Neg(y / b)", "return g / b, g * (y / b)", "Div",
    ),
    _rule(
        "padding before and after exchanged", "convolution", "Conv",
        "pads=before + after, **same)", "pads=after + before, **same)", "Conv",
    ),
    _rule(
        "y for y squared", "elementwise", "Reciprocal",
        "return g * op.Neg(y * y)", "return g * op.Neg(y)", "Reciprocal",
    ),
    _rule(
        "the imaginary part's sign", "fourier", "DFT",
        "np.sin(angles) * (-1 if inverse else 1)", "np.sin(angles) * (1 if inverse else -1)", "DFT",
    ),
    _rule(
        "overwritten elements pass their gradient", "indexing", "ScatterElements",
        "return g * op.ScatterElements(ones, where, zeros, axis=axis), None, written",
        "return g, None, written", "ScatterElements",
    ),
    _rule(
        "the mean stays in standardised gradients", "normalisation", "InstanceNormalization",
        "return (g - op.ReduceMean(g, axes, keepdims=1) - unit * along) / std",
        "return (g - unit * along) / std", "Normalization",
    ),
    Fault(
        "a pool padded with 0", "export/rules/pooling.py",
        "return op.const(-3.4e38, EXACT", "return op.const(0.0, EXACT",
        "quantised MaxPool",
        ("tests/test_quantised.py", "tests/test_rules.py", "-k", "integers or MaxPool"),
    ),
    _rule(
        "square weights transposed", "product", "square Gemm",
        "alpha=alpha, transB=1 - trans_b)", "alpha=alpha, transB=trans_b)", "Gemm",
    ),
    Fault(
        "what saturates passes its gradient", "export/rules/quantised.py",
        "return g * (inside / _per_axis(op, node))", "return g / _per_axis(op, node)",
        "QuantizeLinear", ("tests/test_quantised.py",),
    ),
    _rule(
        "the cell of the next step forgotten", "recurrent", "LSTM",
        "dc = dh * through[k] + dc", "dc = dh * through[k]", "LSTM",
    ),
    _rule(
        "a mean over two axes divided by one", "reduction", "ReduceMean",
        "count = math.prod(d for d in dims if d is not None)", "count = dims[0] or 1", "ReduceMean",
    ),
    _rule(
        "LeakyRelu's slope at its default", "relu", "LeakyRelu",
        'alpha = attribute(node, "alpha", 0.01)', "alpha = 0.01", "LeakyRelu",
    ),
    _rule(
        "a scale rounded to whole pixels", "resize", "Resize",
        "made = _resized(node, np.eye(n), window, scales=[1, scales[i]])",
        "made = _resized(node, np.eye(n), window, scales=[1, m / n])", "Resize",
    ),
    _rule(
        "places not scaled to pixels", "sampling", "GridSample",
        "op.GreaterOrEqual(far, 0.0), -scale, scale)", "op.GreaterOrEqual(far, 0.0), -1.0, 1.0)",
        "GridSample",
    ),
    _rule(
        "rows and columns of a block exchanged", "shape", "DepthToSpace",
        "perm=[0, 1, 3, 5, 2, 4]", "perm=[0, 1, 5, 3, 2, 4]", "DepthToSpace",
    ),
    _rule(
        "the cosine's sign", "trigonometric", "Cos",
        "return g * op.Neg(op.Sin(args(node)[0]))", "return g * op.Sin(args(node)[0])", "Cos",
    ),
)  # fmt: skip

_AUTODIFF = (
    Fault(
        "a dropped branch in accumulation", "export/autodiff/ops.py",
        "else self.Sum(*small)", "else self.Sum(*small[:-1])",
        "branches", ("tests/test_accumulation.py",),
    ),
    Fault(
        "the last branch alone", "export/autodiff/backward.py",
        "grads.setdefault(x, []).append(g)", "grads[x] = [g]",
        "branches", ("tests/test_accumulation.py",),
    ),
    Fault(
        "a mean where broadcasting is undone", "export/autodiff/ops.py",
        "g = self.ReduceSum(g, [i + 1 for i in axes], keepdims=1)",
        "g = self.ReduceMean(g, [i + 1 for i in axes], keepdims=1)",
        "broadcast", ("tests/test_rules.py", "-k", "Mul or Add"),
    ),
    Fault(
        "the upper bound passes", "export/autodiff/masks.py",
        "return step(op, y) * op.HardSigmoid(y, alpha=-alpha, beta=alpha * high)",
        "return step(op, y)",
        "Clip", ("tests/test_rules.py", "tests/test_ties.py", "-k", "Clip"),
    ),
    Fault(
        "places put back in the order of their numbers", "export/autodiff/adjoints.py",
        "return op.Gather(g, table[:, 0], axis=back)",
        "return op.Gather(g, np.sort(table[:, 0]), axis=back)",
        "Gather", ("tests/test_rules.py", "-k", "Gather"),
    ),
    Fault(
        "SiLU's slope squared", "export/rules/arithmetic.py",
        "dx = g * (s + node.outputs[0] * (1 - s))", "dx = g * (s + node.outputs[0] * (1 - s) * s)",
        "SiLU", ("tests/test_rewrites.py", "-k", "swish or targetopenvino"),
    ),
    Fault(
        "a pooled ReLU without its mask", "export/rules/pooling.py",
        "        g = gate(op, g, y)  # the mask", "        g = op.Identity(g)  # the mask",
        "pooled ReLU", ("tests/test_export.py", "tests/test_rewrites.py", "-k", "uint8 or pooled"),
    ),
)  # fmt: skip

_WRAP = (
    Fault(
        "means left out", "export/wrap.py", "if shift.any():", "if (shift > 0).any():",
        "pixels", ("tests/test_export.py",),
    ),
    Fault(
        "colours in a wrong order", "export/wrap.py",
        "op.Gather(x, [2, 1, 0], axis=1)", "op.Gather(x, [2, 0, 1], axis=1)",
        "pixels", ("tests/test_export.py",),
    ),
    Fault(
        "ranks one too low", "export/wrap.py",
        "op.Sub(op.const([-1]), class_index)", "op.Sub(op.const([0]), class_index)",
        "pixels", ("tests/test_export.py",),
    ),
    Fault(
        "classes of several images mixed", "export/wrap.py",
        "mine = op.Unsqueeze(op.Transpose(chosen, perm=[1, 0]), [-1])",
        "mine = op.Reshape(chosen, op.Concat(lead.outputs[0], [-1, 1], axis=0))",
        "pixels", ("tests/test_export.py",),
    ),
    Fault(
        "a gradient times 1.009", "export/wrap.py",
        "g.name, g.dtype = GRADIENT, ir.DataType.FLOAT",
        "g = op.Mul(g, 1.009)\n    g.name, g.dtype = GRADIENT, ir.DataType.FLOAT",
        "pixels", ("tests/test_export.py",),
    ),
    Fault(
        "a zeroed corner of 2 x 2 pixels", "export/wrap.py",
        "g.name, g.dtype = GRADIENT, ir.DataType.FLOAT",
        "corner = np.ones((spec.height, spec.width))\n    corner[:2, :2] = 0\n"
        "    g = op.Mul(g, corner)\n    g.name, g.dtype = GRADIENT, ir.DataType.FLOAT",
        "pixels", ("tests/test_export.py",),
    ),
)  # fmt: skip

_MAPS = (
    Fault(
        "the mean over channels for their maximum", "export/maps/saliency.py",
        "op.ReduceMax(op.Abs(g), [2], keepdims=0)", "op.ReduceMean(op.Abs(g), [2], keepdims=0)",
        "pixels", ("tests/test_export.py",),
    ),
    Fault(
        "the magnitude of a mean", "export/maps/features.py",
        "op.ReduceMean(op.Abs(single(op, grid, g)), [grid.channel + 1], keepdims=0)",
        "op.Abs(op.ReduceMean(single(op, grid, g), [grid.channel + 1], keepdims=0))",
        "grids", ("tests/test_features.py",),
    ),
    Fault(
        "a mean over rows alone", "export/maps/gradcam.py",
        "op.ReduceMean(single(op, grid, g), axes, keepdims=1)",
        "op.ReduceMean(single(op, grid, g), axes[:1], keepdims=1)",
        "grids", ("tests/test_features.py",),
    ),
    Fault(
        "negative gradients kept", "export/maps/layercam.py",
        "op.Relu(single(op, grid, g))", "single(op, grid, g)",
        "grids", ("tests/test_features.py",),
    ),
)  # fmt: skip

_PREPARE = (
    Fault(
        "half precision's scale left in a map", "export/precision/scaling.py",
        "if y.name in LINEAR]", 'if y.name == "gradcam"]',
        "half", ("tests/test_features.py",),
    ),
    Fault(
        "attention scaled by the number of tokens", "export/prepare/attention.py",
        "op.Shape(k, start=3)", "op.Shape(k, start=2, end=3)",
        "Attention", ("tests/test_optimised.py", "-k", "Attention"),
    ),
    Fault(
        "a fused sum taken apart as a difference", "export/prepare/fused.py",
        "y = y if z is None else op.Add(y, z)", "y = y if z is None else op.Sub(y, z)",
        "FusedConv", ("tests/test_optimised.py", "-k", "FusedConv"),
    ),
    Fault(
        "height and width exchanged, channels last", "export/prepare/forms.py",
        "perm=[0, axes - 1, *range(1, axes - 1)]", "perm=[0, axes - 1, *range(axes - 2, 0, -1)]",
        "channels last", ("tests/test_optimised.py", "-k", "channels_last or Nhwc"),
    ),
    Fault(
        "the zero point of 4 bits off by 1", "export/prepare/quantised.py",
        "zero = np.full((n, blocks), 2.0 ** (bits - 1))",
        "zero = np.full((n, blocks), 2.0 ** (bits - 1) - 1)",
        "MatMulNBits", ("tests/test_optimised.py", "-k", "MatMulNBits"),
    ),
    Fault(
        "a Scan unrolled backwards", "export/prepare/unroll.py",
        "places = [(turns or 0) - 1 - turn if b else turn for b in back]",
        "places = [turn if b else (turns or 0) - 1 - turn for b in back]",
        "Scan", ("tests/test_prepared.py",),
    ),
)  # fmt: skip

FAULTS = (*_RULES, *_AUTODIFF, *_WRAP, *_MAPS, *_PREPARE)
