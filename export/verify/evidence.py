"""What was measured of one file, and what it amounts to."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ...runtime.arrays import Array
from ...runtime.contract import OutputCheck
from .differences import Derivatives
from .measured import Measured
from .shipped import Shipped

AUTOGRAD, DIFFERENCES = "torch.autograd", "finite differences, float64"
SLOPES = f"{DIFFERENCES}, of the classifier with its ReLUs held to the slopes of the rule"

TIGHT = 1e-4  # of float32 from float64 on the same side of all kinks: what is left is rounding
EXACT = 1e-5  # in float64; constants are float32 in the file
HALF = (4.5e-2, 1e-2)  # the same two, for files that round weights and tensors
CLEAR = 3.0  # times its own noise: from there on a reference has settled


@dataclasses.dataclass(frozen=True)
class Evidence:
    """All that was measured of one file.

    Attributes:
        reference: what the gradient was compared with.
        half: whether the file computes in half precision.
        tried: how many images were.
        measured: what the file returned for those of them that count.
        scores: the reference's own, float64 [N, classes], and how far the file's may be off.
        scores_allowed: see there.
        outputs: each output beside its definition.
        lost: feature maps whose gradient the file does not hold.
        by_torch: torch's gradient by the image, float64 [N, K, C, H, W], where there is one.
        derivatives: along random directions, by differences.
        exact: the same of the file computing in float64, where float32 was off.
        shipped: the file as ONNX Runtime optimises it.
    """

    reference: str
    half: bool
    tried: int
    measured: Measured
    scores: Array
    scores_allowed: float
    outputs: tuple[OutputCheck, ...] = ()
    lost: tuple[str, ...] = ()
    by_torch: Array | None = None
    derivatives: tuple[Derivatives, ...] = ()
    exact: tuple[Derivatives, ...] = ()
    shipped: Shipped | None = None

    @property
    def allowed(self) -> tuple[float, float]:
        """The largest error of a derivative in the file's own precision, and in float64."""
        return HALF if self.half else (TIGHT, EXACT)

    @property
    def rounding(self) -> float | None:
        """How far the maps move where ONNX Runtime optimises; None: not measured."""
        if self.shipped is None:
            return None
        moved = [v for name, v in self.shipped.rounding.items() if name != "scores"]
        return max(moved) if np.isfinite(moved).all() else None

    def by_autograd(self) -> tuple[float, float] | None:
        """Cosine and relative L2 from torch's gradient."""
        found = self.measured.gradient
        if self.by_torch is None or found is None:
            return None
        return agreement(self.by_torch, found)

    def torch_agrees(self) -> bool:
        """Whether torch's gradient by the image says enough, and differences need not."""
        by_torch = self.by_autograd()
        return by_torch is not None and by_torch[1] <= self.allowed[0]

    @property
    def scale(self) -> float | None:
        """What gradients by feature maps are multiplied by in the file; None: not measured."""
        mine = [d for d in self.derivatives if d.of == "features"]
        clearest = max(mine, key=lambda d: float(np.linalg.norm(d.expected)), default=None)
        return None if clearest is None else clearest.scale

    def worst(self, of: Sequence[str]) -> Array:
        """For each image the place of the class that is most off, for what the reference knows."""
        excess = np.zeros(self.measured.classes.shape)
        for d in self.derivatives:
            if d.of in of:
                own = np.nan_to_num(d.error, nan=np.inf) / np.maximum(CLEAR * d.noise, TIGHT)
                excess[d.image] = np.maximum(excess[d.image], own)
        return excess.argmax(1)

    def off(self, of: str) -> bool:
        """Whether derivatives of that kind need the file in float64, to be told from rounding."""
        mine = [d for d in self.derivatives if d.of == of]
        return bool(mine) and worst_error(mine) > self.allowed[0]


def alive(measured: Measured) -> bool:
    """Whether there is something to compare on every image."""
    return bool(awake_on(measured).all())


def awake_on(measured: Measured) -> Array:
    """On which images, [N]: finite numbers, and gradients that are not zero."""
    count = len(measured.scores)
    awake = [np.isfinite(measured.scores).all(1)]
    for gradient in measured.gradients:
        awake.append(np.isfinite(gradient).reshape(count, -1).all(1))
        awake.append(gradient[:, 0].reshape(count, -1).any(1))
    return np.all(awake, 0)


def agreement(expected: Array, found: Array) -> tuple[float, float]:
    """Cosine and relative L2 distance; 0 and inf where the reference is zero or no number."""
    norm, norm_found = float(np.linalg.norm(expected)), float(np.linalg.norm(found))
    if not (np.isfinite(norm) and np.isfinite(norm_found) and norm):
        return 0.0, float("inf")
    cosine = float(np.vdot(found, expected) / (norm * norm_found)) if norm_found else 0.0
    return cosine, float(np.linalg.norm(found - expected)) / norm


def worst_error(derivatives: Sequence[Derivatives]) -> float:
    """The largest relative error among them; 0 where there are none."""
    return max((float(np.nan_to_num(d.error, nan=np.inf).max()) for d in derivatives), default=0.0)
