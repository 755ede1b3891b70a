"""Replace every operator of the table of forms; refuse what is bound to one processor."""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx_ir.passes import common as passes

from ...runtime.errors import ModelError
from ..autodiff.ops import Ops
from ..graph.values import FLOATS
from . import attention, classical, former, fused, layouts, quantised, sequences, statistics
from .forms import BEFORE, FORMER, FORMS, Form, ShapeUnknownError, waiting
from .unroll import unroll

_BOUND = {
    "com.microsoft.nchwc": "hold weights in blocks whose size the file does not say",
    "com.ms.internal.nhwc": "are in a layout of one execution provider's own",
}


def set_apart(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Give operators of ONNX's domain that its opset has not a domain of their own.

    ONNX Runtime writes LayerNormalization into files of any opset; the standard has it from 17 on.
    Others (ImageScaler, Affine, ...) are of a time before ONNX had versions.
    """
    former = {op_type for domain, op_type in FORMS if domain == FORMER}
    version = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 0)

    def misplaced(node: onnx.NodeProto) -> bool:
        return (
            node.domain in ("", "ai.onnx")
            and node.op_type in former
            and not (version and onnx.defs.has(node.op_type, version, ""))
        )

    if not any(misplaced(node) for node in proto.graph.node):
        return proto
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    for node in made.graph.node:
        if misplaced(node):
            node.domain = FORMER
    made.opset_import.append(onnx.helper.make_opsetid(FORMER, 1))
    return made


def expand(model: ir.Model) -> None:
    """Replace every operator of ``FORMS``, in place.

    Raises:
        ModelError: one is there in a form that has no standard one, or cannot have.
    """
    _refuse_bound(model)
    unroll(model)
    left, version = list(waiting(model)), 0
    changed = bool(left)
    while left:
        version += 1
        later = [
            pair for n, pair in enumerate(left) if not _replace(model, *pair, f"{version}_{n}")
        ]
        model.graph.sort()
        if later and len(later) == len(left) and version > 1:
            node = later[0][0]
            raise ModelError(
                f"{node.domain}::{node.op_type} {node.name!r} takes a tensor of unknown shape.",
                BEFORE,
            )
        left = later
        if left:
            passes.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
    if changed:
        passes.RemoveUnusedNodesPass()(model)


def _refuse_bound(model: ir.Model) -> None:
    found = [n for n in model.graph if n.domain in _BOUND]
    if found:
        kinds = ", ".join(sorted({f"{n.domain}::{n.op_type}" for n in found}))
        raise ModelError(
            f"the file is of ONNX Runtime's optimiser, for one processor: {len(found)} operators "
            f"({kinds}) {_BOUND[found[0].domain]}.",
            BEFORE,
        )


def _replace(model: ir.Model, node: ir.Node, made: Form, place: str) -> bool:
    """Put the standard operators in a node's stead; False where a shape is not known yet."""
    op = Ops(model.graph, 1, prefix=f"{node.name or node.op_type}/{place}")
    floats = (v.dtype for v in (*node.inputs, *node.outputs) if v is not None and v.dtype in FLOATS)
    op.dtype = next(floats, None) or ir.DataType.FLOAT
    try:
        answer = made(op, node, list(node.inputs))
    except ShapeUnknownError:
        return False
    if answer is None:
        return True
    new = [answer] if isinstance(answer, ir.Value) else list(answer)
    for old, value in zip(node.outputs, [*new, *[None] * len(node.outputs)], strict=False):
        used = bool(old.uses()) or old.is_graph_output()
        if value is None and used:
            raise ModelError(
                f"{node.domain}::{node.op_type} {node.name!r}: its output {old.name!r} is used, "
                "which no image classifier needs.",
                BEFORE,
            )
        if value is not None and (used or old is node.outputs[0]):
            if value.producer() is None or value.is_graph_output():  # an input, passed through
                value = op.Identity(value)
            name, old.name = old.name, f"{old.name}/whole"
            old.replace_all_uses_with(value, replace_graph_outputs=True)
            value.name, value.shape = name, old.shape
            if old.dtype is not None:
                value.dtype = old.dtype
    model.graph.remove(node, safe=True)
    return True


__all__ = [
    "attention", "classical", "expand", "former", "fused", "layouts", "quantised", "sequences",
    "set_apart", "statistics", "unroll",
]  # fmt: skip
