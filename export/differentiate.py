"""The gradient of any output of any model with respect to any input."""

from __future__ import annotations

from collections.abc import Collection

import onnx
import onnx_ir as ir

from ..runtime.contract import Relu
from . import rules
from .autodiff.backward import backward
from .autodiff.merged import emitter
from .graph.rewrites import Target, chosen
from .graph.values import shape_of
from .optimise import optimise
from .options import known_relu
from .prepare import normalise
from .prepare.classifier import named


def differentiate(
    model: onnx.ModelProto | ir.Model,
    output: str | None = None,
    wrt: str | None = None,
    seed: str | None = None,
    *,
    relu: Relu = "gradient",
    target: Target = "portable",
    without: Collection[str] = (),
) -> onnx.ModelProto:
    """Add the gradient of an output with respect to an input to any ONNX model.

    Args:
        model: any model of standard operators, opset 7 or later; not changed.
        output: name of a float output, default the first; its elements are summed.
        wrt: name of a float input, default the first.
        seed: name of a new input [K, *output's shape] of upstream gradients; without it, ones.
        relu: the backward rule of rectifiers, as for ``export``.
        target: the engine whose favourite operators are used; every engine runs every model.
        without: names of rewrites (rewrites.py) to leave out.

    Examples:
        >>> import onnx
        >>> from backlit import differentiate
        >>> made = differentiate(onnx.load("tiny_convnet.onnx"))
        >>> [output.name for output in made.graph.output][-1]
        'gradient'

    Returns:
        The model (opset 20 or later) with one more output ``gradient``, of the input's shape, or
        [K, *that] with a seed.

    Raises:
        ModelError: no such input or output, or no differentiable path between them.
        UnsupportedOperatorError: lists all operators on the path without a rule.
        OptionError: another rule than the gradient, and no rectifier to follow it.
    """
    known_relu(relu)

    def locate(model: ir.Model) -> normalise.Ends:
        last = named(model.graph.outputs, output, "output")
        return named(model.graph.inputs, wrt, "input"), last

    on = chosen(target, without)
    given = model if isinstance(model, ir.Model) else ir.serde.deserialize_model(model)
    made, (source, last) = normalise.settle(normalise.modernise(given), locate)
    graph, dtype = made.graph, last.dtype or ir.DataType.FLOAT
    if seed is None:
        op = emitter(graph, 1, on, relu=relu)
        op.dtype = dtype
        upstream = op.full(1.0, last)
    else:
        upstream = ir.val(seed, dtype, ["K", *shape_of(last)])
        graph.inputs.append(upstream)
        lead = ir.node("Shape", [upstream], attributes={"start": 0, "end": 1}, name="K")
        graph.append(lead)
        op = emitter(graph, lead.outputs[0], on, relu=relu)
    (gradient,) = backward(op, [source], last, upstream)
    op.rectifiers.must_have_met()
    gradient = op.Squeeze(gradient, [0]) if seed is None else op.Identity(gradient)
    gradient.name, gradient.dtype = "gradient", source.dtype
    gradient.shape = ir.Shape([*([] if seed is None else ["K"]), *(source.shape or ())])
    graph.outputs.append(gradient)
    optimise(made, on)
    return ir.serde.serialize_model(made)


__all__ = ["differentiate", "rules"]  # importing the rules registers them
