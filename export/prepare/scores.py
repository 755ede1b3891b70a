"""Which tensor holds the class scores: chosen by evidence, and said aloud.

Every output leads back to the scores that it is made of (tails.py). Several outputs may lead to the
same ones (logits, probabilities, label); what is left are the candidates. Names, a Softmax, the
number of labels and what feeds what speak for or against each. Where that says nothing, nobody can
choose but the user.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Collection, Iterable, Sequence

import onnx_ir as ir

from ...runtime.errors import ModelError, OptionError
from ..graph.values import FLOATS
from . import heads
from .tails import RENAMES, Tail, root, trace

_WORDS_FOR = (
    "logit logits prob probs probability probabilities score scores softmax sigmoid class classes "
    "cls classification classifier classlabel label labels category categories pred preds "
    "prediction predictions"
)
_WORDS_AGAINST = (
    "embed embeds embedding embeddings feature features feat feats hidden pool pooled pooler box "
    "boxes bbox bboxes loc locs reg regression landmark landmarks offset offsets keypoint "
    "keypoints pose mask masks aux auxiliary attention attentions attn latent representation "
    "vector distance uncertainty entropy variance descriptor"
)
_FOR, _AGAINST = frozenset(_WORDS_FOR.split()), frozenset(_WORDS_AGAINST.split())
_UNLINEAR = ("GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "LayerNormalization", "Tanh",
             "Relu", "LpNormalization", "BatchNormalization")  # fmt: skip
CLEAR = 2  # how much more speaks for the best than for the next


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A tensor that could hold the class scores.

    Attributes:
        tail: the tensor, and what follows it.
        outputs: names of the model's outputs that come of it.
        classes: how many.
        decided: operators that decide from it, for any output.
        weight: how much speaks for it.
        why: in words.
    """

    tail: Tail
    outputs: tuple[str, ...]
    classes: int
    decided: tuple[str, ...] = ()
    weight: int = 0
    why: tuple[str, ...] = ()

    def __str__(self) -> str:
        start = self.tail.start
        return f"{start.name} {heads.shown(dims(start))}" + (
            f" ({', '.join(self.why)})" if self.why else ""
        )


@dataclasses.dataclass(frozen=True)
class Choice:
    """Which tensor holds the class scores.

    Attributes:
        scores: the tensor.
        left_out: operators after it that make probabilities.
        box_axis: the axis of the boxes, where it has the scores of many; None: it has not.
        candidates: all that there were, in words, the chosen one first.
        notes: what a user should hear of it.
    """

    scores: ir.Value
    left_out: tuple[str, ...] = ()
    box_axis: int | None = None
    candidates: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


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
        head = heads.yolo(model.graph, source_names)
        if head is None and (unknown := [v for v in model.graph.outputs if v.shape is None]):
            return Choice(trace(unknown[0], source_names).scores)
        if head is None:
            raise heads.no_classifier(model.graph, _inside(model.graph, image))
        note = f"{head.what}; the score of a class is the largest over all its boxes."
        return Choice(head.scores, head.left_out, head.box_axis, (head.what,), (note,))
    weighed = sorted((_weighed(c, found, labels) for c in found), key=lambda c: -c.weight)
    best, *others = weighed
    if others and best.weight - others[0].weight < CLEAR:
        even = [c for c in weighed if best.weight - c.weight < CLEAR]
        raise OptionError(
            "several outputs could hold the class scores, and nothing says which: "
            f"{'; '.join(map(str, even))}.",
            f"name one, such as --output-name {even[0].outputs[0]}.",
        )
    notes = [f"the scores are {best}, not {'; '.join(map(str, others))}."] if others else []
    if not others and best.weight < 0:
        notes.append(f"the scores are {best}, all there is: are these classes?")
    return _chosen(best, tuple(map(str, weighed)), notes)


def named(output: ir.Value, source_names: Collection[str]) -> Choice:
    """The scores that the user named, with the one output that the model was cut to.

    Raises:
        ModelError: they are not one number per class, nor the head of a detector.
    """
    tail = _class_like(output, source_names)
    if output.shape is None:
        return Choice(output)
    if tail is not None:
        return _chosen(Candidate(tail, (str(output.name),), classes_of(dims(tail.scores)) or 0))
    head = heads.named(output, source_names)
    if head is None:
        raise ModelError(
            f"the tensor {output.name!r} has shape {heads.shown(dims(output))}; scores are "
            "[N, classes].",
            "name another tensor with --output-name, or leave it out to see what there is.",
        )
    note = f"{head.what}; the score of a class is the largest over all its boxes."
    return Choice(head.scores, head.left_out, head.box_axis, (), (note,))


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
        if image not in upstream or heads.selects(v.producer() for v in upstream):
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
    if tail.scores.dtype in FLOATS and classes_of(dims(tail.scores)) is not None:
        return tail
    at = tail.start
    while at.dtype not in FLOATS or classes_of(dims(at)) is None:
        node = at.producer()
        if node is None or node.op_type not in RENAMES or node.inputs[0] is None:
            return None
        at = node.inputs[0]
    return Tail(at, at, (), tail.decided)


def _weighed(one: Candidate, among: Sequence[Candidate], labels: int | None) -> Candidate:
    """A candidate with all that speaks for and against it."""
    points: list[tuple[int, str]] = []
    tail = one.tail
    if tail.left_out:
        points.append((4 if "Softmax" in tail.left_out[0] else 3, f"{tail.left_out[0]} after it"))
    if one.decided:
        points.append((4, f"{one.decided[-1]} takes it"))
    by_name = _name_says(one.outputs)
    if not by_name and tail.scores.name not in one.outputs:
        by_name = _name_says([str(tail.scores.name)])
    if by_name:
        points.append((3 * by_name, "by its name" if by_name > 0 else "its name is not a score's"))
    if labels is not None and one.classes == labels:
        points.append((6, f"{labels} labels"))
    end = root(tail.scores)
    for other in among:
        if other is not one and end in ancestors(other.tail.scores):
            points.append((-4, f"feeds {other.outputs[0]}"))
            break
    made = end.producer()
    if made is not None and made.op_type in _UNLINEAR:
        points.append((-1, f"comes of {made.op_type}"))
    return dataclasses.replace(
        one, weight=sum(n for n, _ in points), why=tuple(text for _, text in points)
    )


def _name_says(names: Iterable[str]) -> int:
    """1 where names are those of scores, -1 of something else, 0 where they say neither."""
    words = set()
    for name in names:
        spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", name)
        words |= set(re.split(r"[^a-z]+", spaced.lower()))
    return bool(words & _FOR) - bool(words & _AGAINST)


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


def _inside(graph: ir.Graph, image: ir.Value) -> list[str]:
    """The last tensors inside a model that have the shape of scores, two at most."""
    found = []
    for node in reversed(list(graph)):
        y = node.outputs[0]
        linear = node.op_type in ("Gemm", "MatMul", "Add", "Softmax", "Sigmoid")
        if linear and y.dtype in FLOATS and (classes_of(dims(y)) or 1) > 1:
            upstream = ancestors(y)
            if image in upstream and not heads.selects(v.producer() for v in upstream):
                found.append(str(y.name))
    return found[:2]


def classes_of(shape: tuple[int | None, ...] | None) -> int | None:
    """How many classes a tensor of that shape has scores of; None where it holds no scores.

    One length, the batch's, is free (or the first, fixed); all others but one are 1; no length over
    1 may lie before the batch's.
    """
    if not shape or shape.count(None) > 1:
        return None
    batch = shape.index(None) if None in shape else 0
    wide = [(i, d) for i, d in enumerate(shape) if i != batch and d != 1]
    if len(wide) > 1 or (wide and wide[0][0] < batch):
        return None
    return wide[0][1] if wide else 1


def dims(value: ir.Value) -> tuple[int | None, ...] | None:
    """A tensor's shape, None for free lengths; None where not even the rank is known."""
    if value.shape is None:
        return None
    return tuple(d if isinstance(d, int) else None for d in value.shape)


def ancestors(value: ir.Value) -> set[ir.Value]:
    """All tensors that one is computed from, itself left out."""
    found: set[ir.Value] = set()
    stack = [value]
    while stack:
        node = stack.pop().producer()
        for x in node.inputs if node is not None else ():
            if x is not None and x not in found:
                found.add(x)
                stack.append(x)
    return found


__all__ = ["Candidate", "Choice", "candidates", "choose", "classes_of", "known_name", "named"]
