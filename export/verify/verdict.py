"""What the evidence says: the file agrees, it disagrees, or nothing was measured.

Nothing is called right that could not have failed: zero against zero, numbers that are none, and a
network that rounds more than a fault would show are "not measured". And nothing is called wrong by
a reference that has not settled.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from ...runtime.contract import OutputCheck, Verification
from .evidence import CLEAR, TIGHT, Evidence, alive, worst_error
from .source import apart

UNEVEN = 0.8  # cosine of two ways of rounding; 0.99 on SqueezeNet, below 0.5 with masks gone wrong
CONSTANTS = 0.1  # of an error in float32: what is left of it in float64 where constants are float32
LARGEST = 0.5  # however a network rounds: a wrong gradient is off by about 1


def verdict(evidence: Evidence) -> Verification:
    """Sum it up."""
    wrong, unknown = _scores(evidence)
    if not unknown:
        for judged in (_outputs(evidence), _gradients(evidence), _shipped(evidence)):
            wrong, unknown = wrong + judged[0], unknown + judged[1]
    cosine, error, samples = _figures(evidence)
    exact = worst_error(evidence.exact) if evidence.exact else None
    found = apart(evidence.measured.scores, evidence.scores)
    return Verification(
        evidence.reference,
        cosine=_number(cosine),
        relative_l2=_number(error),
        samples=samples,
        scores_relative=_number(found),
        exact=_number(exact),
        rounding=evidence.rounding,
        outputs=_checks(evidence),
        outcome="disagrees" if wrong else "not measured" if unknown else "agrees",
        because=tuple(dict.fromkeys(wrong or unknown)),
    )


Judged = tuple[list[str], list[str]]
"""What is wrong, and what cannot be known."""


def _scores(e: Evidence) -> Judged:
    if not np.isfinite(e.scores).all():
        return [], [f"the classifier's own scores are inf or nan on all {e.tried} test images"]
    off = apart(e.measured.scores, e.scores)
    if not off <= e.scores_allowed:
        return [f"scores differ by {off:.1e}, expected at most {e.scores_allowed:.0e}"], []
    return [], []


def _outputs(e: Evidence) -> Judged:
    wrong = [_said(check) for check in e.outputs if not check.passes]
    unknown = [f"the file holds no gradient by its feature map {name!r}" for name in e.lost]
    return wrong, unknown


def _gradients(e: Evidence) -> Judged:
    if not alive(e.measured):
        return _silent(e)
    judged = [_image(e)] if e.measured.gradient is not None else []
    if e.measured.taps:
        judged.append(_derivatives(e, "features"))
    if not any(d.expected.any() for d in e.derivatives) and e.by_torch is None:
        judged.append(([], ["the reference has no gradient but zero"]))
    return [w for j in judged for w in j[0]], [u for j in judged for u in j[1]]


def _silent(e: Evidence) -> Judged:
    """The file's gradient is zero, or no number: is the reference's, too?"""
    gradients = e.measured.gradients
    finite = all(np.isfinite(gradient).all() for gradient in gradients)
    if e.by_torch is not None:
        there = bool(np.isfinite(e.by_torch).all() and e.by_torch.any())
    else:  # where the file's is not zero, that the reference's is not either says nothing
        dead = [d for d in e.derivatives if not d.found.any() or not finite]
        there = any((np.abs(d.expected) > CLEAR * d.noise).any() for d in dead)
    if not finite:
        if there:
            return [f"the gradient holds inf or nan, and that by {e.reference} does not"], []
        return [], [f"the gradient is inf or nan on all {e.tried} test images"]
    if there:
        return [f"the gradient is zero, and that by {e.reference} is not"], []
    return [], [f"no score of the classifier moves with the image: its gradient is zero on all "
                f"{e.tried} test images"]  # fmt: skip


def _image(e: Evidence) -> Judged:
    by_torch = e.by_autograd()
    if by_torch is None:
        return _derivatives(e, "image")
    if e.torch_agrees():
        return [], []
    error = by_torch[1]
    wrong, unknown = _derivatives(e, "image")
    if not wrong and not unknown and not error <= LARGEST:
        return _far("the gradient", error, LARGEST, e)
    if unknown and error <= max(10 * TIGHT, CLEAR * (e.rounding or 0.0)):
        return [], []  # the differences have not settled, and torch has
    return wrong, unknown


def _derivatives(e: Evidence, of: str) -> Judged:
    """What differences say of the gradient by the image, or by the feature maps."""
    what = "the gradient" if of == "image" else "the gradient by feature maps"
    mine, exact = ([d for d in ds if d.of == of] for ds in (e.derivatives, e.exact))
    most, most_exact = e.allowed
    error = worst_error(mine)
    if error <= most:
        return [], []
    # What float32's rounding of constants becomes in a network that multiplies rounding.
    constants = min(error * CONSTANTS, most)
    allowed = [np.clip(CLEAR * d.noise, max(most_exact, constants), most) for d in exact]
    if exact and all((d.error <= a).all() for d, a in zip(exact, allowed, strict=True)):
        return ([], []) if error <= LARGEST else _far(what, error, LARGEST, e)
    judged = exact or mine
    unsettled = [d for d in judged if (CLEAR * d.noise >= d.error).all()]
    if unsettled and not any((d.error > np.maximum(CLEAR * d.noise, most)).any() for d in judged):
        return [], [
            f"the classifier's own rounding is as large as {what}: differences by two steps are "
            f"{max(float(d.noise.max()) for d in unsettled):.1e} apart"
        ]
    again = f" ({worst_error(exact):.1e} computed in float64)" if exact else ""
    return [f"{what} is off by {error:.1e}{again}, expected at most {most:.0e}"], []


def _far(what: str, error: float, most: float, e: Evidence) -> Judged:
    """Too far from the reference to be right, if the network does not round as much itself."""
    said = f"{what} is off by {error:.1e}, expected at most {most:.0e}"
    if (e.rounding or 0.0) * CLEAR >= error:
        return [], [f"{said}, and the network's own rounding moves its maps by {e.rounding:.1e}"]
    return [said], []


def _shipped(e: Evidence) -> Judged:
    if e.shipped is None:
        return [], []
    wrong = [_said(check) for check in e.shipped.checks if not check.passes]
    if e.half:
        if e.shipped.cosine < UNEVEN:
            wrong.append(f"as ONNX Runtime rounds it, it is another: cosine {e.shipped.cosine:.3f}")
        return wrong, []
    if e.rounding is None or e.rounding > LARGEST:
        moved = "no numbers" if e.rounding is None else f"{e.rounding:.1e}"
        return wrong, [f"the network's own rounding moves its maps by {moved}: that far they are "
                       "apart with and without ONNX Runtime's optimisations"]  # fmt: skip
    return wrong, []


def _said(check: OutputCheck) -> str:
    if check.error is None:
        return f"{check.name} is no number"
    what = {
        "class": "of the classes are not those of their rank",
        "ranks": "of all ranks resolve to another class",
        "batch": "is what outputs move by with the batch and the classes asked for",
    }.get(check.name, "is how far it is from its definition")
    return f"{check.name}: {check.error:.1e} {what}, expected at most {check.allowed:.0e}"


def _checks(e: Evidence) -> tuple[OutputCheck, ...]:
    """Each output with the larger of its errors: from its definition, and of its parts."""
    parts = {}
    for of in ("image", "features"):
        mine = [d for d in e.derivatives if d.of == of]
        if mine:
            parts[of] = OutputCheck(f"gradient by {of}", _number(worst_error(mine)), e.allowed[0])
    shipped = () if e.shipped is None else e.shipped.checks
    checks = [*e.outputs, *parts.values(), *shipped]
    return tuple(dataclasses.replace(c, error=_number(c.error)) for c in checks)


def _figures(e: Evidence) -> tuple[float | None, float | None, int]:
    """Cosine and relative L2 from the reference, and how many gradients or directions they are of.

    Of the image, where the file has its gradient.
    """
    if not alive(e.measured):
        return None, None, 0
    by_torch = e.by_autograd()
    if by_torch is not None:
        return *by_torch, e.measured.classes.size
    of = "image" if e.measured.gradient is not None else "features"
    mine = [d for d in e.derivatives if d.of == of]
    if not mine:
        return None, None, 0
    expected = np.concatenate([d.expected for d in mine])
    found = np.concatenate([d.found for d in mine])
    errors = np.concatenate([d.error for d in mine])
    lengths = float(np.linalg.norm(expected) * np.linalg.norm(found))
    cosine = float(expected @ found) / lengths if lengths else 0.0
    return cosine, float(np.sqrt(np.mean(errors**2))), errors.size


def _number(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
