"""What makes the graph fast: every rewrite has a name, a reason and a measured effect.

Each keeps the gradient; each can be switched off by name, ``export(..., without=["swish"])``, and
the suite of gradients passes with any of them off. Most are forms that rules choose (``"swish" in
op.on``), some passes over the finished graph (optimise.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Literal, TypeAlias

from ...runtime.errors import OptionError

Target: TypeAlias = Literal["portable", "openvino"]


@dataclasses.dataclass(frozen=True)
class Rewrite:
    """A faster form of the same thing.

    Attributes:
        what: the form it has, and the one it replaces.
        effect: what is gained; "1.17" is the time without it over the time with it, ONNX Runtime's
            CPU provider, one thread, batch 4, one interleaved run.
    """

    what: str
    effect: str


REWRITES = {
    "step-masks": Rewrite(
        "masks of rectifiers as a steep HardSigmoid times the gradient, for Greater and Where",
        "squeezenet1_1 1.03, mobilenet_v2 1.01",
    ),
    "pooled-relu": Rewrite(
        "the mask of a ReLU before a MaxPool where the pool has made it small, for the whole layer",
        "squeezenet1_1 1.03",
    ),
    "separable-pool": Rewrite(
        "MaxPool's backward one axis after the other, k + k comparisons for k k",
        "squeezenet1_1 1.14, resnet18 1.04",
    ),
    "flipped-conv": Rewrite(
        "a Conv with the mirrored kernel where the stride is 1, for ConvTranspose",
        "efficientnet_b0 1.20, mobilenet_v2 1.17, resnet18 1.08",
    ),
    "swish": Rewrite(
        "x sigmoid(x) differentiated as one function, for a product and a sigmoid",
        "efficientnet_b0 1.18",
    ),
    "joined-slices": Rewrite(
        "the gradients of different slices of one tensor put together by Concat, for a Pad each "
        "and their sum",
        "vit_b_16 in fp16 on a GPU, by the cost model: 1.04, beside flat-pads",
    ),
    "flat-pads": Rewrite(
        "a gradient padded along one axis as height of a tensor of rank 4, for any rank",
        "resnet50 in fp16 on a GPU, by the cost model: 1.31",
    ),
    "equal-ranks": Rewrite(
        "masks and other forward tensors given the axis of the classes before they meet a gradient",
        "resnet50 in fp16 on a GPU, by the cost model: 1.02",
    ),
    "transposed-phases": Rewrite(
        "the columns that a pool took apart put together by Transpose, for Concat",
        "OpenVINO, float32 [4,64,111,112]: 3 ms for 13; ONNX Runtime is slower with it",
    ),
    "merged-classes": Rewrite(
        "the classes explained inside the batch axis, for an axis of their own",
        "OpenVINO keeps tensors of rank 4 in its own layout: mobilenet_v2 1.6; ONNX Runtime has to "
        "copy masks for several classes",
    ),
    "fold-constants": Rewrite(
        "what depends on constants alone is computed at export",
        "no time (engines do it, too); fewer nodes to read",
    ),
    "share": Rewrite(
        "equal nodes and equal constants are one (common subexpression elimination)",
        "no time (engines do it, too); fewer nodes to read",
    ),
}
"""Name -> rewrite."""

_OPENVINO = frozenset({"transposed-phases", "merged-classes"})
PORTABLE = frozenset(REWRITES) - _OPENVINO
TARGETS: dict[Target, frozenset[str]] = {
    "portable": PORTABLE,
    "openvino": frozenset(REWRITES) - {"equal-ranks", "step-masks", "flat-pads"},
}
"""The rewrites for a target; portable is good everywhere."""


def chosen(target: Target, without: Collection[str] = ()) -> frozenset[str]:
    """The names of the rewrites for a target, but for some.

    Raises:
        OptionError: no such target or rewrite.
    """
    if target not in TARGETS:
        raise OptionError(f"there is no target {target!r}.", f"choose among {', '.join(TARGETS)}.")
    unknown = sorted(set(without) - set(REWRITES))
    if unknown:
        raise OptionError(
            f"there is no rewrite {', '.join(unknown)}.", f"choose among {', '.join(REWRITES)}."
        )
    return TARGETS[target] - set(without)
