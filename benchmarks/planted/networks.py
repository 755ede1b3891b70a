"""Small classifiers in ONNX's own text, one for each kind of code that a fault is planted in.

Nothing in them is symmetric: height and width, strides, pads and classes differ, so that what is
mixed up shows in an output.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, parser

CLASSES = 5
MICROSOFT = "com.microsoft"


@dataclasses.dataclass(frozen=True)
class Network:
    """A classifier of images x [N,3,height,width].

    Attributes:
        lines: nodes in ONNX's text, one a line. The last makes z, of which a matrix makes scores.
        length: numbers in z for an image.
        weights: shapes of random weights by name.
        constants: other numbers by name.
        size: height and width.
        batch: the length that the file gives its first axis; "N": any.
        opset: of the standard's operators.
        options: of the export.
    """

    lines: str
    length: int
    weights: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    constants: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    size: tuple[int, int] = (14, 12)
    batch: int | str = "N"
    opset: int = 20
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def model(self) -> onnx.ModelProto:
        """The classifier, its weights seeded."""
        height, width = self.size
        graph = parser.parse_graph(
            f"net (float[{self.batch}, 3, {height}, {width}] x) => "
            f"(float[{self.batch}, {CLASSES}] y) {{ {self.lines}\n"
            "flat = Flatten(z)\ny = MatMul(flat, head) }"
        )
        for index, node in enumerate(graph.node):
            node.name = f"{node.op_type}_{index}"
        rng = np.random.default_rng(0)
        made = {k: _random(rng, s) for k, s in {**self.weights, "head": (self.length, 5)}.items()}
        for name, value in {**made, **self.constants}.items():
            array = np.asarray(value)
            array = array.astype(np.float32) if array.dtype == np.float64 else array
            graph.initializer.append(numpy_helper.from_array(array, name))
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def _random(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Such that numbers stay about as large as they were."""
    return rng.standard_normal(shape) / math.sqrt(max(math.prod(shape) / shape[0], 1))


FLOAT = {"input": "float32", "maps": "gradient"}
CONV = "c = Conv<kernel_shape = [3, 3]>(x, w)\n"
W = {"w": (4, 3, 3, 3)}


def convolved(lines: str, length: int = 4 * 12 * 10, **fields: Any) -> Network:
    """Those lines on c [N,4,12,10], a convolution of the image."""
    weights = {**W, **fields.pop("weights", {})}
    given: dict[str, Any] = {"options": FLOAT, **fields}
    return Network(CONV + lines, length, weights, **given)


MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
GRIDS = Network(  # feature maps of 8 x 6 cells of 4 pixels
    """a = Conv<kernel_shape = [5, 5], strides = [4, 4], pads = [2, 2, 2, 2]>(x, w)
    b = Tanh(a)
    c = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(b, v)
    d = Softplus(c)
    e = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(d, u)
    z = Tanh(e)""",
    6 * 8 * 6,
    {"w": (6, 3, 5, 5), "v": (6, 6, 3, 3), "u": (6, 6, 3, 3)},
    size=(32, 24),
    options={"input": "float32", "maps": ("saliency", "features", "gradcam", "layercam")},
)
PIXELS = convolved(
    "z = Tanh(c)", options={"mean": MEAN, "std": STD, "bgr": True, "maps": ("saliency", "gradient")}
)
BETWEEN = np.stack(np.meshgrid([-0.6, 0.2, 0.8], np.array([-5, -3, 0, 2, 5]) / 6), -1)
"""Places (x, y) [5,3,2], each halfway between the pixels of [12,10]."""
NETWORKS = {
    "Gelu": convolved("z = Gelu(c)"),
    "Div": convolved("a = Softplus(c)\nz = Div(c, a)"),
    "Conv": convolved(
        "z = Conv<kernel_shape = [3, 2], pads = [1, 0, 0, 1]>(c, v)",
        5 * 11 * 10, weights={"v": (5, 4, 3, 2)},
    ),
    "Reciprocal": convolved("a = Softplus(c)\nz = Reciprocal(a)"),
    "DFT": convolved(
        "a = Unsqueeze(c, last)\nb = DFT<onesided = 1>(a)\nz = Tanh(b)", 4 * 12 * 6 * 2,
        constants={"last": [4]},
    ),
    "ScatterElements": convolved(
        "a = Tanh(c)\nb = Flatten(a)\nk = Shape<start = 0, end = 1>(x)\nl = Concat<axis = 0>(k, two)"
        "\ni = Expand(places, l)\nu = Slice(b, zero, six, one)\nz = ScatterElements<axis = 1>(b, i, u)",
        constants={"two": [6], "places": [[9, 77, 8, 300, 41, 12]], "zero": [0], "six": [6], "one": [1]},
    ),
    "InstanceNormalization": convolved(
        "z = InstanceNormalization(c, s, t)", weights={"s": (4,), "t": (4,)}
    ),
    "quantised MaxPool": convolved(
        "q = QuantizeLinear(c, step, zero)\nd = DequantizeLinear(q, step, zero)\n"
        "z = MaxPool<kernel_shape = [3, 2], strides = [2, 2], pads = [1, 0, 1, 0]>(d)",
        4 * 6 * 5, constants={"step": 0.5, "zero": np.uint8(100)},
    ),
    "square Gemm": convolved(
        "a = Tanh(c)\nm = ReduceMean<keepdims = 0>(a, axes)\nz = Gemm(m, u)", 4,
        weights={"u": (4, 4)}, constants={"axes": [2, 3]},
    ),
    "QuantizeLinear": convolved(
        "q = QuantizeLinear(c, step, zero)\nz = DequantizeLinear(q, step, zero)",
        constants={"step": 0.004, "zero": np.uint8(100)},
    ),
    "LSTM": convolved(
        "t = Transpose<perm = [2, 0, 1, 3]>(c)\ns = Reshape(t, shape)\n"
        "h, i, j = LSTM<hidden_size = 3>(s, k, r)\nz = Transpose<perm = [2, 0, 1, 3]>(h)",
        12 * 3, weights={"k": (1, 12, 40), "r": (1, 12, 3)}, constants={"shape": [12, -1, 40]},
    ),
    "ReduceMean": convolved(
        "a = Tanh(c)\nz = ReduceMean<keepdims = 0>(a, axes)", 4, constants={"axes": [2, 3]}
    ),
    "LeakyRelu": convolved("z = LeakyRelu<alpha = 0.2>(c)"),
    "Clip": convolved("z = Clip(c, low, high)", constants={"low": 0.0, "high": 0.7}),
    "Resize": convolved(
        'z = Resize<mode = "linear">(c, , scales)', 4 * 15 * 14,
        constants={"scales": np.array([1, 1, 1.3, 1.45], np.float32)},
    ),
    "GridSample": convolved(  # between pixels, where it has no kinks
        "m = Conv<kernel_shape = [6, 6], strides = [2, 3]>(x, v)\nt = Tanh(m)\ns = Mul(t, little)\n"
        "r = Transpose<perm = [0, 2, 3, 1]>(s)\ng = Add(r, places)\nz = GridSample(c, g)",
        4 * 5 * 3, weights={"v": (2, 3, 6, 6)}, constants={"little": 0.01, "places": BETWEEN},
    ),
    "DepthToSpace": convolved('z = DepthToSpace<blocksize = 2, mode = "CRD">(c)'),
    "Cos": convolved("z = Cos(c)"),
    "branches": convolved("a = Tanh(c)\nb = Sin(c)\nd = Softplus(c)\ne = Mul(a, b)\nz = Add(e, d)"),
    "broadcast": convolved(
        "m = ReduceMax<keepdims = 1>(c, axes)\ns = Sigmoid(c)\nz = Mul(s, m)", constants={"axes": [3]}
    ),
    "Gather": convolved(
        "z = Gather<axis = 2>(c, places)", 4 * 5 * 10, constants={"places": [7, 0, 11, 3, 4]}
    ),
    "SiLU": convolved("s = Sigmoid(c)\nz = Mul(c, s)"),
    "pooled ReLU": convolved(
        "r = Relu(c)\nz = MaxPool<kernel_shape = [2, 3], strides = [2, 2]>(r)", 4 * 6 * 4
    ),
    "pixels": PIXELS,
    "grids": GRIDS,
    "half": dataclasses.replace(GRIDS, options={**GRIDS.options, "precision": "fp16"}),
    "Attention": convolved(
        "t = Transpose<perm = [0, 2, 1, 3]>(c)\ns = Reshape(t, rows)\n"
        "z = com.microsoft.Attention<num_heads = 2>(s, k, b)",
        12 * 8, weights={"k": (40, 24), "b": (24,)}, constants={"rows": [0, 12, 40]},
    ),
    "FusedConv": convolved(
        'a = Tanh(c)\nz = com.microsoft.FusedConv<activation = "LeakyRelu", activation_params = [0.1], '
        "kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(a, v, t, a)", weights={"v": (4, 4, 3, 3), "t": (4,)},
    ),
    "channels last": Network(
        "t = Transpose<perm = [0, 2, 3, 1]>(x)\nq = QuantizeLinear(t, step, zero)\n"
        "p = com.microsoft.QLinearAveragePool<channels_last = 1, kernel_shape = [3, 2], "
        "strides = [1, 2]>(q, step, zero, step, zero)\nz = DequantizeLinear(p, step, zero)",
        3 * 10 * 6, size=(12, 12), options=FLOAT,
        constants={"step": 0.04, "zero": np.uint8(100)},
    ),
    "MatMulNBits": convolved(
        "m = ReduceMean<keepdims = 0>(c, axes)\nt = Tanh(m)\n"
        "z = com.microsoft.MatMulNBits<K = 12, N = 6, bits = 4, block_size = 16>(t, packed, scales)",
        4 * 6, weights={"scales": (6,)}, constants={
            "axes": [3], "packed": np.random.default_rng(1).integers(0, 256, (6, 1, 8)).astype(np.uint8),
        },
    ),
    "Scan": convolved(
        "a = Tanh(c)\nt = Transpose<perm = [2, 0, 1, 3]>(a)\nh0 = ReduceMean<keepdims = 0>(a, rows)\n"
        "last, each = Scan<num_scan_inputs = 1, body = turn "
        "(float[N, 4, 10] h, float[N, 4, 10] s) => (float[N, 4, 10] h1, float[N, 4, 10] o) "
        "{ p = Mul(h, s)\nh1 = Add(p, s)\no = Identity(h1) }>(h0, t)\n"
        "z = Transpose<perm = [1, 2, 0, 3]>(each)", constants={"rows": [2]},
    ),
}  # fmt: skip
"""Name -> classifier."""
