"""Is the gradient right? Parity with torch.autograd, or with finite differences in float64.

Both references run the source classifier itself, not the graph that Backlit made of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from ...runtime.arrays import Array
from ...runtime.contract import Contract, Verification
from ...runtime.errors import VerificationError
from ..graph.weights import Detached, detach
from ..precision.rounding import rounded
from ..probes import smooth_noise
from .autograd import autograd, module_scores
from .differences import apart, differences
from .fixed_slopes import FixedSlopes
from .measured import Measured, in_float64, measure

RELATIVE_L2 = 1e-2  # float32 runs of two libraries flip ReLU masks near zero
COSINE = 0.9999
EXACT = 1e-4  # in float64 and without kinks, where RELATIVE_L2 does not hold
SCORES = 1e-3  # largest difference over largest score
SCORES_FLOAT64 = 1e-2  # of float32 from PyTorch's float64: a deep network rounds by 1e-3
HALF = (4.5e-2, 0.999, 1e-2, 1e-2)  # the same four, for files that round weights and tensors
UNEVEN = 0.8  # cosine of two ways of rounding; 0.99 on SqueezeNet, below 0.5 with masks gone wrong
STEADY = 0.1  # above it differences by one small step are compared with those by several
STEADY = 0.1  # above it differences by one small step make way for those by several
LARGEST = 0.5  # however a model rounds (int8): a wrong gradient is off by about 1
_AUTOGRAD, _DIFFERENCES = "torch.autograd", "finite differences, float64"
_SLOPES = f"{_DIFFERENCES}, of the classifier with its ReLUs held to the slopes of the rule"
_RANKS = {_AUTOGRAD: 2, _DIFFERENCES: 5, _SLOPES: 1}  # the scores of all classes come at once


@dataclasses.dataclass(frozen=True)
class Compared:
    """One image and class.

    Attributes:
        image: number of the test image.
        index: the class.
        cosine: of the two gradients; None where a derivative along a direction was compared.
        relative_l2: distance of the gradients over the reference's length; for derivatives along a
            direction, distance over the root mean square of them all.
    """

    image: int
    index: int
    cosine: float | None
    relative_l2: float


@dataclasses.dataclass(frozen=True)
class Parity:
    """What comparing a graph with its source gave.

    Attributes:
        verification: all in all.
        compared: one by one.
        problems: what is outside the tolerances above; empty if the gradient is right.
    """

    verification: Verification
    compared: tuple[Compared, ...]
    problems: tuple[str, ...]


def verify(model: ir.Model, source: ir.Model, module: Any, contract: Contract) -> Verification:
    """Compare a Backlit graph with its source.

    Args:
        model: the Backlit graph.
        source: the classifier it was made of.
        module: the classifier as torch module, where it was one; else None.
        contract: the metadata; says how pixels become the classifier's input.

    Returns:
        What was measured, within the tolerances above.

    Raises:
        VerificationError: outside them.
    """
    parity = compare(model, source, module, contract)
    if parity.problems:
        raise disagreement(parity.verification.reference, parity.problems)
    return parity.verification


def disagreement(reference: str, problems: Sequence[str]) -> VerificationError:
    """The error for a graph that is outside the tolerances."""
    return VerificationError(
        f"the gradient disagrees with {reference}: {'; '.join(problems)}.",
        "this is a bug in Backlit or an operator with side effects: please report the model. "
        "--no-verify writes the file regardless.",
    )


def compare(model: ir.Model, source: ir.Model, module: Any, contract: Contract) -> Parity:
    """Compare a Backlit graph with its source, whatever comes out; arguments as in `verify`.

    Raises:
        VerificationError: the source is not the classifier that the graph was made of.
    """
    whole = not contract.score.left_out and contract.score.box_axis is None
    by_torch = module is not None and whole
    reference = _AUTOGRAD if by_torch else _DIFFERENCES
    if contract.relu != "gradient":
        reference = _SLOPES
    half = contract.precision in ("float16", "bfloat16")
    detached = detach(model)
    # ONNX Runtime's CPU provider rounds between some nodes only, unless roundings are nodes.
    runs = detach(rounded(model)) if half else detached
    measured = measure(runs, contract, _RANKS[reference], optimise=not half)

    if reference == _SLOPES:
        slopes = FixedSlopes(source, contract, smooth_noise(contract)[1], measured.classes[:, 0])
        expected, found, scores = differences(detach(source), measured, contract, slopes=slopes)
        if by_torch:  # that was of what PyTorch exported
            import torch

            with torch.no_grad():
                own = module_scores(module, torch.tensor(measured.pixels), contract)
            if own is not None:
                scores = own.numpy()
    elif by_torch:
        by_autograd = autograd(module, measured, contract)
        if by_autograd is None:
            return compare(model, source, None, contract)
        expected, found, scores = by_autograd
    else:
        expected, found, scores = differences(detach(source), measured, contract)
    cosine, error = _agreement(expected, found)
    exact = None
    single = (RELATIVE_L2, COSINE, EXACT, SCORES_FLOAT64 if by_torch else SCORES)
    most, least, most_exact, most_scores = HALF if half else single
    if error > most and reference != _SLOPES:  # is that rounding, or is the gradient wrong?
        again = in_float64(detached, contract, measured)
        # Of the ONNX source: its exporter folded BatchNormalization into float32 weights.
        _, exact = _agreement(*differences(detach(source), again, contract, smooth=True)[:2])
        if error > STEADY and exact <= EXACT and not by_torch:
            # The score hardly depends on the image: what was measured first was rounding.
            expected, found, _ = differences(detach(source), measured, contract, smooth=True)
            cosine, error = _agreement(expected, found)
    result = Verification(
        reference,
        cosine=cosine,
        relative_l2=error,
        samples=measured.classes.size,
        scores_relative=apart(measured.scores, scores),
        exact=exact,
    )
    problems = [] if measured.reduced else ["the saliency is not the gradient's reduction"]
    if not np.isfinite(measured.gradient).all():
        problems.append("the gradient holds inf or nan")
    if exact is None and cosine < least:
        problems.append(f"cosine {cosine:.6f} < {least}")
    if exact is None and error > most:
        problems.append(f"relative L2 {error:.2e} > {most:.0e}")
    if exact is not None and not (exact <= most_exact and error <= LARGEST):
        problems.append(f"relative L2 {error:.2e} > {most:.0e}, and {exact:.2e} in float64")
    if not result.scores_relative <= most_scores:
        problems.append(f"scores differ by {result.scores_relative:.2e} > {most_scores:.0e}")
    if half and contract.precision == "float16":
        unevenly = _agreement(*_unevenly(detached, contract, measured))[0]
        if unevenly < UNEVEN:
            problems.append(f"as ONNX Runtime rounds it, it is another: cosine {unevenly:.3f}")
    return Parity(result, _one_by_one(expected, found, measured.classes), tuple(problems))


def _unevenly(model: Detached, contract: Contract, measured: Measured) -> tuple[Array, Array]:
    """The gradients that were measured and those of a run as it is, where the classes are the same.

    ONNX Runtime's CPU provider hands a float16 tensor rounded to one node and as it was to another:
    what compares two such tensors for equality goes wrong there, and only there.
    """
    found = measure(model, contract, measured.classes.shape[1], optimise=True)
    same = found.classes == measured.classes
    return measured.gradient[same], found.gradient[same]


def _one_by_one(expected: Array, found: Array, classes: Array) -> tuple[Compared, ...]:
    """Each image and class: of gradients [N*K, ...] or derivatives along a direction [N*K]."""
    along, spread = expected.ndim == 1, float(np.sqrt(np.mean(expected**2)))
    rows = []
    for (n, k), e, f in zip(np.ndindex(*classes.shape), expected, found, strict=True):
        cosine, error = (
            (None, abs(float(f - e)) / max(spread, 1e-30)) if along else _agreement(e, f)
        )
        rows.append(Compared(n, int(classes[n, k]), cosine, error))
    return tuple(rows)


def _agreement(expected: Array, found: Array) -> tuple[float, float]:
    """Cosine and relative L2 distance."""
    norm, norm_found = float(np.linalg.norm(expected)), float(np.linalg.norm(found))
    cosine = float(np.vdot(found, expected) / (norm * norm_found)) if norm * norm_found else 1.0
    return cosine, float(np.linalg.norm(found - expected)) / max(norm, 1e-30)
