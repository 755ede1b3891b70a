"""Is the gradient right? Parity with torch.autograd, or with finite differences in float64.

Both references run the source classifier itself, not the graph that Backlit made of it.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from ...runtime.contract import Contract, Verification
from ...runtime.errors import VerificationError
from ..graph.weights import Detached, detach, session
from ..precision.rounding import rounded
from ..wrap import GRADIENT
from .held import Held
from .reference import Evaluator, with_output

Array = np.ndarray[Any, Any]

RELATIVE_L2 = 1e-2  # float32 runs of two libraries flip ReLU masks near zero
COSINE = 0.9999
EXACT = 1e-4  # in float64 and without kinks, where RELATIVE_L2 does not hold
SCORES = 1e-3  # largest difference over largest score
SCORES_FLOAT64 = 1e-2  # of float32 from PyTorch's float64: a deep network rounds by 1e-3
HALF = (4.5e-2, 0.999, 1e-2, 1e-2)  # the same four, for files that round weights and tensors
UNEVEN = 0.8  # cosine of two ways of rounding; 0.99 on SqueezeNet, below 0.5 with masks gone wrong
LARGEST = 0.5  # however a model rounds (int8): a wrong gradient is off by about 1
_IMAGES = 2
_AUTOGRAD, _DIFFERENCES = "torch.autograd", "finite differences, float64"
_HELD = f"{_DIFFERENCES}, of the classifier with its ReLUs held to the slopes of the rule"
_RANKS = {_AUTOGRAD: 2, _DIFFERENCES: 5, _HELD: 1}  # the scores of all classes come at once


@dataclasses.dataclass(frozen=True)
class Measured:
    """What the file under test returned for the test images."""

    pixels: Array  # float64 [N, C, H, W], the graph's own image values
    scores: Array  # float32 [N, classes]
    classes: Array  # int64 [N, K]
    gradient: Array  # float64 [N, K, C, H, W]
    reduced: bool  # the file's own output is exactly this gradient, or its reduction


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
    by_torch = module is not None and not contract.score.left_out
    reference = _AUTOGRAD if by_torch else _DIFFERENCES
    if contract.relu != "gradient":
        reference = _HELD
    half = contract.precision in ("float16", "bfloat16")
    detached = detach(model)
    # ONNX Runtime's CPU provider rounds between some nodes only, unless roundings are nodes.
    runs = detach(rounded(model)) if half else detached
    measured = _measure(runs, contract, _RANKS[reference], optimise=not half)

    if reference == _HELD:
        held = Held(source, contract, smooth_noise(contract)[1], measured.classes[:, 0])
        expected, found, scores = _differences(detach(source), measured, contract, held=held)
        if by_torch:  # that was of what PyTorch exported
            import torch

            with torch.no_grad():
                scores = _scores(module, torch.tensor(measured.pixels), contract).numpy()
    elif by_torch:
        expected, found, scores = _autograd(module, measured, contract)
    else:
        expected, found, scores = _differences(detach(source), measured, contract)
    cosine, error = _agreement(expected, found)
    exact = None
    single = (RELATIVE_L2, COSINE, EXACT, SCORES_FLOAT64 if by_torch else SCORES)
    most, least, most_exact, most_scores = HALF if half else single
    if error > most and reference != _HELD:  # is that rounding, or is the gradient wrong?
        again = _in_float64(detached, contract, measured)
        # Of the ONNX source: its exporter folded BatchNormalization into float32 weights.
        _, exact = _agreement(*_differences(detach(source), again, contract, smooth=True)[:2])
    result = Verification(
        reference,
        cosine=cosine,
        relative_l2=error,
        samples=measured.classes.size,
        scores_relative=float(np.abs(measured.scores - scores).max() / np.abs(scores).max()),
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
    found = _measure(model, contract, measured.classes.shape[1], optimise=True)
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


def _in_float64(model: Detached, contract: Contract, measured: Measured) -> Measured:
    """The first image's first gradient again, the file itself computing in float64.

    float32 flips ReLU masks near zero, and a deep network multiplies that: PyTorch's own float32 is
    as far from its float64. In float64 a right gradient is right to many digits.
    """
    pixels, classes = measured.pixels[:1], measured.classes[:1, :1]
    image = pixels
    if contract.image.dtype == "uint8":
        image = pixels.astype(np.uint8).transpose(0, 2, 3, 1)
    engine = Evaluator(model.replace(with_output(model.proto, GRADIENT)))
    (gradient,) = engine.run([GRADIENT], {"image": image, "class_index": classes})
    return Measured(pixels, measured.scores[:1], classes, gradient.swapaxes(0, 1), reduced=True)


def smooth_noise(contract: Contract, count: int = _IMAGES) -> tuple[Array, Array]:
    """Seeded test images: natural-looking, and without ties.

    Returns:
        float64 [N, C, H, W] in the graph's own image values, and the same as the graph takes them.
    """
    rng = np.random.default_rng(0)
    spec = contract.image
    size = (spec.height, spec.width)
    coarse = rng.uniform(0, 255, (count, spec.channels, 8, 8))
    repeat = np.ones((1, 1, -(-size[0] // 8), -(-size[1] // 8)))
    smooth = np.kron(coarse, repeat)[..., : size[0], : size[1]]
    pixels = np.clip(smooth + rng.normal(0, 20, smooth.shape), 0, 255).round()
    if spec.dtype == "uint8":
        image = pixels.astype(np.uint8).transpose(0, 2, 3, 1)
    else:
        pixels = _preprocessed(pixels, contract)
        image = pixels.astype(np.float32)
        pixels = image.astype(np.float64)
    return pixels, np.ascontiguousarray(image)


def _measure(model: Detached, contract: Contract, ranks: int, optimise: bool) -> Measured:
    """Run the graph on test images."""
    pixels, image = smooth_noise(contract)
    ranks = min(ranks, contract.score.classes)
    runs = session(model.replace(with_output(model.proto, GRADIENT, keep=True)), optimise)
    index = np.tile(-1 - np.arange(ranks), (_IMAGES, 1))
    by_pixel = [m.name for m in contract.maps if m.name in ("saliency", "gradient")]
    names = ["scores", "class", GRADIENT, *by_pixel]
    # A range that is measured at run time is that of the whole batch: then one image at a time.
    alone = any(node.op_type == "DynamicQuantizeLinear" for node in model.proto.graph.node)
    parts = [slice(i, i + 1) for i in range(_IMAGES)] if alone else [slice(None)]
    made = [runs.run(names, {"image": image[p], "class_index": index[p]}) for p in parts]
    scores, classes = (np.concatenate([m[i] for m in made]) for i in range(2))
    gradient = np.concatenate([m[2] for m in made], axis=1).swapaxes(0, 1)
    same = {"saliency": np.abs(gradient).max(2), "gradient": gradient}
    reduced = all(
        np.array_equal(np.concatenate([m[i] for m in made]), same[name], equal_nan=True)
        for i, name in enumerate(by_pixel, 3)
    )
    return Measured(pixels, scores, classes, gradient.astype(np.float64), reduced)


def _autograd(module: Any, measured: Measured, contract: Contract) -> tuple[Array, Array, Array]:
    """Expected and found gradients [N*K, C*H*W], and the module's scores.

    In float64, so that only one side of the comparison rounds: float32 flips ReLU masks near zero,
    and each flip shows. All images at once: PyTorch 2.13 differentiates some models wrong in a
    batch of one (xcit, iformer).
    """
    import torch

    pixels = torch.tensor(measured.pixels, dtype=torch.float64, requires_grad=True)
    scores = _scores(module, pixels, contract)
    expected = np.empty_like(measured.gradient)
    for n, k in np.ndindex(*measured.classes.shape):
        score = scores[n, measured.classes[n, k]]
        (gradient,) = torch.autograd.grad(score, pixels, retain_graph=True)
        expected[n, k] = gradient[n].numpy()
    rows = (measured.classes.size, -1)
    return expected.reshape(rows), measured.gradient.reshape(rows), scores.detach().numpy()


def _scores(module: Any, pixels: Any, contract: Contract) -> Any:
    """The module's own scores, a float64 tensor [N, classes], of the graph's own image values."""
    x = _preprocessed(pixels, contract) if contract.image.dtype == "uint8" else pixels
    return copy.deepcopy(module).double()(x).flatten(1)


def _differences(
    source: Detached,
    measured: Measured,
    contract: Contract,
    smooth: bool = False,
    held: Held | None = None,
) -> tuple[Array, Array, Array]:
    """Derivatives along a random direction per image, by central differences and by our gradient.

    In float64 a step this small crosses few kinks and still has nine digits. ``held``: what the
    classifier is held to around each image.
    """
    tensor = contract.score.tensor
    single = with_output(source.proto, tensor)
    weights = {t.name for t in single.graph.initializer}
    image = next(v for v in single.graph.input if v.name not in weights)
    input_name, dims = image.name, [d.dim_value for d in image.type.tensor_type.shape.dim]
    spec, made = contract.image, {y for node in single.graph.node for y in node.output}
    first, last = [spec.channels, spec.height, spec.width], [spec.height, spec.width, spec.channels]
    fits = [len(dims) == 4 and _admits(dims[1:], wanted) for wanted in (first, last)]
    if tensor not in made or not any(fits):
        raise VerificationError(
            f"the source takes images {dims} or has no tensor {tensor!r}: it is not the classifier "
            f"this file was made of ({contract.source.name}).",
            "give the classifier that was exported.",
        )
    source = source.replace(single)

    def prepared(pixels: Array) -> Array:
        x = _preprocessed(pixels, contract) if contract.image.dtype == "uint8" else pixels
        return x if fits[0] else x.transpose(0, 2, 3, 1)

    def run(engine: Any, pixels: Array, dtype: Any) -> Array:
        x, count = prepared(pixels).astype(dtype), max(dims[0], 1)  # the source's fixed batch
        one_by_one = [engine.run([tensor], {input_name: np.stack([v] * count)})[0] for v in x]
        return np.stack([np.asarray(scores).reshape(count, -1)[0] for scores in one_by_one])

    # One engine after the other: each holds the weights once more.
    original = session(source)
    half = original.get_inputs()[0].type == "tensor(float16)"
    scores = run(original, measured.pixels, np.float16 if half else np.float32)
    del original
    reference, rng = Evaluator(source, smooth, held), np.random.default_rng(1)
    step = 1e-7 if contract.image.dtype == "uint8" else 1e-9
    if held is not None:  # which leaves no kinks of ReLUs to cross
        step *= 1e3
    expected, found = [], []
    for n, (image, classes, gradient) in enumerate(
        zip(measured.pixels, measured.classes, measured.gradient, strict=True)
    ):
        if held is not None:
            held.image(n)
        direction = rng.standard_normal(image.shape)
        moved = np.stack([image + step * direction, image - step * direction])
        reference.anchor({input_name: np.repeat(prepared(image[None]), max(dims[0], 1), 0)})
        ahead, behind = run(reference, moved, np.float64)
        expected.append((ahead[classes] - behind[classes]) / (2 * step))
        found.append((gradient * direction).sum((1, 2, 3)))
    return np.concatenate(expected), np.concatenate(found), scores


def _admits(dims: list[int], wanted: list[int]) -> bool:
    """Whether declared lengths, 0 where dynamic, allow these."""
    return all(d in (0, w) for d, w in zip(dims, wanted, strict=True))


def _preprocessed(pixels: Any, contract: Contract) -> Any:
    """0..255 RGB pixels [N, C, H, W] (numpy or torch) as the classifier takes them.

    Scale and shift are rounded to float32, as they stand in the file: in float64 such a difference
    in the input is enough to flip ReLU masks.
    """
    if contract.image.colour == "BGR":
        pixels = pixels[:, [2, 1, 0]]
    scale, shift = (np.array(v, np.float32).tolist() for v in contract.normalisation.affine())
    parts = [pixels[:, c] * scale[c] + shift[c] for c in range(len(scale))]
    if isinstance(pixels, np.ndarray):
        return np.stack(parts, 1)
    import torch

    return torch.stack(parts, 1)
