"""The kernels that the nodes of a graph become, with their bytes and operations."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import onnx_ir as ir

from ...graph.values import attribute
from .kinds import KINDS

FREE = frozenset({
    "Constant", "Flatten", "Identity", "Reshape", "Shape", "Size", "Squeeze", "Unsqueeze",
})  # a view of the same bytes, or nothing at all  # fmt: skip
PRODUCTS = frozenset({"Conv", "ConvTranspose", "Einsum", "FusedMatMul", "Gemm", "MatMul"})
MASKS = frozenset({
    "And", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "Or", "Sign",
})  # fmt: skip
MOVES = frozenset({
    "Concat", "DepthToSpace", "Expand", "Gather", "GatherElements", "GatherND", "ScatterElements",
    "ScatterND", "Slice", "SpaceToDepth", "Split", "Tile", "Transpose",
})  # fmt: skip
ELEMENTWISE = frozenset({
    "Abs", "Add", "Clip", "Div", "Elu", "Erf", "Exp", "HardSigmoid", "HardSwish", "LeakyRelu",
    "Log", "Max", "Min", "Mod", "Mul", "Neg", "PRelu", "Pow", "Reciprocal", "Relu", "Sigmoid",
    "Softplus", "Sqrt", "Sub", "Sum", "Tanh", "Where",
})  # fmt: skip
GELUS = frozenset({"BiasGelu", "FastGelu", "Gelu", "QuickGelu"})
NORMALISATION = frozenset({
    "BatchNormalization", "GroupNormalization", "InstanceNormalization", "LayerNormalization",
    "LogSoftmax", "SkipLayerNormalization", "Softmax",
})  # fmt: skip
STEEP = 1e3  # a HardSigmoid with such a slope is a mask
# Which convolution brings its tensors into another layout cuDNN decides; on the H100 these shares
# of the bytes of inputs and outputs were.
LAYOUT_IN, LAYOUT_OUT = 0.42, 0.25


@dataclasses.dataclass(frozen=True)
class Launch:
    """One kernel.

    Attributes:
        node: name of the node that it is of.
        operator: of that node.
        kind: a key of `KINDS`.
        moved: bytes read and written.
        elements: elements written.
        operations: multiplications and additions.
        width: bytes of an element read.
    """

    node: str
    operator: str
    kind: str
    moved: int
    elements: int
    operations: int = 0
    width: int = 4

    @property
    def seconds(self) -> float:
        """The time that it takes."""
        return KINDS[self.kind].seconds(self.moved, self.elements, self.operations, self.width)


def launches(graph: ir.Graph) -> list[Launch]:
    """The kernels of a graph whose shapes and types are all known.

    What depends on constants alone is computed when a session opens, and shapes on the CPU.
    """
    folded = {value for value in graph.initializers.values() if value.const_value is not None}
    found: list[Launch] = []
    for node in graph:
        read = [x for x in node.inputs if x is not None]
        if node.op_type == "Constant" or (read and all(x in folded for x in read)):
            folded.update(node.outputs)
        elif node.op_type not in FREE and not _shapes_only(node):
            found += _of(node)
    return found


def _shapes_only(node: ir.Node) -> bool:
    """Whether a few integers come out, which is done where Reshape reads them."""
    return all(y.dtype == ir.DataType.INT64 and elements(y) <= 16 for y in node.outputs)


def _of(node: ir.Node) -> Iterator[Launch]:
    kind = kind_of(node)
    read = [x for x in node.inputs if x is not None]
    made = [y for y in node.outputs if y.name]
    first, result = read[0], made[0]
    moved = sum(map(size, (*read, *made)))
    if node.op_type in ("Gather", "Slice", "GatherElements"):
        moved = 2 * size(result)
    width = _width(first)

    def launch(kind: str, moved: float, operations: int = 0) -> Launch:
        count = sum(map(elements, made))
        return Launch(node.name or "", node.op_type, kind, int(moved), count, operations, width)

    if node.op_type not in ("Conv", "ConvTranspose"):
        yield launch(kind, moved, operations_of(node) if node.op_type in PRODUCTS else 0)
        return
    has_bias = len(read) > 2
    yield launch(kind, moved - (size(read[2]) if has_bias else 0), operations_of(node))
    if kind != "depthwise":
        yield launch("layout", 2 * (LAYOUT_IN * size(first) + LAYOUT_OUT * size(result)))
    if has_bias:
        yield launch("bias", 2 * size(result))


def kind_of(node: ir.Node) -> str:
    """The kind of a node's (main) kernel."""
    operator, shape = node.op_type, dims(node.outputs[0])
    if operator in ("Conv", "ConvTranspose"):
        group, channels = attribute(node, "group", 1), dims(node.inputs[0])[1]
        if group > 1 and group == channels:
            return "depthwise"
        strided = operator == "ConvTranspose" and max(attribute(node, "strides", [1])) > 1
        return "strided product" if strided else "product"
    if operator in PRODUCTS:
        return "odd product" if _odd(node) else "product"
    if operator == "Cast":
        # Of a mask to a float, not between floats.
        bools = ir.DataType.BOOL in (node.inputs[0].dtype, node.outputs[0].dtype)  # type: ignore[union-attr]
        return "mask" if bools else "cast"
    steep = operator == "HardSigmoid" and abs(attribute(node, "alpha", 0.2)) > STEEP
    if operator in MASKS or steep:
        return "mask"
    if operator in ELEMENTWISE:
        whole = [x for x in node.inputs if x is not None and elements(x) > 1]
        return "elementwise" if all(dims(x) == shape for x in whole) else "broadcast"
    if operator == "Pad":
        return "move" if _pads_maps(node) else "pad"
    if operator in GELUS:
        return "gelu"
    if operator.startswith(("Reduce", "Arg")) or operator in NORMALISATION or operator == "TopK":
        return "reduction"
    if operator in MOVES:
        return "move"
    return "pool" if operator.endswith("Pool") else "other"


def operations_of(node: ir.Node) -> int:
    """Multiplications and additions of a product."""
    a, b, y = node.inputs[0], node.inputs[1], node.outputs[0]
    if node.op_type == "ConvTranspose":
        return 2 * elements(a) * math.prod(dims(b)[1:])
    if node.op_type == "Conv":
        return 2 * elements(y) * math.prod(dims(b)[1:])
    if node.op_type == "Einsum":
        return 2 * max(map(elements, (a, b, y)))
    # a is [batch, m, k], b [batch, k, n] or [k, n], each transposed or not.
    batch = math.prod(dims(y)[:-2]) if min(len(dims(a)), len(dims(b))) > 2 else 1
    inner = math.sqrt(elements(a) * elements(b) / max(elements(y), 1) / max(batch, 1))
    return 2 * elements(y) * round(inner)


def _odd(node: ir.Node) -> bool:
    """Whether rows of a factor or of the product begin off multiples of 16 bytes."""
    for value in (*node.inputs[:2], *node.outputs):
        shape = dims(value)
        if shape and elements(value) > 2**20 and shape[-1] * _width(value) % 16:
            return True
    return False


def _pads_maps(node: ir.Node) -> bool:
    """Whether a Pad lengthens height and width of rank 4 alone, which has a kernel of its own."""
    pads, rank = node.inputs[1], len(dims(node.inputs[0]))
    if pads is None or pads.const_value is None or rank != 4 or len(node.inputs) > 3:
        return False
    given = pads.const_value.numpy()
    return attribute(node, "mode", "constant") == "constant" and not any(given[[0, 1, 4, 5]])


def dims(value: ir.Value | None) -> tuple[int, ...]:
    """A tensor's shape; () where it is not known."""
    if value is None or value.shape is None:
        return ()
    return tuple(d if isinstance(d, int) else 1 for d in value.shape)


def elements(value: ir.Value | None) -> int:
    """How many elements a tensor has."""
    return math.prod(dims(value))


def size(value: ir.Value) -> int:
    """Bytes of a tensor."""
    return elements(value) * _width(value)


def _width(value: ir.Value | None) -> int:
    if value is None or value.dtype is None:
        return 4
    return max(int(value.dtype.itemsize), 1)


__all__ = ["Launch", "dims", "elements", "launches", "size"]
