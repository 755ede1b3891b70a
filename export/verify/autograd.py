"""The reference of torch classifiers: torch.autograd on the module, in float64."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from typing import Any

import numpy as np

from ...runtime.arrays import Array
from ...runtime.contract import Contract
from ..probes import preprocessed
from .measured import Measured


@dataclasses.dataclass(frozen=True)
class ByTorch:
    """What the module itself gives.

    Attributes:
        scores: float64 [N, classes].
        gradient: float64 [N, K, C, H, W] by the image; None where autograd gives none, or the file
            has none to compare.
    """

    scores: Array
    gradient: Array | None


def autograd(module: Any, measured: Measured, contract: Contract) -> ByTorch | None:
    """The module's own scores and gradients; None where it cannot be run.

    In float64, so that only one side of the comparison rounds: float32 flips ReLU masks near zero,
    and each flip shows. All images at once: PyTorch 2.13 differentiates some models wrong in a
    batch of one (xcit, iformer).

    There are no gradients where autograd does not see the input, as where the module detaches it.
    """
    import torch

    plainly = torch.autocast("cpu", enabled=False)
    with torch.inference_mode(False), torch.enable_grad(), plainly:
        pixels = torch.tensor(measured.pixels, dtype=torch.float64, requires_grad=True)
        scores = module_scores(module, pixels, contract)
        if scores is None or scores.shape != measured.scores.shape:
            return None
        own = scores.detach().numpy()
        if measured.gradient is None:
            return ByTorch(own, None)
        expected = np.empty_like(measured.gradient)
        for n, k in np.ndindex(*measured.classes.shape):
            score = scores[n, measured.classes[n, k]]
            try:
                (gradient,) = torch.autograd.grad(score, pixels, retain_graph=True)
            except RuntimeError:
                return ByTorch(own, None)
            expected[n, k] = gradient[n].numpy()
    return ByTorch(own, expected)


def module_scores(module: Any, pixels: Any, contract: Contract) -> Any:
    """The module's own scores, a float64 tensor [N, classes], of the graph's own image values.

    None where it runs neither in float64 nor in float32.
    """
    import torch

    x = preprocessed(pixels, contract) if contract.image.dtype == "uint8" else pixels
    for dtype in (torch.float64, torch.float32):  # the second where a module's own code insists
        try:
            with warnings.catch_warnings():  # of what a user's module is made of
                warnings.simplefilter("ignore")
                copied = copy.deepcopy(module)
                copied = copied.double() if dtype == torch.float64 else copied.float()
                scores = copied(x.to(dtype))
            return scores.double().reshape(len(x), -1)
        except Exception:  # noqa: S112 - whatever the module's own code raises
            continue
    return None
