"""Small clean-ups of the finished graph; each keeps every value bit for bit."""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir
from onnx_ir.passes import common as passes

from .graph.rewrites import PORTABLE
from .prepare.normalise import fold_constants


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
        passes.CommonSubexpressionEliminationPass()(model)
        passes.DeduplicateInitializersPass()(model)
    passes.RemoveUnusedNodesPass()(model)
    passes.RemoveUnusedOpsetsPass()(model)
