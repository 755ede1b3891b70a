"""The reference of torch classifiers: torch.autograd on the module, in float64."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from ...runtime.arrays import Array
from ...runtime.contract import Contract
from ..probes import preprocessed
from .measured import Measured


def autograd(module: Any, measured: Measured, contract: Contract) -> tuple[Array, Array, Array]:
    """Expected and found gradients [N*K, C*H*W], and the module's scores.

    In float64, so that only one side of the comparison rounds: float32 flips ReLU masks near zero,
    and each flip shows. All images at once: PyTorch 2.13 differentiates some models wrong in a
    batch of one (xcit, iformer).
    """
    import torch

    pixels = torch.tensor(measured.pixels, dtype=torch.float64, requires_grad=True)
    scores = module_scores(module, pixels, contract)
    expected = np.empty_like(measured.gradient)
    for n, k in np.ndindex(*measured.classes.shape):
        score = scores[n, measured.classes[n, k]]
        (gradient,) = torch.autograd.grad(score, pixels, retain_graph=True)
        expected[n, k] = gradient[n].numpy()
    rows = (measured.classes.size, -1)
    return expected.reshape(rows), measured.gradient.reshape(rows), scores.detach().numpy()


def module_scores(module: Any, pixels: Any, contract: Contract) -> Any:
    """The module's own scores, a float64 tensor [N, classes], of the graph's own image values."""
    x = preprocessed(pixels, contract) if contract.image.dtype == "uint8" else pixels
    return copy.deepcopy(module).double()(x).flatten(1)
