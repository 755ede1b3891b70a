"""A small classifier whose last steps a test writes, in ONNX's own text."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper, parser

CLASSES, FEATURES, SIZE = 5, 8, 16


def tailed(
    lines: str, outputs: str, *, batch: int | str = "N", constants: dict[str, object] | None = None
) -> onnx.ModelProto:
    """Conv "c", Relu "r", pooling "g", Flatten "f" [N,8], Gemm "head" [N,5], and then ``lines``.

    Args:
        lines: nodes in ONNX's text, such as ``p = Softmax<axis = 1>(head)``, one a line.
        outputs: names with their types and shapes as ONNX writes them: ``float[N, 5] p``.
        batch: the input's first length.
        constants: more arrays that the lines may use; floats become float32, integers int64.
    """
    body = "\n".join(
        [
            "c = Conv<pads = [1, 1, 1, 1]>(x, w, wb)",
            "r = Relu(c)",
            "g = GlobalAveragePool(r)",
            "f = Flatten(g)",
            "head = Gemm(f, v, vb)",
            *(line for line in map(str.strip, lines.splitlines()) if line),
        ]
    )
    graph = parser.parse_graph(
        f"small (float[{batch}, 3, {SIZE}, {SIZE}] x) => ({outputs}) {{\n{body}\n}}"
    )
    for i, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{i}"
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.standard_normal((FEATURES, 3, 3, 3)) * 0.4,
        "wb": rng.standard_normal(FEATURES) * 0.1,
        "v": rng.standard_normal((FEATURES, CLASSES)),
        "vb": rng.standard_normal(CLASSES),
        **(constants or {}),
    }
    for name, value in weights.items():
        array = np.asarray(value)
        kind = np.float32 if array.dtype.kind == "f" else np.int64
        graph.initializer.append(numpy_helper.from_array(array.astype(kind), name))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


__all__ = ["CLASSES", "FEATURES", "SIZE", "tailed"]
