"""Small clean-ups of the finished graph; each keeps every value bit for bit."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common as passes

from .normalise import fold_constants


def optimise(model: ir.Model) -> None:
    """Fold what the backward pass computed from constants, share what it computed twice, prune.

    Masks and reciprocals that several rules ask for are one node after the elimination of common
    subexpressions; gradients of weights, which rules may emit, are dead and go.
    """
    passes.RemoveUnusedNodesPass()(model)
    fold_constants(model)
    passes.CommonSubexpressionEliminationPass()(model)
    passes.DeduplicateInitializersPass()(model)
    passes.RemoveUnusedNodesPass()(model)
    passes.RemoveUnusedOpsetsPass()(model)
