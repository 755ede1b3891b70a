"""Windows of Conv and pooling with explicit attributes; layers in training mode are refused."""

from __future__ import annotations

import onnx_ir as ir

from ...runtime.errors import ModelError
from ..autodiff.ops import Ops
from ..graph.values import args, attribute, constant, shape_of, static
from .einsum import plain_equation
from .statistics import in_training

_WINDOWED = ("Conv", "ConvInteger", "ConvTranspose", "MaxPool", "AveragePool", "LpPool")


def explicit(model: ir.Model) -> None:
    """Write out the windows of Conv and pooling nodes; refuse layers in training mode."""
    for node in model.graph:
        if node.op_type in ("BatchNormalization", "Dropout"):
            training = constant(node.inputs[2]) if _is_dropout(node) else None
            if attribute(node, "training_mode", 0) or (training is not None and training):
                raise in_training(node)
        elif node.op_type in _WINDOWED:
            _explicit_window(node)
        elif node.op_type == "Einsum":
            plain_equation(node)
        elif node.op_type == "Squeeze" and len(node.inputs) < 2:
            _explicit_axes(model.graph, node)


def _is_dropout(node: ir.Node) -> bool:
    return node.op_type == "Dropout" and len(node.inputs) > 2


def _explicit_axes(graph: ir.Graph, node: ir.Node) -> None:
    """Squeeze the axes that are 1 whatever the batch is; its own would go too for one image."""
    axes = [i for i, d in enumerate(shape_of(args(node)[0])) if d == 1]
    node.resize_inputs(2)
    node.replace_input_with(1, Ops(graph, 1, prefix=str(node.name)).const(axes))


def _explicit_window(node: ir.Node) -> None:
    x, transposed = args(node)[0], node.op_type == "ConvTranspose"
    convolution = node.op_type.startswith("Conv")
    kernel = static(args(node)[1], 2) if convolution else attribute(node, "kernel_shape")
    rank = len(kernel)
    if len(shape_of(x)) != rank + 2:
        raise ModelError(
            f"{node.op_type} {node.name!r}: its input has rank {len(shape_of(x))}, its kernel "
            f"{rank} spatial axes.",
            "check the model with onnx.checker.check_model(path, full_check=True).",
        )
    strides = attribute(node, "strides", [1] * rank)
    dilations = attribute(node, "dilations", [1] * rank)
    pads = attribute(node, "pads", [0] * 2 * rank)
    auto = attribute(node, "auto_pad", "NOTSET")
    if auto.startswith("SAME") or "output_shape" in node.attributes:
        small, large = static(x, 2), static(node.outputs[0], 2)
        if not transposed:
            small, large = large, small
        extra = attribute(node, "output_padding", [0] * rank)
        sizes = zip(small, large, strides, dilations, kernel, extra, strict=True)
        total = [(o - 1) * s + d * (k - 1) + 1 + e - n for o, n, s, d, k, e in sizes]
        if transposed and min(total) < 0:  # an output larger than the windows reach
            extra = [e + max(-t, 0) for e, t in zip(extra, total, strict=True)]
            node.attributes["output_padding"] = ir.AttrInt64s("output_padding", extra)
        total = [max(t, 0) for t in total]
        # The odd pixel goes to the end for SAME_UPPER; ConvTranspose's default is the other one.
        upper = auto == "SAME_UPPER" or (auto != "SAME_LOWER" and not transposed)
        first = [t // 2 if upper else t - t // 2 for t in total]
        pads = [*first, *(t - f for t, f in zip(total, first, strict=True))]
    node.attributes.pop("auto_pad", None)
    node.attributes.pop("output_shape", None)
    made = {"kernel_shape": kernel, "strides": strides, "dilations": dilations, "pads": pads}
    if node.op_type in ("AveragePool", "LpPool") and max(dilations) == 1:
        del made["dilations"]  # new in opsets 18 and 19, and not every engine takes it
    for name, value in made.items():
        node.attributes[name] = ir.AttrInt64s(name, [int(v) for v in value])
