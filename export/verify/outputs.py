"""What a file returns, computed again by NumPy from its scores, gradients and feature maps.

None of the code that writes graphs is used: each map has its definition in NumPy (maps/row.py).
Whether the scores, gradients and feature maps are right themselves is measured elsewhere.
"""

from __future__ import annotations

import numpy as np

from ...runtime.arrays import Array
from ...runtime.contract import MOST_RANKS, Contract, Map, OutputCheck
from ..maps.grids import MOST_EXTRA
from ..maps.table import MAPS
from ..precision.scaling import LINEAR
from .measured import Measured, Tap

EXACT = 1e-5  # float32 sums in another order
HALF = 2e-2  # the same in half precision


def check_outputs(
    measured: Measured, contract: Contract, half: bool, scale: float | None
) -> list[OutputCheck]:
    """Each output of the file beside what it should be, given the file's own parts.

    Args:
        measured: what the file returned.
        contract: its metadata.
        half: whether it computes in half precision.
        scale: what its gradients by feature maps are multiplied by inside; None: any power of two.
    """
    found, most = measured.outputs, HALF if half else EXACT
    checks = [
        OutputCheck("class", _wrong_classes(measured), 0.0),
        OutputCheck("score", _apart(found["score"], scores_of(measured)), 0.0),
    ]
    for made in contract.maps:
        expected, size = map_of(made, measured)
        if expected is not None:
            if half and made.tensors:
                if scale is not None and made.name in LINEAR:
                    factor = 1 / scale
                else:
                    factor = power_of_two(expected, found[made.name])
                expected, size = expected * factor, size * factor
            error = _apart(found[made.name], expected, size)
            checks.append(OutputCheck(made.name, error, most if made.tensors else EXACT))
    return checks


def power_of_two(value: Array, like: Array) -> float:
    """What a value is to be multiplied by to be as large as another.

    Half precision scales the gradients inside a file so, and its maps back at the end.
    """
    sizes = [float(np.linalg.norm(v)) for v in (value, like)]
    return 2.0 ** round(np.log2(sizes[1] / sizes[0])) if all(sizes) else 1.0


def scores_of(measured: Measured) -> Array:
    """The scores of the classes, [N, K]."""
    return np.take_along_axis(measured.scores, measured.classes, 1)


def ranked(scores: Array, index: Array) -> Array:
    """The classes that ``index`` [N, K] asks for: -1 the best of the scores [N, classes].

    Equal scores are in the order of the classes; a rank beyond the last is the last.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    last = min(scores.shape[1], MOST_RANKS) - 1
    by_rank = np.take_along_axis(order, np.clip(-1 - index, 0, last), 1)
    return np.where(index < 0, by_rank, index)


def _wrong_classes(measured: Measured) -> float:
    """The share of classes that are not those of their rank; the file was asked for -1, -2, ..."""
    ranks = np.tile(-1 - np.arange(measured.classes.shape[1]), (len(measured.scores), 1))
    return float((ranked(measured.scores, ranks) != measured.classes).mean())


def map_of(made: Map, measured: Measured) -> tuple[Array | None, Array | float]:
    """A map [N, K, ...] by its definition, and the size of what it is summed or scaled up of.

    Its rounding is to be measured by the larger of the two: ``features`` of a gradient that is the
    same everywhere is rounding, scaled up. None where the file does not hold what it is made of.
    """
    in_numpy = MAPS[made.name].in_numpy
    if not made.tensors:
        if measured.gradient is None:
            return None, 0.0
        return in_numpy(measured.pixels[:, None], measured.gradient, measured.gradient[..., :0, 0])
    if any(name not in measured.taps for name in made.tensors):
        return None, 0.0
    parts = [in_numpy(*grid(measured.taps[t], made)) for t in made.tensors]
    return np.mean([p for p, _ in parts], 0), sum(s for _, s in parts) / len(parts)


def grid(tap: Tap, made: Map) -> tuple[Array, Array, Array]:
    """Features [N,1,C,h,w], gradients [N,K,C,h,w], and those of extra tokens [N,K,C,E]."""
    value, gradient, area = tap.value, tap.gradient, made.height * made.width
    beside = gradient[..., :0]
    if value.ndim == 3:  # tokens [N, extra + cells, C]
        extra = value.shape[1] - area
        if not 0 <= extra <= MOST_EXTRA:
            raise ValueError(f"{value.shape} is no {made.height} x {made.width} tokens")
        beside = np.moveaxis(gradient[:, :, :extra], -1, 2)
        value, gradient = value[:, extra:], gradient[:, :, extra:]
        value = value.reshape(len(value), made.height, made.width, -1)
        gradient = gradient.reshape(*gradient.shape[:2], made.height, made.width, -1)
    if value.shape[2:] != (made.height, made.width):  # channels last
        value, gradient = np.moveaxis(value, -1, 1), np.moveaxis(gradient, -1, 2)
    return value[:, None], gradient, beside.reshape(*gradient.shape[:3], -1)


def _apart(found: Array, expected: Array, size: Array | float = 0.0) -> float:
    """The largest difference over the largest that the map has, or that it is summed of.

    By image and class; inf where one is a number and the other is not.
    """
    if found.shape != expected.shape:
        return float("inf")
    axes = tuple(range(2, found.ndim))
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))
    with np.errstate(invalid="ignore"):
        gap = np.where(same, 0.0, np.abs(found.astype(np.float64) - expected))
    largest = np.maximum(np.abs(expected), size).max(axes) if axes else np.abs(expected)
    gap = gap.max(axes) if axes else gap
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(gap > 0, gap / largest, 0.0)
    return float(np.nan_to_num(share, nan=np.inf).max())
