"""Which tensor holds the class scores: chosen by evidence, and said aloud.

Every output leads back to the scores that it is made of (tails.py). Several outputs may lead to the
same ones (logits, probabilities, label); what is left are the candidates. Names, a Softmax, the
number of labels and what feeds what speak for or against each. Where that says nothing, nobody can
choose but the user.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Collection, Sequence

import onnx_ir as ir

from ...runtime.errors import ModelError, OptionError
from ..graph.shapes import ancestors, classes_of, dims, shown
from ..graph.values import FLOATS
from . import heads
from .evidence import Candidate, weighed
from .seems import no_classifier
from .tails import RENAMES, Tail, root, trace

CLEAR = 2  # how much more speaks for the best than for the next


@dataclasses.dataclass(frozen=True)
class Choice:
    """Which tensor holds the class scores.

    Attributes:
        scores: the tensor.
        left_out: operators after it that make probabilities.
        box_axis: the axis of the boxes, where it has the scores of many; None: it has not.
        objectness: where along the other axis the score of a box lies, with those of ``classes``
            classes after it; None: boxes have none.
        candidates: all that there were, in words, the chosen one first.
        notes: what a user should hear of it.
    """

    scores: ir.Value
    left_out: tuple[str, ...] = ()
    box_axis: int | None = None
    candidates: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    objectness: int | None = None
    classes: int | None = None


def choose(
    model: ir.Model, image: ir.Value, source_names: Collection[str], labels: int | None
) -> Choice:
    """The scores of a model, from its outputs.

    Args:
        model: with the shape of every tensor, the batch free.
        image: its input.
        source_names: tensors of the source graph.
        labels: how many labels there are; None: nobody said.

    Returns:
        The choice; a tensor of unknown shape where there is no other.

    Raises:
        OptionError: several tensors could be the scores, and nothing tells which.
        ModelError: none could; says what the model seems to be.
    """
    found = candidates(model.graph, image, source_names)
    if not found:
        _ask_of_stacked(model.graph, source_names)
        head = heads.yolo(model.graph, source_names, labels)
        if head is None and (unknown := _unknown(model.graph)):
            return Choice(trace(unknown[0], source_names).scores)
        if head is None:
            raise no_classifier(model.graph, _inside(model.graph, image))
        if not head.sure:
            raise ModelError(
                f"the model seems to be a detector: {head.what}, but nothing says that these are "
                "scores.",
                f"give an image classifier, or say so with --output-name {head.output}.",
            )
        return _of_boxes(head)
    ranked = sorted((weighed(c, found, labels) for c in found), key=lambda c: -c.weight)
    best, *others = ranked
    if others and best.weight - others[0].weight < CLEAR:
        even = [c for c in ranked if best.weight - c.weight < CLEAR]
        raise OptionError(
            "several outputs could hold the class scores, and nothing says which: "
            f"{'; '.join(map(str, even))}.",
            f"name one, such as --output-name {even[0].outputs[0]}.",
        )
    notes = [f"the scores are {best}, not {'; '.join(map(str, others))}."] if others else []
    if not others and "its name is not a score's" in best.why:
        notes.append(f"the scores are {best}, all there is: are these classes?")
    notes += _joined(best, source_names)
    return _chosen(best, tuple(map(str, ranked)), notes)


def named(
    output: ir.Value,
    source_names: Collection[str],
    boxes: Collection[int] = (),
    labels: int | None = None,
) -> Choice:
    """The scores that the user named, with the one output that the model was cut to.

    Args:
        output: the tensor.
        source_names: tensors of the source graph.
        boxes: how many boxes the model has, if it is a detector.
        labels: how many labels there are; None: nobody said.

    Raises:
        ModelError: they are not one number per class, nor the head of a detector.
        OptionError: what of a detector's head the scores are is not known.
    """
    tail = _class_like(output, source_names)
    if output.shape is None:
        return Choice(output)
    if tail is not None:
        return _chosen(Candidate(tail, (str(output.name),), classes_of(dims(tail.scores)) or 0))
    head = heads.named(output, source_names, boxes, labels)
    if head is None:
        raise ModelError(
            f"the tensor {output.name!r} has shape {shown(dims(output))}; scores are [N, classes].",
            "name another tensor with --output-name, or leave it out to see what there is.",
        )
    return dataclasses.replace(_of_boxes(head), candidates=())


def _of_boxes(head: heads.Head) -> Choice:
    return Choice(
        head.scores, head.left_out, head.box_axis, (head.what,), (head.note,),
        head.objectness, head.classes,
    )  # fmt: skip


def _ask_of_stacked(graph: ir.Graph, source_names: Collection[str]) -> None:
    """Where outputs stack several sets of scores, ask which: [N, sets, classes].

    Raises:
        OptionError: names the sets.
    """
    for output in graph.outputs:
        node = root(output).producer()
        parts = [x for x in node.inputs if x is not None] if node is not None else []
        tails = [t for x in parts if (t := _class_like(_unstacked(x), source_names)) is not None]
        if node is None or node.op_type != "Concat" or not 1 < len(tails) == len(parts):
            continue
        sets = {str(t.scores.name): shown(dims(t.scores)) for t in tails}
        raise OptionError(
            f"the output {output.name!r}, {shown(dims(output))}, stacks several sets of scores: "
            f"{', '.join(f'{name} {shape}' for name, shape in sets.items())}.",
            f"name one, such as --output-name {next(iter(sets))}.",
        )


def _joined(one: Candidate, source_names: Collection[str]) -> list[str]:
    """A note on scores that are the results of several Softmaxes side by side."""
    node = root(one.tail.scores).producer()
    if node is None or node.op_type != "Concat":
        return []
    tails = [trace(x, source_names) for x in node.inputs if x is not None]
    if len(tails) < 2 or not all(t.left_out and t.axis is not None for t in tails):
        return []
    names = ", ".join(str(t.scores.name) for t in tails)
    return [
        f"{one.outputs[0]} joins the results of {len(tails)} Softmaxes, whose classes are counted "
        f"through; to explain one alone, name its scores with --output-name: {names}."
    ]


def _unstacked(value: ir.Value) -> ir.Value:
    """A set of scores as it was before it got an axis of its own."""
    while (node := value.producer()) is not None and node.op_type in ("Unsqueeze", "Identity"):
        if node.inputs[0] is None:
            break
        value = node.inputs[0]
    return value


def known_name(graph: ir.Graph, name: str) -> str:
    """The name of a tensor that a node makes, as it was asked for.

    Raises:
        OptionError: there is none; lists the outputs, and names like it.
    """
    names = [str(y.name) for node in graph for y in node.outputs if y.name]
    if name in names:
        return name
    outputs = ", ".join(str(v.name) for v in graph.outputs)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    near += [n for n in names if name.lower() in n.lower() and n not in near][:3]
    also = f"; inside the model there are names like it: {', '.join(near)}" if near else ""
    raise OptionError(
        f"no operator of the model makes a tensor {name!r}.", f"choose one of: {outputs}{also}."
    )


def candidates(graph: ir.Graph, image: ir.Value, source_names: Collection[str]) -> list[Candidate]:
    """The different tensors that outputs of the shape of scores lead back to, in their order."""
    found: dict[ir.Value, Candidate] = {}
    for output in graph.outputs:
        tail = _class_like(output, source_names)
        if tail is None or tail.scores is image:
            continue
        upstream = ancestors(tail.scores)
        if image not in upstream or heads.selects(v.producer() for v in (tail.scores, *upstream)):
            continue
        key, name = root(tail.scores), str(output.name)
        if (before := found.get(key)) is None:
            found[key] = Candidate(
                tail, (name,), classes_of(dims(tail.scores)) or 0, decided=tail.decided
            )
            continue
        most = min(before.tail, tail, key=lambda t: (len(t.decided), not t.left_out))
        found[key] = dataclasses.replace(
            before, tail=most, outputs=(*before.outputs, name),
            decided=tuple(dict.fromkeys(before.decided + tail.decided)),
        )  # fmt: skip
    return list(found.values())


def _class_like(output: ir.Value, source_names: Collection[str]) -> Tail | None:
    """The tail of an output that has one number per class, before its last steps if not there."""
    tail = trace(output, source_names)
    for scores in (tail.scores, tail.start):
        classes = classes_of(dims(scores)) if scores.dtype in FLOATS else None
        if classes == 1 and (whole := _before_joining(scores)) is not None:
            return dataclasses.replace(tail, scores=whole)
        if classes is not None:
            left_out, axis = ((), None) if scores is tail.start else (tail.left_out, tail.axis)
            return Tail(scores, tail.start, left_out, tail.decided, axis)
    at = tail.start
    while (node := at.producer()) is not None and node.op_type in ("Identity", "Transpose"):
        if node.inputs[0] is None:
            break
        at = node.inputs[0]
        if at.dtype in FLOATS and classes_of(dims(at)) is not None:  # [classes, N] turned round
            return Tail(at, at, (), tail.decided)
    return None


def _before_joining(value: ir.Value) -> ir.Value | None:
    """The scores [N, classes] whose axes were joined to [N * classes]; None where none were."""
    while (node := value.producer()) is not None and node.op_type in RENAMES:
        if node.inputs[0] is None:
            return None
        value = node.inputs[0]
        if (classes_of(dims(value)) or 0) > 1:
            return value
    return None


def _chosen(one: Candidate, listed: tuple[str, ...] = (), notes: Sequence[str] = ()) -> Choice:
    tail, notes = one.tail, list(notes)
    shape = dims(tail.scores) or ()
    if tail.axis is not None and tail.axis < len(shape) and shape[tail.axis] is None:
        notes.append(
            f"its {tail.left_out[0]} runs over axis {tail.axis}, the images of the batch, not over "
            "the classes; the scores before it are explained."
        )
    elif tail.left_out and "Softmax" in tail.left_out[0] and one.classes == 1:
        notes.append(
            f"a {tail.left_out[0]} of one score is constant; the score before it is taken."
        )
    if tail.decided:
        notes.append(
            f"{one.outputs[0]} is made by {' and '.join(dict.fromkeys(tail.decided))}, which has "
            f"no gradient; what it is made from is explained: {tail.scores.name}."
        )
    return Choice(tail.scores, tail.left_out, None, listed, tuple(notes))


def _unknown(graph: ir.Graph) -> list[ir.Value]:
    """Outputs of unknown shape that are no selected boxes."""
    return [
        v
        for v in graph.outputs
        if v.shape is None and not heads.selects(x.producer() for x in (v, *ancestors(v)))
    ]


def _inside(graph: ir.Graph, image: ir.Value) -> list[str]:
    """The last tensors inside a model that have the shape of scores, two at most."""
    found = []
    for node in reversed(list(graph)):
        y = node.outputs[0]
        linear = node.op_type in ("Gemm", "MatMul", "Add", "Softmax", "Sigmoid")
        if linear and y.dtype in FLOATS and len(shape := dims(y) or ()) == 2 and shape[1] != 1:
            upstream = ancestors(y)
            if image in upstream and not heads.selects(v.producer() for v in upstream):
                found.append(str(y.name))
    return found[:2]


__all__ = ["Choice", "candidates", "choose", "known_name", "named"]
