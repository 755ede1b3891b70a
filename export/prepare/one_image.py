"""A classifier of one image [C, H, W] or [H, W] without a batch: it adds one itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from ...runtime.errors import ModelError
from ..graph.values import args, attribute


def without_batch(image: ir.Value, dims: Sequence[Any], channels: int | None) -> bool:
    """Whether it is one image, and not a batch of greys [N, H, W] or of rows [N, D].

    [C, H, W] and [H, W, C], or [H, W] where all that happens to it is that it gets more axes.
    """
    if len(dims) == 2:
        fixed = all(isinstance(d, int) for d in dims)
        return fixed and all(_adds_batch(node, dims) for node in image.consumers())
    if len(dims) != 3 or not isinstance(dims[0], int):
        return False
    if dims[0] == 1:
        return any(_adds_batch(node, dims) for node in image.consumers())
    return dims[0] in (3, channels) or dims[2] in (1, 3, channels)


def _adds_batch(node: ir.Node, dims: Sequence[Any]) -> bool:
    """Whether a node only puts an axis of length 1 before all others; two before [H, W]."""
    if node.op_type not in ("Unsqueeze", "Reshape"):
        return False
    given, missing = _axes(node), 4 - len(dims)
    if given is None or node.op_type == "Unsqueeze":
        return given is not None and sorted(a % 4 for a in given) == list(range(missing))
    same = all(a in (b, -1) for a, b in zip(given[missing:], dims, strict=False))
    return len(given) == 4 and given[:missing] == [1] * missing and same


def _axes(node: ir.Node) -> list[int] | None:
    """A node's second input or, in old opsets, its axes; None where they are not constant."""
    value = args(node)[1] if len(node.inputs) > 1 else None
    if value is None:
        found = attribute(node, "axes")
        return None if found is None else list(found)
    tensor, maker = value.const_value, value.producer()
    if tensor is None and maker is not None and maker.op_type == "Constant":
        tensor = attribute(maker, "value")
    return None if tensor is None else [int(n) for n in np.ravel(tensor.numpy())]


def give_batch(model: ir.Model, image: ir.Value) -> list[Any]:
    """Let the image have the axis that the model's first node gave it; its shape then."""
    nodes, ends = list(image.consumers()), set(model.graph.outputs)
    taken_off = any(
        node.op_type == "Squeeze" and _axes(node) == [0] and node.outputs[0] not in ends
        for node in model.graph
    )  # and so the layers after it have none, as in torch's convolutions of one image
    dims: list[Any] = list(image.shape or ())
    if taken_off or not all(_adds_batch(node, dims) for node in nodes):
        raise ModelError(
            f"the input {image.name!r}, {image.shape}, is one image without a batch.",
            "export the classifier with a batch: torch.onnx.export(model, torch.zeros(1, C, H, W), "
            "...).",
        )
    dims = [1] * (4 - len(dims)) + dims
    batched = ir.val(str(image.name), image.dtype, dims)
    image.name = f"{image.name}/one"
    for node in nodes:
        node.outputs[0].replace_all_uses_with(batched, replace_graph_outputs=True)
        model.graph.remove(node, safe=True)
    model.graph.inputs[:] = [batched if v is image else v for v in model.graph.inputs]
    for i, output in enumerate(model.graph.outputs):
        last = output.producer()
        if last is not None and last.op_type == "Squeeze" and len(output.shape or ()) == 1:
            scores = args(last)[0]
            scores.dtype = output.dtype or ir.DataType.FLOAT
            model.graph.outputs[i] = scores
    return dims


__all__ = ["give_batch", "without_batch"]
