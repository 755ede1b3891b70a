"""A tensor that is read several times gets the sum of what all its readers pass back."""

from __future__ import annotations

import numpy as np
import onnx.parser
import onnxruntime as ort
import pytest
import torch
from backlit.export import differentiate
from backlit.export.graph.rewrites import Target

SHAPE = (2, 3, 4, 5)
W = torch.tensor(np.random.default_rng(1).standard_normal(SHAPE))
READERS = {  # of m, in ONNX's text and in torch; each gives a tensor that broadcasts to SHAPE
    "sine": ("{y} = Sin(m)", lambda m: torch.sin(m)),
    "exponential": ("{y} = Exp(m)", lambda m: torch.exp(m)),
    "itself": ("{y} = Identity(m)", lambda m: m),
    "square": ("{y} = Mul(m, m)", lambda m: m * m),
    "rows": ("{y} = ReduceMean<keepdims = 1>(m, rows)", lambda m: m.mean(2, keepdim=True)),
    "columns": ("{y} = ReduceSum<keepdims = 1>(m, columns)", lambda m: m.sum(3, keepdim=True)),
    "places": (
        "{y} = ReduceMean<keepdims = 1>(m, places)", lambda m: m.mean((2, 3), keepdim=True)
    ),
    "pool": ("{y} = GlobalAveragePool(m)", lambda m: m.mean((2, 3), keepdim=True)),
    "halves": (
        "{y}a, {y}b = Split<axis = 1>(m, parts)\n{y}c = Concat<axis = 1>({y}b, {y}a)\n"
        "{y}d = Mul({y}c, weight)\n{y}e = Slice(m, one, two, first)\n{y} = Mul({y}d, {y}e)",
        lambda m: torch.cat([m[:, 1:], m[:, :1]], 1) * W[:1] * m[:, 1:2],
    ),
}  # fmt: skip
NUMBERS = {
    "rows": [2], "columns": [3], "places": [2, 3], "parts": [1, 2], "one": [1], "two": [2],
    "first": [1],
}  # fmt: skip
SETS = [
    ("sine", "exponential"), ("sine", "exponential", "itself"),
    ("sine", "itself", "square", "exponential"), ("halves", "itself"), ("rows", "columns"),
    ("rows", "sine"), ("places", "pool"), ("places", "pool", "rows"), ("pool", "columns", "sine"),
    ("sine", "exponential", "places", "itself", "rows", "halves"),
]  # fmt: skip


@pytest.mark.parametrize("target", ["portable", "openvino"])
@pytest.mark.parametrize("readers", SETS, ids="-".join)
@pytest.mark.parametrize("at", ["middle", "input"])
def test_all_readers_count(at: str, readers: tuple[str, ...], target: Target) -> None:
    """Each has a weight of its own, so that none can stand for another."""
    values = np.random.default_rng(0).standard_normal((2, *SHAPE[1:]))
    x = torch.tensor(values, requires_grad=True)
    m = torch.tanh(x) if at == "middle" else x
    total, lines = torch.zeros(()), ["m = Tanh(x)" if at == "middle" else ""]
    for i, name in enumerate(readers):
        text, function = READERS[name]
        total = total + (0.7 + i) * function(m)
        factor = f"y{i} = Mul(u{i}, f{i})"
        lines += [text.format(y=f"u{i}"), factor]
    body = (
        "\n".join(lines)
        .replace("(m", "(x" if at == "input" else "(m")
        .replace(", m", ", x" if at == "input" else ", m")
    )
    constants = [f"float f{i} = {{{0.7 + i}}}" for i in range(len(readers))]
    constants += [f"int64[{len(v)}] {k} = {{{', '.join(map(str, v))}}}" for k, v in NUMBERS.items()]
    numbers = ", ".join(map(str, W.numpy().astype(np.float32)[:1].ravel()))
    constants.append(f"float[1, 3, 4, 5] weight = {{{numbers}}}")
    terms = ", ".join(f"y{i}" for i in range(len(readers)))
    model = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 20]> '
        "net (float[N, 3, 4, 5] x) => (float[N, 3, H, V] z) "
        f"<{', '.join(constants)}> {{ {body}\nz = Sum({terms}) }}"
    )
    made = differentiate(model, seed="seed", target=target)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(
        made.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    seeds = np.random.default_rng(2).standard_normal((3, *total.shape))
    feed = {"x": values.astype(np.float32), "seed": seeds.astype(np.float32)}
    found = session.run(["gradient"], feed)[0]
    for k in range(3):
        (expected,) = torch.autograd.grad(total, x, torch.tensor(seeds[k]), retain_graph=True)
        np.testing.assert_allclose(found[k], expected, rtol=1e-4, atol=1e-5)
