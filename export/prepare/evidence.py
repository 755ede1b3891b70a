"""What speaks for a tensor to hold the class scores, and what against it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence

import onnx_ir as ir

from ..graph.shapes import ancestors, dims, shown
from .tails import Tail, root

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
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul", "MatMulInteger", "ConvInteger")
_UNLINEAR = ("GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "LayerNormalization", "Tanh",
             "Relu", "LpNormalization", "BatchNormalization")  # fmt: skip


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
        return f"{start.name} {shown(dims(start))}" + (
            f" ({', '.join(self.why)})" if self.why else ""
        )


def weighed(one: Candidate, among: Sequence[Candidate], labels: int | None) -> Candidate:
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
    for other in among:
        if other is not one and (relation := _relation(one, other)) is not None:
            points.append(relation)
            break
    made = root(tail.scores).producer()
    if made is not None and made.op_type in _UNLINEAR:
        points.append((-1, f"comes of {made.op_type}"))
    return dataclasses.replace(
        one, weight=sum(n for n, _ in points), why=tuple(text for _, text in points)
    )


def _relation(one: Candidate, other: Candidate) -> tuple[int, str] | None:
    """What speaks against a tensor that another is made of, or that is made of another."""
    mine, others = _layers(one), _layers(other)
    name = other.outputs[0]
    if mine < others and root(one.tail.scores) in ancestors(other.tail.scores):
        return -4, f"feeds {name}"
    if mine < others:
        return -3, f"has no layer that {name} has not"
    if mine == others and root(other.tail.scores) in ancestors(one.tail.scores):
        return -4, f"computed from {name}"
    return None


def _layers(one: Candidate) -> set[ir.Node]:
    """The nodes with weights that a tensor is computed by."""
    end = one.tail.scores
    nodes = {value.producer() for value in (end, *ancestors(end))}
    return {
        node
        for node in nodes
        if node is not None
        and node.op_type in _WEIGHTED
        and any(x is not None and x.const_value is not None for x in node.inputs[1:])
    }


def _name_says(names: Iterable[str]) -> int:
    """1 where names are those of scores, -1 of something else, 0 where they say neither."""
    words = set()
    for name in names:
        spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", name)
        words |= set(re.split(r"[^a-z]+", spaced.lower()))
    return bool(words & _FOR) - bool(words & _AGAINST)


__all__ = ["Candidate", "weighed"]
