"""Is what the file returns right? Every output against a reference that shares none of its code.

The reference runs the source classifier itself, not the graph that Backlit made of it. What comes
out is one of three: the file agrees, it disagrees, or nothing was measured (verdict.py).
"""

from __future__ import annotations

import dataclasses
import itertools
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from ...runtime.arrays import Array
from ...runtime.contract import Contract, Verification
from ...runtime.errors import BacklitWarning, VerificationError
from ..graph.weights import Detached, detach
from ..precision.rounding import rounded
from ..probes import others, smooth_noise
from .autograd import ByTorch, autograd
from .differences import Derivatives, differences
from .evidence import AUTOGRAD, DIFFERENCES, SLOPES, Evidence, agreement, alive, awake_on
from .fixed_slopes import FixedSlopes
from .kinks import Kept, inputs_of_kinks
from .measured import File, Measured, in_float64
from .outputs import check_outputs
from .reference import expanded
from .shipped import shipped
from .source import Source, apart, prepared_source, scores_in_float64, scores_of, source_of
from .verdict import verdict

SCORES = 1e-3  # largest difference over largest score
SCORES_FLOAT64 = 1e-2  # of float32 from PyTorch's float64: a deep network rounds by 1e-3
HALF_SCORES = 1e-2
STEPS_APART = 5e-2  # of two ways to round in a quantised network
_RANKS = {AUTOGRAD: 2, DIFFERENCES: 5, SLOPES: 1}  # the scores of all classes come at once


@dataclasses.dataclass(frozen=True)
class Compared:
    """One image and class.

    Attributes:
        image: number of the test image.
        index: the class.
        cosine: of the two gradients; None where a derivative along a direction was compared.
        relative_l2: distance of the gradients over the reference's length; for derivatives along a
            direction, distance over what is usual for a gradient of that length.
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
    """

    verification: Verification
    compared: tuple[Compared, ...]


def verify(model: ir.Model, source: ir.Model, module: Any, contract: Contract) -> Verification:
    """Compare a Backlit graph with its source; arguments as of `compare`.

    Returns:
        What was measured; it agrees.

    Raises:
        VerificationError: it does not, or nothing could be measured.
    """
    found = compare(model, source, module, contract).verification
    must_agree(found)
    return found


def must_agree(found: Verification, kept: Sequence[Path] = ()) -> None:
    """Refuse what does not agree with its reference.

    Args:
        found: what comparing gave.
        kept: where the file and its report were left.

    Raises:
        VerificationError: says by how much it is off, or why nothing was measured.
    """
    because = "; ".join(found.because)
    where = f" The file and its report are {' and '.join(map(str, kept))}." if kept else ""
    if found.outcome == "not measured":
        raise VerificationError(
            f"nothing was measured, because {because}.",
            "give trained weights, and the preprocessing that they want; --no-verify writes the "
            f"file unverified.{where}",
        )
    if found.outcome == "disagrees":
        ask = "report the model with them." if kept else (
            "export with --keep-failed, and report the model with what that leaves."
        )  # fmt: skip
        raise VerificationError(
            f"the file disagrees with {found.reference}: {because}.",
            f"{ask} --no-verify writes the file regardless.{where}",
        )


@np.errstate(over="ignore", invalid="ignore")  # inf and nan are judged, not warned of
def compare(model: ir.Model, source: ir.Model, module: Any, contract: Contract) -> Parity:
    """Compare a Backlit graph with its source, whatever comes out.

    Args:
        model: the Backlit graph.
        source: the classifier it was made of.
        module: the classifier as torch module, where it was one; else None.
        contract: the metadata; says how pixels become the classifier's input.

    Raises:
        VerificationError: the source is not the classifier that the graph was made of.
    """
    half = contract.precision in ("float16", "bfloat16")
    detached = detach(model)
    # ONNX Runtime's CPU provider rounds between some nodes only, unless roundings are nodes.
    runs = detach(rounded(model)) if half else detached
    file = File(runs, contract, inputs_of_kinks(runs.proto, expanded(detach(source)).proto))
    own = source_of(source, contract, file.taps)
    whole = not contract.score.left_out and contract.score.box_axis is None
    reference = AUTOGRAD if module is not None and whole else DIFFERENCES
    if contract.relu != "gradient":
        reference = SLOPES
    measured, tried = _measured(file, contract, _RANKS[reference])
    torch_says = autograd(module, measured, contract) if module is not None and whole else None
    by_torch = torch_says.gradient if reference == AUTOGRAD and torch_says is not None else None
    if by_torch is None and reference == AUTOGRAD:
        reference = DIFFERENCES
    scores, allowed = _scores(own, torch_says, measured, contract, half)
    evidence = Evidence(
        reference, half, tried, measured, scores, allowed,
        lost=tuple(file.lost),
        by_torch=by_torch,
    )  # fmt: skip
    if np.isfinite(scores).all():
        evidence = _with_differences(evidence, detached, source, own, contract, file)
    checks = check_outputs(measured, contract, half, evidence.scale)
    evidence = dataclasses.replace(evidence, outputs=tuple(checks))
    if alive(measured) and contract.precision != "bfloat16":  # which the CPU provider does not run
        alone = any(node.op_type == "DynamicQuantizeLinear" for node in detached.proto.graph.node)
        ran = shipped(detached, contract, measured, alone)
        evidence = dataclasses.replace(evidence, shipped=ran)
    found = verdict(evidence)
    if found.outcome == "disagrees" and by_torch is not None and not evidence.off("image"):
        without = dataclasses.replace(evidence, reference=DIFFERENCES, by_torch=None)
        if (by_differences := verdict(without)).outcome == "agrees":
            evidence, found = without, by_differences
            warnings.warn(
                "the module's backward is not the derivative of its forward pass (an "
                "autograd.Function may have one of its own); the file has the derivative.",
                BacklitWarning,
                stacklevel=2,
            )
    return Parity(found, _one_by_one(evidence))


def _measured(file: File, contract: Contract, ranks: int) -> tuple[Measured, int]:
    """The file on the first test images that it has a gradient on, and how many were tried.

    On the first ones of all, where it has one on none.
    """
    ranks = min(ranks, contract.score.classes)
    first, tried, awake = None, 0, []

    def run(pixels: Array, image: Array) -> Measured:
        return file.run(pixels, image, np.tile(-1 - np.arange(ranks), (len(image), 1)), seen=True)

    for pixels, image in itertools.chain([smooth_noise(contract)], others(contract)):
        measured = run(pixels, image)
        if alive(measured):
            return measured, tried + len(image)
        first, tried = first or measured, tried + len(image)
        awake += [(pixels[n], image[n]) for n in np.flatnonzero(awake_on(measured))]
        if len(awake) >= len(image):
            break
    if awake:
        return run(*map(np.stack, zip(*awake, strict=True))), tried
    if first is None:
        raise ValueError("there is no test image")
    return first, tried


def _scores(
    own: Source, torch_says: ByTorch | None, measured: Measured, contract: Contract, half: bool
) -> tuple[Array, float]:
    """The classifier's own scores, and how far the file's may be from them."""
    if torch_says is not None:
        return torch_says.scores, HALF_SCORES if half else SCORES_FLOAT64
    allowed = HALF_SCORES if half else SCORES
    scores = scores_of(own, measured, contract, optimise=False)
    if not apart(measured.scores, scores) <= allowed:  # what it fuses may round elsewhere (QDQ)
        fused = scores_of(own, measured, contract, optimise=True)
        scores = min(scores, fused, key=lambda s: apart(measured.scores, s))
    if own.quantised and not apart(measured.scores, scores) <= allowed:
        # Its kernels for integers saturate on processors without VNNI, unless they are told to be
        # exact; and they round some numbers to another step. If the reference computes what they
        # do, but for that, it says what the file should.
        exact = scores_of(own, measured, contract, optimise=True, exact=True)
        if apart(scores_in_float64(own, measured, contract, False), exact) <= STEPS_APART:
            scores = scores_in_float64(own, measured, contract, True)
    return scores, allowed


def _with_differences(
    evidence: Evidence, model: Detached, source: ir.Model, own: Source, contract: Contract,
    file: File,
) -> Evidence:  # fmt: skip
    """The same with derivatives by differences; of the file in float64, too, where they are off."""
    measured = evidence.measured

    def by_differences(of: Measured, wanted: Sequence[str], settled: float) -> list[Derivatives]:
        kept: Kept | None = None
        if contract.relu != "gradient":
            kept = FixedSlopes(source, contract, of.image, of.classes[:, 0])
        if "features" in wanted and set(own.taps) < set(file.taps):
            made = []
            if "image" in wanted:
                made = differences(own, of, contract, kept, ["image"], settled)
            plain, of_plain = prepared_source(source, contract, file.taps)
            return made + differences(plain, of, of_plain, kept, ["features"], settled)
        return differences(own, of, contract, kept, wanted, settled)

    most, most_exact = evidence.allowed
    wanted = ["features"] if evidence.torch_agrees() else ["image", "features"]
    found = by_differences(measured, wanted, most)
    evidence = dataclasses.replace(evidence, derivatives=tuple(found))
    off = [of for of in ("image", "features") if evidence.off(of)]
    if not off or not alive(measured) or contract.relu != "gradient":
        return evidence
    again = in_float64(model, contract, measured, file, evidence.worst(off))
    return dataclasses.replace(evidence, exact=tuple(by_differences(again, off, most_exact)))


def _one_by_one(evidence: Evidence) -> tuple[Compared, ...]:
    """Each image and class: of gradients, or of derivatives along a direction."""
    measured = evidence.measured
    if not alive(measured):
        return ()
    if evidence.by_torch is not None and measured.gradient is not None:
        return tuple(
            Compared(n, int(measured.classes[n, k]),
                     *agreement(evidence.by_torch[n, k], measured.gradient[n, k]))
            for n, k in np.ndindex(*measured.classes.shape)
        )  # fmt: skip
    kind = "image" if measured.gradient is not None else "features"
    return tuple(
        Compared(d.image, int(measured.classes[d.image, k]), None, float(error))
        for d in evidence.derivatives if d.of == kind
        for k, error in enumerate(d.error)
    )  # fmt: skip
