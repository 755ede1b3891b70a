"""Branches that are left where all that can be known is known."""

from __future__ import annotations

import onnx_ir as ir

from ...runtime.errors import ModelError
from ..graph.values import FLOATS


def decided(model: ir.Model) -> None:
    """Refuse what is left to choose at run time: which of two graphs is differentiated then?

    Raises:
        ModelError: names the first If.
    """
    for node in model.graph:
        if node.op_type == "If" and any(y.dtype in FLOATS for y in node.outputs):
            raise ModelError(
                f"the operator If {node.name!r} chooses at run time what is computed: its "
                "condition depends on the pixels or on the number of images.",
                "export the classifier without that branch: traced (torch.onnx.export of the "
                "module itself, not of torch.jit.script), or with onnxsim's fixed shapes.",
            )


__all__ = ["decided"]
