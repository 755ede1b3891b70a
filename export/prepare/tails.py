"""From an output back to the unnormalised scores that it is made of.

Classifiers end in steps that only rename axes, turn scores into probabilities, or decide: ArgMax,
TopK, a threshold. Neither of the last two is explained; what they take is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from ..graph.values import args, attribute, constant

RENAMES = ("Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Cast", "Dropout", "Transpose")
_ACTIVATIONS = ("Softmax", "LogSoftmax", "Sigmoid")
_ROUNDED = ("QuantizeLinear", "DequantizeLinear", "Clip", "Mul", "Div")  # of probabilities
_COMPARES = ("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "Round", "Sign", "Not")
_DECIDES = ("ArgMax", "ArgMin", "TopK", "ZipMap", "OneHot", "Hardmax", "ArrayFeatureExtractor")


@dataclasses.dataclass(frozen=True)
class Tail:
    """What lies between the scores and an output of the model.

    Attributes:
        scores: the tensor before it all.
        start: the tensor before the decisions alone.
        left_out: the operator that makes probabilities of the scores, if one does.
        decided: operators that decide, the last one first; they have no gradient.
        axis: which axis of the scores a Softmax runs over; None: there is none.
    """

    scores: ir.Value
    start: ir.Value
    left_out: tuple[str, ...] = ()
    decided: tuple[str, ...] = ()
    axis: int | None = None


def trace(output: ir.Value, source_names: Collection[str]) -> Tail:
    """Walk back from an output to its unnormalised scores.

    Args:
        output: of a model whose shapes are known.
        source_names: tensors of the source graph; the scores are one of them where possible, so
            that source and result can be compared.
    """
    start, decided = _before_decisions(output)
    made = _before_activation(_before(start, (*RENAMES, *_ROUNDED)))
    if made is not None:
        scores, operator, axis = made
        known = _known(scores, source_names)
        if known.name in source_names or start.name not in source_names:
            return Tail(known, start, (operator,), decided, axis)
    return Tail(start, start, (), decided)


def root(value: ir.Value) -> ir.Value:
    """The tensor that this is, but for the order and names of its axes."""
    return _before(value, RENAMES)


def _known(value: ir.Value, names: Collection[str]) -> ir.Value:
    """The first tensor of the source on the way back over renames; else the last one there."""
    at = value
    while at.name not in names:
        node = at.producer()
        if node is None or node.op_type not in RENAMES:
            return at
        at = args(node)[0]
    return at


def _before(value: ir.Value, passed: Collection[str]) -> ir.Value:
    """Walk back over operators of these kinds: renames, and one number for all elements."""
    node = value.producer()
    while node is not None and node.op_type in passed:
        if node.op_type in ("Mul", "Div") and not _scales(node):
            break
        value = args(node)[0]
        if value.const_value is not None:  # Mul(100, p)
            value = args(node)[1]
        node = value.producer()
    return value


def _scales(node: ir.Node) -> bool:
    """Whether a Mul or Div changes the unit only: 100 for per cent."""
    number = _number(args(node)[1])
    if node.op_type == "Mul" and number is None:
        number = _number(args(node)[0])
    return number is not None and number > 0


def _before_decisions(output: ir.Value) -> tuple[ir.Value, tuple[str, ...]]:
    """The tensor that the first of the final decisions takes; the output itself without one."""
    start, at, decided = output, output, []
    while (node := at.producer()) is not None:
        taken = _decides(node)
        if _loses_batch(node):
            start = at = args(node)[0]
        elif taken is not None:
            decided.append(node.op_type)
            start = at = taken
        elif node.op_type in RENAMES:
            at = args(node)[0]
        else:
            break
    return start, tuple(decided)


def _decides(node: ir.Node) -> ir.Value | None:
    """What a node decides from; None where it decides nothing."""
    inputs = args(node)
    name = node.op_type
    if name == "ArrayFeatureExtractor" or (name == "Gather" and inputs[0].const_value is not None):
        return inputs[1]  # names of classes, taken by their numbers
    if name in _DECIDES:
        return inputs[0]
    if name in _COMPARES:
        others = [x for x in inputs if x.const_value is None]
        return others[0] if len(others) == 1 else None
    if name == "Cast" and ir.DataType(attribute(node, "to")).is_integer():
        return inputs[0]
    if name == "Where" and all(x.const_value is not None for x in inputs[1:]):
        return inputs[0]
    if name == "ReduceMax":  # the best class's probability
        probabilities = _before_activation(_before(inputs[0], RENAMES)) is not None
        return inputs[0] if probabilities and len(inputs[0].shape or ()) == 2 else None
    return None


def _loses_batch(node: ir.Node) -> bool:
    """Whether it keeps the first image's part: ``scores[0]``, ``squeeze(0)``, ``squeeze()``."""
    shape = args(node)[0].shape if node.op_type in ("Gather", "Squeeze") else None
    if node.op_type == "Squeeze" and len(node.inputs) < 2:
        return shape is not None  # a batch of one would lose its axis
    if shape is None or len(shape) < 2 or isinstance(shape[0], int):
        return False
    chosen = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    if chosen is None or chosen.size != 1:
        return False
    by_index = node.op_type == "Gather" and attribute(node, "axis", 0) == 0
    return int(chosen.item()) == 0 and (by_index or node.op_type == "Squeeze")


def _before_activation(value: ir.Value) -> tuple[ir.Value, str, int | None] | None:
    """What is normalised to ``value``, by which operator, and along which axis."""
    node = value.producer()
    if node is None:
        return None
    if node.op_type in _ACTIVATIONS:
        axis = None
        if node.op_type != "Sigmoid":
            axis = attribute(node, "axis", -1) % max(len(value.shape or ()), 1)
        return args(node)[0], node.op_type, axis
    if node.op_type == "Log":
        made = _before_activation(_before(args(node)[0], ("Identity", "Clip")))
        if made is not None and made[1] in ("Softmax", "Sigmoid"):
            return made[0], f"Log{made[1]}", made[2]
    return _spelled_softmax(node) or _spelled_log_softmax(node) or _spelled_sigmoid(node)


def _spelled_softmax(node: ir.Node) -> tuple[ir.Value, str, int | None] | None:
    """exp(x) / sum exp(x), also of x - max x."""
    if node.op_type != "Div":
        return None
    above, below = args(node)
    exp, total = above.producer(), _before(below, ("Identity", "Clip", "Expand")).producer()
    if exp is None or exp.op_type != "Exp" or total is None or total.op_type != "ReduceSum":
        return None
    if args(total)[0] is not above:
        return None
    return _unshifted(args(exp)[0]), "Softmax", _axis(total)


def _spelled_log_softmax(node: ir.Node) -> tuple[ir.Value, str, int | None] | None:
    """x - log sum exp(x), also of x - max x."""
    if node.op_type != "Sub":
        return None
    x, below = args(node)
    total = _before(below, ("Identity", "Expand")).producer()
    if total is not None and total.op_type == "ReduceLogSumExp" and args(total)[0] is x:
        return _unshifted(x), "LogSoftmax", _axis(total)
    if total is None or total.op_type != "Log":
        return None
    total = args(total)[0].producer()
    exp = None if total is None else args(total)[0].producer()
    if total is None or total.op_type != "ReduceSum" or exp is None or exp.op_type != "Exp":
        return None
    return (_unshifted(x), "LogSoftmax", _axis(total)) if args(exp)[0] is x else None


def _spelled_sigmoid(node: ir.Node) -> tuple[ir.Value, str, int | None] | None:
    """1 / (1 + exp(-x))."""
    below = None
    if node.op_type == "Div" and _number(args(node)[0]) == 1:
        below = args(node)[1].producer()
    elif node.op_type == "Reciprocal":
        below = args(node)[0].producer()
    if below is None or below.op_type != "Add":
        return None
    terms = [x for x in args(below) if _number(x) != 1]
    exp = terms[0].producer() if len(terms) == 1 else None
    negative = None if exp is None or exp.op_type != "Exp" else args(exp)[0].producer()
    if negative is None or negative.op_type != "Neg":
        return None
    return args(negative)[0], "Sigmoid", None


def _unshifted(value: ir.Value) -> ir.Value:
    """x of x - max x."""
    node = value.producer()
    if node is None or node.op_type != "Sub":
        return value
    x, largest = args(node)
    made = _before(largest, ("Identity", "Expand")).producer()
    return x if made is not None and made.op_type == "ReduceMax" and args(made)[0] is x else value


def _axis(node: ir.Node) -> int | None:
    """The one axis that a node reduces; None where it is another number of them."""
    given = constant(node.inputs[1]) if len(node.inputs) > 1 else attribute(node, "axes")
    axes = [] if given is None else np.asarray(given).ravel().tolist()
    rank = len(args(node)[0].shape or ())
    return axes[0] % rank if len(axes) == 1 and rank else None


def _number(value: ir.Value) -> float | None:
    """A constant's one value; None where it has another number of them, or is no constant."""
    known = constant(value)
    return float(known.item()) if known is not None and known.size == 1 else None


__all__ = ["RENAMES", "Tail", "root", "trace"]
