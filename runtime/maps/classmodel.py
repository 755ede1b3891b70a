"""Class-model visualisation: the image that a classifier scores highest for a class.

Simonyan et al. 2013, section 2: ``argmax_I S_c(I) - lambda * ||I||_2^2`` by gradient ascent on the
unnormalised class score S_c, from the zero image, the training set's mean image added at the end.
The gradient is the one that the Backlit file returns, so nothing else is needed.

The image I is held as zero-centred pixels: ``(pixel - mean) / 255``, RGB, where ``mean`` is the
pixel that the classifier's normalisation takes to zero. That is the paper's input space, whatever
the classifier divides by besides, and it gives step and lambda the same meaning for every file. I
is kept within what pixels can be (0 to 255), or its picture would not be what was scored.

A file with float32 input is given I exactly. One with uint8 input is given I rounded to pixels in
each step, while I itself stays float32: steps far below one grey level add up, and the same file
that explains images draws class models.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arrays import Doubles, Floats, Index, Pixels
from ..backend.runner import Runner
from ..contract import Contract
from ..errors import ClassError, ModelError, OptionError
from .classes import find
from .smoothness import blurred, shifted, variation_gradient

MAP = "gradient"
"""The map that a file must return: saliency has lost the signs."""


@dataclasses.dataclass(frozen=True)
class Ascent:
    """The objective and how it is climbed; the defaults are the paper's objective alone.

    Every step moves the image by ``lr`` (root mean square over its values, falling linearly to
    nothing at the last step) along the objective's gradient: scores of different classifiers
    differ by orders of magnitude, so the gradient's length says nothing.

    Attributes:
        steps: how many.
        lr: length of the first step, root mean square in units of the pixel range.
        l2: the paper's lambda, score per square of the image's L2 norm.
        seed: of the shifts of ``jitter``, and of the noise where there is no gradient.
        jitter: beyond the paper: in each step the classifier is shown the image shifted by up to so
            many pixels down or up and across (Mordvintsev et al. 2015, "Inceptionism"), with the
            mean in the gap: what is drawn must survive it, so it is drawn smooth, and inside.
        blur: beyond the paper: standard deviation in pixels of a Gaussian filter on each step's
            direction (Olah et al. 2017, "Feature Visualization"); 0 filters nothing.
        tv: beyond the paper: weight of total variation, the sum over pixels and channels of
            ``sqrt(dx^2 + dy^2)``, taken from the objective (Mahendran and Vedaldi 2015,
            arXiv 1412.0035, with beta = 1, rounded off below 0.01).

    Raises:
        OptionError: a value is out of range.
    """

    steps: int = 200
    lr: float = 0.01
    l2: float = 0.003
    seed: int = 0
    jitter: int = 0
    blur: float = 0.0
    tv: float = 0.0

    def __post_init__(self) -> None:
        for name in ("steps", "lr"):
            if not 0 < getattr(self, name) < math.inf:
                raise OptionError(f"{name}={getattr(self, name)} is not above 0.", "give more.")
        for name in ("l2", "seed", "jitter", "blur", "tv"):
            if not 0 <= getattr(self, name) < math.inf:
                raise OptionError(f"{name}={getattr(self, name)} is below 0.", "give 0 or more.")


@dataclasses.dataclass(frozen=True, eq=False)
class ClassModel:
    """The image of one class.

    Attributes:
        index: the class.
        label: its name; None if the file has no labels.
        picture: uint8 [H,W,C], RGB or grey: the image with the mean added, as it can be saved.
        scores: float32 [steps], the class score that each step started from, of what the classifier
            was shown (with ``jitter``, of the shifted image).
        score: of ``picture``.
        probability: of the class for ``picture``: softmax of the scores, or the sigmoid where the
            classifier ends in one.
        named: the top-scoring class of ``picture``.
        blind: steps in which the score had no gradient at all and the direction was noise.
    """

    index: int
    label: str | None
    picture: Pixels
    scores: Floats
    score: np.float32
    probability: float
    named: int
    blind: int


def required(contract: Contract, where: str) -> list[str]:
    """The maps that class models need of a file: ``Runner``'s ``maps``.

    Raises:
        OptionError: the file returns no gradient with signs, or that of another ReLU rule.
    """
    line = f"export it again: {_export_line(contract, where)}"
    if contract.map(MAP) is None:
        has = ", ".join(made.name for made in contract.maps)
        raise OptionError(
            f"{where} returns {has}, but to climb a score takes its gradient with the signs.", line
        )
    if contract.relu != "gradient":
        raise OptionError(
            f"{where} was exported with --relu {contract.relu}, which is not the score's gradient.",
            line,
        )
    return [MAP]


def ascend(
    runner: Runner,
    classes: Sequence[int | str],
    how: Ascent | None = None,
    report: Callable[[int, Floats], None] | None = None,
) -> list[ClassModel]:
    """Draw classes, all in one batch; the result for a class does not depend on the others.

    The buffers of the graph are allocated once and stay bound (``binding.Binding``); a step copies
    the image in and the gradient out.

    Args:
        runner: a file that returns ``gradient``.
        classes: N indices or labels.
        how: the objective and the steps; None: the paper's.
        report: called after each step with its number from 0 and the scores float32 [N] before it.

    Raises:
        OptionError: the file returns no gradient.
        ClassError: a class does not exist, is a rank, or none is given.
        ModelError: ONNX Runtime fails, or scores or gradients are not finite.
    """
    how = how or Ascent()
    contract, spec = runner.contract, runner.contract.image
    required(contract, runner.path)
    if spec.channels not in (1, 3):
        raise OptionError(
            f"a class model is a picture, and the file takes {spec.channels} bands.",
            "give a file that takes RGB or grey.",
        )
    index = _indices(classes, contract)
    mean = _mean(contract)
    lowest, highest = -mean / 255, 1 - mean / 255
    image = np.zeros((len(index), spec.channels, spec.height, spec.width), np.float32)
    history = np.empty((how.steps, len(index)), np.float32)
    blind = np.zeros(len(index), np.int64)
    for step in range(how.steps):
        # Of the step's number, so that no class changes what is drawn for another.
        rng = np.random.default_rng((how.seed, step))
        down, across = (int(n) for n in rng.integers(-how.jitter, how.jitter, 2, endpoint=True))
        score, slope = _evaluate(runner, shifted(image, down, across), index)
        history[step] = score
        if not (np.isfinite(score).all() and np.isfinite(slope).all()):
            raise ModelError(
                f"{runner.path}: score or gradient is not a finite number in step {step}.",
                "check the file: backlit verify FILE SOURCE.",
            )
        direction = shifted(slope, -down, -across) - 2 * how.l2 * image
        if how.tv:
            direction -= how.tv * variation_gradient(image)
        if how.blur:
            direction = blurred(direction, how.blur)
        # A classifier with a ReLU at its end may score 0 all around the zero image.
        lost = ~slope.any(axis=(1, 2, 3))
        if lost.any():
            direction[lost] = rng.standard_normal(image.shape[1:], np.float32)
            blind += lost
        length = np.sqrt(np.square(direction).mean(axis=(1, 2, 3), keepdims=True))
        image += direction * (how.lr * (1 - step / how.steps) / np.maximum(length, 1e-30))
        np.clip(image, lowest, highest, out=image)
        if report is not None:
            report(step, score)
    return _drawn(runner, index, _pixels(image, mean), history, blind)


def _drawn(
    runner: Runner,
    index: Index,
    pictures: Pixels,
    history: Floats,
    blind: Index,
) -> list[ClassModel]:
    """What the classifier says of the pictures as they are saved."""
    contract = runner.contract
    scores = runner.run(pictures, index[:, None]).scores
    chances = _probabilities(scores, contract)
    return [
        ClassModel(
            index=int(one),
            label=None if contract.labels is None else contract.labels[one],
            picture=pictures[row],
            scores=history[:, row],
            score=scores[row, one],
            probability=float(chances[row, one]),
            named=int(scores[row].argmax()),
            blind=int(blind[row]),
        )
        for row, one in enumerate(index)
    ]


def _indices(classes: Sequence[int | str], contract: Contract) -> Index:
    if not classes:
        raise ClassError("no class was given.", "give at least one.")
    index = np.array([find(value, contract) for value in classes], np.int64)
    if index.min() < 0:
        raise ClassError(
            f"class {index.min()} is a rank, and a rank needs an image.",
            f"give an index from 0 to {contract.score.classes - 1}, or a label.",
        )
    return index


def _evaluate(runner: Runner, image: Floats, index: Index) -> tuple[Floats, Floats]:
    """Scores [N] of zero-centred images [N,C,H,W], and their derivatives by those."""
    contract = runner.contract
    if contract.image.dtype == "uint8":
        found = runner.run(_pixels(image, _mean(contract)), index[:, None])
        # Straight through the rounding.
        return found.score[:, 0], found[MAP][:, 0] * np.float32(255)
    per_pixel = np.array(contract.normalisation.affine()[0], np.float32)[:, None, None]
    found = runner.run(_ordered(image, contract) * (255 * per_pixel), index[:, None])
    return found.score[:, 0], _ordered(found[MAP][:, 0] * (255 * per_pixel), contract)


def _ordered(planes: npt.NDArray[Any], contract: Contract) -> npt.NDArray[Any]:
    """RGB [N,C,H,W] as the classifier orders the channels, and back."""
    return planes[:, ::-1] if contract.image.colour == "BGR" else planes


def _mean(contract: Contract) -> Floats:
    """The pixel value that is normalised to zero: [C,1,1], RGB."""
    return np.array(contract.mean_pixel(), np.float32)[:, None, None]


def _pixels(image: Floats, mean: Floats) -> Pixels:
    """Zero-centred [N,C,H,W] -> uint8 [N,H,W,C]."""
    values = np.clip(np.rint(image * np.float32(255) + mean), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(values.transpose(0, 2, 3, 1))


def _probabilities(scores: Floats, contract: Contract) -> Doubles:
    values = scores.astype(np.float64)
    if contract.score.independent:
        return np.asarray(1 / (1 + np.exp(-values)))
    raised = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _export_line(contract: Contract, where: str) -> str:
    """The command that makes the right file of the same classifier."""
    rule, image = contract.normalisation, contract.image
    words = ["backlit export", contract.source.name, "-o"]
    words += [where.removesuffix(".onnx").removesuffix(".backlit") + ".gradient.onnx"]
    words += ["--maps gradient", f"--range {rule.range}"]
    words += [f"--{name} {','.join(map(str, values))}"
              for name, values in (("mean", rule.mean), ("std", rule.std))]  # fmt: skip
    words += ["--bgr"] * (image.colour == "BGR") + ["--resize crop"] * (image.resize == "crop")
    words += ["--labels FILE"] * (contract.labels is not None)
    return " ".join(words)
