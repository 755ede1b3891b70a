"""Would TensorRT take the graph whole? The static part: what its parser is known to refuse.

Measured with the parser of TensorRT-RTX 1.7.1 over onnx's own operator tests (see also check.py,
which asks that parser itself). A graph that passes here may still be refused for shapes or types;
that is what the parser is for.
"""

from __future__ import annotations

import dataclasses

import onnx_ir as ir

from ..graph.values import FLOATS, attribute, constant

MISSING = frozenset(
    {
        "AffineGrid", "Bernoulli", "BitCast", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr",
        "BitwiseXor", "CausalConvWithState", "CenterCropPad", "Col2Im", "Compress",
        "ConcatFromSequence", "ConvInteger", "CumProd", "DFT", "DeformConv", "Det",
        "DynamicQuantizeLinear", "ImageDecoder", "LinearAttention", "MatMulInteger", "MaxRoiPool",
        "MaxUnpool", "MelWeightMatrix", "Multinomial", "NegativeLogLikelihoodLoss", "NonZero",
        "Optional", "OptionalGetElement", "OptionalHasElement", "QLinearConv", "QLinearMatMul",
        "RegexFullMatch", "RoiAlign", "SequenceAt", "SequenceConstruct", "SequenceEmpty",
        "SequenceErase", "SequenceInsert", "SequenceLength", "SequenceMap",
        "SoftmaxCrossEntropyLoss", "SplitToSequence", "StringConcat", "StringNormalizer",
        "StringSplit", "SwiGLU", "TfIdfVectorizer", "Unique",
    }
)  # fmt: skip
"""Standard operators that the parser has not, or only by a plugin that is not there."""

_CONTROL = {"If", "Loop", "Scan"}
_ONE_OUTPUT = {"MaxPool", "LayerNormalization", "Attention"}
_CONSTANT = {"Pad": (1,), "OneHot": (1,), "CumSum": (1,), "Resize": (1, 2), "STFT": (2,)}
_NO_DTYPE = {
    ir.DataType.INT16, ir.DataType.UINT16, ir.DataType.UINT32, ir.DataType.UINT64,
    ir.DataType.STRING, ir.DataType.COMPLEX64, ir.DataType.COMPLEX128,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Refused:
    """A node that TensorRT does not take: its name, operator and the reason."""

    node: str
    operator: str
    reason: str

    def __str__(self) -> str:
        return f"{self.operator} {self.node!r}: {self.reason}"


def audit(graph: ir.Graph) -> list[str]:
    """Every node that TensorRT refuses, with the reason; empty when there is none."""
    return [str(found) for found in refused(graph)]


def refused(graph: ir.Graph) -> list[Refused]:
    """Every node that TensorRT is known to refuse."""
    found = []
    for node in graph:
        if why := _problem(node):
            kind = node.op_type if _standard(node) else f"{node.domain}::{node.op_type}"
            found.append(Refused(node.name or "", kind, why))
    return found


def _problem(node: ir.Node) -> str | None:
    if not _standard(node):
        return f"not a standard operator (domain {node.domain!r})"
    if node.op_type in MISSING:
        return "TensorRT has no such operator"
    if node.op_type in _CONTROL:
        return "control flow: taken in part at best, and no CUDA graph can hold it"
    if node.op_type in _ONE_OUTPUT and any(y.name for y in node.outputs[1:]):
        return "only its first output is taken"
    return _by_types(node) or _by_inputs(node) or _by_attributes(node)


def _by_types(node: ir.Node) -> str | None:
    kind, types = node.op_type, [x.dtype for x in node.inputs if x is not None]
    first = types[0] if types else None
    bad = [t for t in types if t in _NO_DTYPE]
    if bad:
        return f"there is no type {bad[0].name.lower() if bad[0] else ''} in TensorRT"
    if first == ir.DataType.UINT8 and kind == "DequantizeLinear":
        return "uint8 is refused: quantise to int8"
    if first == ir.DataType.UINT8 and kind == "Transpose":
        return "a transposition of uint8 is refused: Cast first"
    if first in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16) and kind == "Celu":
        return "Celu is taken in float32 only"
    if first == ir.DataType.BOOL and kind.startswith("Reduce"):
        return "a reduction of booleans is refused"
    if kind == "Mod" and first in FLOATS and not attribute(node, "fmod", 0):
        return "Mod of floats is refused without fmod=1"
    return None


def _by_inputs(node: ir.Node) -> str | None:
    kind = node.op_type
    given = {i: x for i, x in enumerate(node.inputs) if x is not None and x.name}
    must_be = _CONSTANT.get(kind, (1,) if kind.startswith("Reduce") else ())
    for index in must_be:
        if index in given and constant(given[index]) is None:
            return f"input {index} must be constant"
    if kind == "TopK" and (k := constant(given[1])) is not None and int(k.flat[0]) > 3840:
        return "TopK of more than 3840 is refused"
    if kind == "Dropout" and 2 in given and (mode := constant(given[2])) is not None and mode.any():
        return "training mode is refused"
    if kind in ("QuantizeLinear", "DequantizeLinear") and 2 in given:
        zero = constant(given[2])
        if zero is None or zero.astype("float32").any():
            return "only a zero point of 0 is taken: quantise symmetrically"
    if kind == "MatMul" and _rank(given[0]) == 1 and _rank(given[1]) > 2:
        return "a vector times a stack of matrices is refused: give it a second axis"
    return None


def _by_attributes(node: ir.Node) -> str | None:
    kind = node.op_type
    dilated = max(attribute(node, "dilations", [1]), default=1) > 1
    if kind in ("MaxPool", "AveragePool", "LpPool") and dilated:
        return f"{kind} with dilations is refused"
    if kind == "LpPool" and attribute(node, "p", 2) not in (1, 2):
        return "only the norms 1 and 2 are taken"
    if kind == "BatchNormalization" and attribute(node, "training_mode", 0):
        return "training mode is refused"
    strided = max(attribute(node, "strides", [1]), default=1) > 1
    if kind == "ConvTranspose" and strided and dilated:
        return "stride and dilation together are refused"
    if kind in ("ScatterND", "ScatterElements") and attribute(node, "reduction", "none") != "none":
        return "scatter with a reduction is refused"
    if kind == "Resize":
        if attribute(node, "antialias", 0):
            return "antialias is refused"
        if attribute(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
            return "keep_aspect_ratio_policy is refused"
        mode = attribute(node, "coordinate_transformation_mode", "half_pixel")
        if mode in ("tf_crop_and_resize", "half_pixel_symmetric"):
            return f"coordinate_transformation_mode {mode} is refused"
    if kind == "Attention" and attribute(node, "softcap", 0.0):
        return "softcap is refused"
    return None


def _rank(value: ir.Value | None) -> int:
    return 0 if value is None or value.shape is None else len(value.shape)


def _standard(node: ir.Node) -> bool:
    return node.domain in ("", "ai.onnx")


__all__ = ["MISSING", "Refused", "audit", "refused"]
