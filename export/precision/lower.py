"""Half precision, written into the finished float32 graph: typed initializers and casts.

TensorRT 11 has no fp16 flag, and other engines never had one: the types in the file are what runs.
float32 (or uint8) goes in and float32 comes out. There are two ways.

``fp16``, for GPUs: all of it is in float16, the forward pass too. Sums, softmax and the statistics
of normalisation are added up in float32 within their kernels. TF32, which GPUs multiply float32 in
by default, has the same ten bits, so a float32 forward pass buys nothing there. In float32 stays

* what is compared for equality, both sides from one copy of the tensor: ONNX Runtime's CPU provider
  hands a float16 tensor rounded to one node and as it was to another;
* a tensor that was, in test runs, too large or too small for float16, and what makes and reads it.

``mixed`` (and ``bf16``), where the maps must be float32's: in float32 stays, besides,

* what a mask of the backward pass depends on. A gradient jumps where a ReLU, a clip or a maximum
  switches, and rounding to half precision switches many: a trained MobileNetV2 comes out at a
  median cosine of 0.985, ShuffleNetV2 at 0.983. So whatever a comparison needs of the forward
  pass is left as it is, and so are the masks (steps with a slope of 3e38, paddings of -3.4e38);
* what adds up many numbers or curves steeply (all but the operators listed in PLAIN).

The rest (the backward pass, smooth networks whole) is in half precision wherever that is worth its
casts. Gradients underflow float16, so the seed is multiplied by a power of two, which is divided
out again in float32.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import onnx
import onnx.version_converter
import onnx_ir as ir
from onnx_ir.passes import common as passes

from ...runtime.arrays import Array
from ...runtime.contract import Contract
from ..graph.protos import with_outputs
from ..graph.values import attribute
from ..graph.weights import Detached, detach, session, through
from ..options import Half
from ..probes import smooth_noise
from ..wrap import GRADIENT, is_for_verification
from .cut import FOREVER, Network
from .rounding import rounded
from .scaling import (
    LARGEST,
    LINEAR,
    PRODUCTS,
    SMALLEST,
    Range,
    gradients,
    named,
    peaks,
    scaled,
    upstream,
    users_of,
)
from .types import SHAPES, infer_types, is_float, retype

PRECISIONS: dict[Half, ir.DataType] = {
    "fp16": ir.DataType.FLOAT16, "mixed": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16,
}  # fmt: skip
MOVES = frozenset({
    "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND",
    "GlobalMaxPool", "Identity", "MaxPool", "Pad", "ReduceMax", "ReduceMin", "Reshape", "Slice",
    "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Trilu", "Unsqueeze",
})  # the numbers that come out went in  # fmt: skip
ELEMENTWISE = frozenset({
    "Abs", "Add", "Cast", "Clip", "Div", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Max",
    "Min", "Mul", "Neg", "PRelu", "Relu", "Sigmoid", "Sub", "Sum", "Tanh", "Where",
})  # fmt: skip
PLAIN = PRODUCTS | MOVES | ELEMENTWISE
INSIDE = frozenset({
    "AveragePool", "BatchNormalization", "Equal", "Erf", "Exp", "GlobalAveragePool", "Greater",
    "GreaterOrEqual", "InstanceNormalization", "LayerNormalization", "Less", "LessOrEqual", "Log",
    "LogSoftmax", "Pow", "Reciprocal", "ReduceMean", "ReduceSum", "Softmax", "Softplus", "Sqrt",
})  # kernels on GPUs compute in float32 inside and round what comes out  # fmt: skip
CHOOSE = MOVES | {"Clip", "Max", "Min", "Relu"}  # so does what comes out of these
STEPS = frozenset({"Ceil", "Floor", "Round", "Sign"})

COSINE, SCORES = 0.9995, 5e-3  # on test images, for the forward pass to be in half precision


@dataclasses.dataclass(frozen=True)
class Rounding:
    """What half precision does to a file, on test images and their two best classes.

    Attributes:
        cosine: the median of the cosines of its gradients with float32's.
        least: the least of them.
        scores: largest difference of a score, over the largest score.
    """

    cosine: float
    least: float
    scores: float


def lower(model: ir.Model, contract: Contract, precision: Half) -> tuple[ir.Model, Rounding]:
    """Rewrite a finished float32 Backlit graph to half precision.

    Args:
        model: the graph, its last output the gradient, ``GRADIENT``; not usable afterwards.
        contract: its metadata, which says what images it takes.
        precision: a key of `PRECISIONS`.

    Returns:
        A new model; all of it in half precision, or, but for ``fp16``, the forward pass as far as
        masks and, on test images, the gradient's direction allow. And how far off it is.
    """
    to = PRECISIONS[precision]
    if to == ir.DataType.BFLOAT16:
        model = through(model, _newer)
    infer_types(model)
    ranges: dict[str, Range] = {}
    if to == ir.DataType.FLOAT16:  # bfloat16 reaches as far as float32
        ranges = scaled(model, peaks(model, contract))
    expected = _run(detach(model), contract, optimise=True)
    if precision == "fp16":
        retype(model.graph, whole(model.graph, ranges), to)
        passes.RemoveUnusedNodesPass()(model)
        return model, _rounding(expected, model, contract)
    for forward in (True, False):
        lowered = model.clone()
        retype(lowered.graph, _halves(lowered.graph, ranges, forward), to)
        passes.RemoveUnusedNodesPass()(lowered)
        off = _rounding(expected, lowered, contract)
        if off.least >= COSINE and off.scores <= SCORES:
            break
    return lowered, off


def _newer(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Opset 22 or later, the first with bfloat16 in Conv and its kin."""
    version = next(o.version for o in proto.opset_import if o.domain == "")
    return onnx.version_converter.convert_version(proto, max(version, 22))


def _run(model: Detached, contract: Contract, optimise: bool) -> tuple[Array, Array]:
    """Gradients [K*N, ...] and scores of the test images, for the two best classes."""
    engine = session(model.replace(with_outputs(model.proto, [GRADIENT, "scores"])), optimise)
    _, images = smooth_noise(contract)
    index = np.tile([-1, -min(contract.score.classes, 2)], (len(images), 1))
    gradient, scores = engine.run([GRADIENT, "scores"], {"image": images, "class_index": index})
    return gradient.reshape(index.size, -1).astype(np.float64), scores


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # inf or NaN is not near
def _rounding(expected: tuple[Array, Array], model: ir.Model, contract: Contract) -> Rounding:
    """How far a lowered graph is from the one that it was made of, every tensor rounded."""
    right, scores = expected
    gradient, rounded_scores = _run(detach(rounded(model)), contract, optimise=False)
    lengths = np.linalg.norm(right, axis=1) * np.linalg.norm(gradient, axis=1)
    cosines = (right * gradient).sum(1) / np.maximum(lengths, 1e-300)
    off = np.abs(scores - rounded_scores).max() / np.abs(scores).max()
    return Rounding(float(np.median(cosines)), float(cosines.min()), float(off))


def whole(graph: ir.Graph, ranges: Mapping[str, Range]) -> set[ir.Node]:
    """The nodes to compute in half precision where all may be that can be."""
    typed = _typed(graph)
    single = {n for n in typed if not _may(n, PLAIN | INSIDE) or _steep(n)}
    for node in typed:
        # A small number that is added (an epsilon) may lose digits: the sum has none of them.
        added = node.op_type == "Add"
        values = [v for v in _values(node) if not (added and v.const_value is not None)]
        if any(_lost(v, ranges) for v in values):
            single.add(node)
    return set(typed) - single - _compared(typed) - _at_scale(graph)


def _at_scale(graph: ir.Graph) -> set[ir.Node]:
    """What divides the power of two out of maps, and what follows: too small for float16."""
    maps = [named(graph, GRADIENT), *(y for y in graph.outputs if y.name in LINEAR)]
    found: set[ir.Node] = set()
    stack = [node for value in maps if (node := value.producer()) is not None]
    while stack:
        node = stack.pop()
        if node not in found:
            found.add(node)
            stack += [user for y in node.outputs for user in users_of(y)]
    return found


def _compared(typed: list[ir.Node]) -> set[ir.Node]:
    """What compares floats for equality, and what chose them among others."""
    found: set[ir.Node] = set()
    stack = [n for n in typed if n.op_type == "Equal" and is_float(n.inputs[0])]
    while stack:
        node = stack.pop()
        if node not in found:
            found.add(node)
            makers = [x.producer() for x in node.inputs if is_float(x)]  # type: ignore[union-attr]
            stack += [n for n in makers if n is not None and n.op_type in CHOOSE]
    return found


def _halves(graph: ir.Graph, ranges: Mapping[str, Range], forward: bool) -> set[ir.Node]:
    """The nodes to compute in half precision, with or without the forward pass."""
    typed = _typed(graph)
    single = _exact(graph)
    single |= {n for n in typed if not _may(n, PLAIN) or any(_lost(v, ranges) for v in _values(n))}
    if not forward:
        linear, _ = gradients(graph)
        single |= {n for n in typed if linear.isdisjoint(n.outputs)}
    for node in reversed(typed):  # what only float32 reads need not be rounded first
        users = {n for y in node.outputs for n in users_of(y)}
        if node.op_type in ELEMENTWISE and users and users <= single:
            single.add(node)
    return set(typed) - _cheapest(graph, typed, single)


def _cheapest(graph: ir.Graph, typed: list[ir.Node], single: set[ir.Node]) -> set[ir.Node]:
    """The nodes to leave in float32: those that must be, and others where it saves casts.

    A minimum cut: a cast costs 2 (it reads and writes a tensor), a node that could be in half
    precision 1 (it reads and writes twice the bytes). One cast serves all that read a tensor.
    """
    net = Network()
    for node in typed:
        if node in single:
            net.edge(node, net.SINK, FOREVER)
        elif node.op_type in PRODUCTS:
            net.edge(net.SOURCE, node, FOREVER)
        else:
            net.edge(net.SOURCE, node, 1)
    values = [*graph.inputs, *(y for n in graph for y in n.outputs)]
    # What is taken out after verification does not weigh.
    outputs = {y for y in graph.outputs if y.name == GRADIENT or not is_for_verification(y)}
    for value in filter(is_float, values):
        producer = value.producer() or net.SINK
        users = [*users_of(value), *([net.SINK] if value in outputs else [])]
        net.edge(producer, ("down", value), 2)
        net.edge(("up", value), producer, 2)
        for user in users:
            net.edge(("down", value), user, FOREVER)
            net.edge(user, ("up", value), FOREVER)
    return {n for n in net.sink_side(typed) if isinstance(n, ir.Node)}


def _exact(graph: ir.Graph) -> set[ir.Node]:
    """What a comparison on the way to the gradient depends on, and what follows the gradient.

    The choice of the class is a comparison too, but scores within rounding are equally good.
    """
    exact: set[ir.Node] = set()
    for node in upstream(named(graph, GRADIENT)):
        if node not in exact and _decides(node):
            exact |= {node, *(n for x in node.inputs if x for n in upstream(x, exact))}
    unscaled = _unscaled(graph)
    if unscaled is not None:
        exact.add(unscaled)
    return exact


def _unscaled(graph: ir.Graph) -> ir.Node | None:
    """What divides the power of two out of the gradient."""
    found = named(graph, GRADIENT).producer()
    return None if found is None or found.op_type in PRODUCTS else found


def _decides(node: ir.Node) -> bool:
    """Whether the node's output jumps: a comparison, a mask, a rounding."""
    if node.op_type == "HardSigmoid":
        return _steep(node)
    if node.op_type in SHAPES or not any(is_float(x) for x in node.inputs):
        return False
    return node.op_type in STEPS or not all(is_float(y) for y in node.outputs)


def _steep(node: ir.Node) -> bool:
    """Whether a HardSigmoid is a mask: its slope is beyond float16."""
    return node.op_type == "HardSigmoid" and bool(abs(attribute(node, "alpha", 0.2)) > 1e3)


def _may(node: ir.Node, operators: frozenset[str]) -> bool:
    """Whether half precision is good enough for the operator (and its types are plain)."""
    mask = all(y.dtype == ir.DataType.BOOL for y in node.outputs)
    plain = mask or all(is_float(y) for y in node.outputs)
    inside = all(user.graph is node.graph for y in node.outputs for user in users_of(y))
    return plain and inside and node.op_type in operators


def _typed(graph: ir.Graph) -> list[ir.Node]:
    """The nodes that read or make float32."""
    return [n for n in graph if n.op_type not in SHAPES and any(map(is_float, _values(n)))]


def _lost(value: ir.Value, ranges: Mapping[str, Range]) -> bool:
    """Whether float16 would lose a tensor, by its peaks."""
    low, high = ranges.get(str(value.name), (1.0, 1.0))
    return is_float(value) and not SMALLEST <= low <= high <= LARGEST


def _values(node: ir.Node) -> list[ir.Value]:
    return [v for v in (*node.inputs, *node.outputs) if v is not None]
