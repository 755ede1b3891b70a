"""What makes the graph fast: every rewrite has a name, a reason and a measured effect.

Each keeps the gradient; each can be switched off by name, ``export(..., without=["swish"])``, and
the suite of gradients passes with any of them off. Most are forms that rules choose (``"swish" in
op.on``), some passes over the finished graph (optimise.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Literal, TypeAlias

from ..runtime.errors import OptionError

Target: TypeAlias = Literal["portable", "openvino"]


@dataclasses.dataclass(frozen=True)
class Rewrite:
    """A faster form of the same thing.

    Attributes:
        what: the form it has, and the one it replaces.
        effect: what that is worth, one thread; N, C, H, W are those of the tensor named.
    """

    what: str
    effect: str


REWRITES = {
    "step-masks": Rewrite(
        "masks of rectifiers as a steep HardSigmoid times the gradient, for Greater and Where",
        "ONNX Runtime CPU, [4,64,112,112]: 2.4 ms, for 4.5",
    ),
    "pooled-relu": Rewrite(
        "the mask of a ReLU before a MaxPool where the pool has made it small, for the whole layer",
        "a mask of a quarter of the size",
    ),
    "separable-pool": Rewrite(
        "MaxPool's backward one axis after the other, k + k comparisons for k k",
        "ONNX Runtime CPU, 3 x 3 / 2 on [4,64,112,112]: 12 ms, for 36",
    ),
    "flipped-conv": Rewrite(
        "a Conv with the mirrored kernel where the stride is 1, for ConvTranspose",
        "ONNX Runtime CPU, 3 x 3 on [4,64,112,112]: 45 ms, for 65",
    ),
    "swish": Rewrite(
        "x sigmoid(x) differentiated as one function, for a product and a sigmoid",
        "three products fewer",
    ),
    "transposed-phases": Rewrite(
        "the columns that a pool took apart put together by Transpose, for Concat",
        "OpenVINO, [4,64,111,112]: 3 ms, for 13; ONNX Runtime CPU: three times slower",
    ),
    "merged-classes": Rewrite(
        "the classes explained inside the batch axis, for an axis of their own",
        "OpenVINO keeps tensors of rank 4 in its own layout: MobileNetV2 in 40 ms, for 66; ONNX "
        "Runtime has to copy masks for several classes",
    ),
    "fold-constants": Rewrite("what depends on constants alone is computed at export", ""),
    "share": Rewrite(
        "equal nodes and equal constants are one (common subexpression elimination)",
        "a mask that several rules ask for is computed once",
    ),
}
"""Name -> rewrite."""

_OPENVINO = frozenset({"transposed-phases", "merged-classes"})
PORTABLE = frozenset(REWRITES) - _OPENVINO
TARGETS: dict[Target, frozenset[str]] = {
    "portable": PORTABLE,
    "openvino": frozenset(REWRITES) - {"step-masks"},
}
"""The rewrites for a target; portable is good everywhere."""


def chosen(target: Target, without: Collection[str] = ()) -> frozenset[str]:
    """The names of the rewrites for a target, but for some.

    Raises:
        OptionError: no such target or rewrite.
    """
    if target not in TARGETS:
        raise OptionError(f"There is no target {target!r}.", f"choose among {', '.join(TARGETS)}.")
    unknown = sorted(set(without) - set(REWRITES))
    if unknown:
        raise OptionError(
            f"There is no rewrite {', '.join(unknown)}.", f"choose among {', '.join(REWRITES)}."
        )
    return TARGETS[target] - set(without)
