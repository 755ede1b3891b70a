"""Small clean-ups of the finished graph; each keeps every value bit for bit."""

from __future__ import annotations

from collections.abc import Collection

import onnx
import onnx_ir as ir
from onnx_ir.passes import common as passes

from .graph.rewrites import PORTABLE
from .graph.weights import detach
from .prepare.normalise import fold_constants, share

_MEET = frozenset({"Add", "Div", "Mul", "Sub", "Where"})


def optimise(model: ir.Model, on: Collection[str] = PORTABLE) -> None:
    """Fold what the backward pass computed from constants, share what it computed twice, prune.

    Gradients of weights, which rules may emit, are dead and go.

    Args:
        model: the graph, changed in place.
        on: names of the rewrites wanted.
    """
    passes.RemoveUnusedNodesPass()(model)
    if "fold-constants" in on:
        fold_constants(model)
    if "share" in on:
        share(model)
        passes.DeduplicateInitializersPass()(model)
    passes.RemoveUnusedNodesPass()(model)
    if "equal-ranks" in on:
        _equal_ranks(model)
    passes.RemoveUnusedOpsetsPass()(model)


def _equal_ranks(model: ir.Model) -> None:
    """Give forward tensors that meet a gradient, [K, N, ...], the axis of the classes, too.

    With one class both shapes are the same, and engines have faster kernels for that.
    """
    proto = detach(model).proto
    found = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    shapes = {v.name: v.type.tensor_type.shape.dim for v in (*found.value_info, *found.input)}
    led: dict[ir.Value, ir.Value] = {}
    axis = ir.val("equal-ranks/axis", const_value=ir.tensor([0], name="equal-ranks/axis"))
    for node in list(model.graph):
        if node.op_type not in _MEET:
            continue
        ranks = [len(shapes.get(str(x.name), ())) if x is not None else 0 for x in node.inputs]
        for index, x in enumerate(node.inputs):
            if x is None or x.const_value is not None or not 2 < ranks[index] == max(ranks) - 1:
                continue
            if shapes[str(x.name)][0].HasField("dim_value"):  # no batch comes first
                continue
            if x not in led:
                made = ir.node("Unsqueeze", [x, axis], name=f"{x.name}/led")
                made.outputs[0].name, made.outputs[0].type = f"{x.name}/led", x.type
                model.graph.insert_before(node, made)
                led[x] = made.outputs[0]
            node.replace_input_with(index, led[x])
    if led:
        model.graph.register_initializer(axis)
