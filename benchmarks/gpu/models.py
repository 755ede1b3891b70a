"""Classifiers of the GPU benchmark, as its processes can unpickle them."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import torch
from support import zoo

from benchmarks.bench.networks import Wrapped

__all__ = ["MEAN", "STD", "Wrapped", "classifier", "exact"]

MEAN, STD = zoo.MEAN, zoo.STD
Array = np.ndarray[Any, Any]


def classifier(name: str, size: int) -> torch.nn.Module:
    """torchvision's classifier of that name, or what ``module:callable`` returns; seeded weights.

    Weights are as if trained: BatchNorm statistics are measured, nothing is zero (zoo.lifelike).
    """
    torch.manual_seed(0)
    module, _, attribute = name.partition(":")
    if attribute:
        made = getattr(importlib.import_module(module), attribute)()
    else:
        made = zoo.torchvision().models.get_model(name, weights=None)
    return zoo.lifelike(made, size)


def exact(
    module: torch.nn.Module, images: Array, index: Array, about: dict[str, Any]
) -> tuple[Array, Array]:
    """Scores [N,classes] and saliency [N,K,H,W] by torch.autograd in float64.

    Args:
        module: the classifier, left as it is.
        images: uint8 [N,H,W,3].
        index: int64 [N,K].
        about: ``scale`` and ``shift`` of the prologue.
    """
    module.double()
    affine = [torch.tensor(about[key]).double().reshape(3, 1, 1) for key in ("scale", "shift")]
    scores, maps = [], []
    for image, classes in zip(images, index, strict=True):  # one by one: in bounded memory
        planes = torch.from_numpy(image).permute(2, 0, 1).double()
        pixels = torch.stack([planes, planes]).requires_grad_()  # two: see zoo.py
        found = module(pixels * affine[0] + affine[1])[0]
        gradients = [torch.autograd.grad(found[c], pixels, retain_graph=True)[0] for c in classes]
        maps.append(torch.stack([g[0].abs().amax(0) for g in gradients]))
        scores.append(found.detach())
    module.float()
    return torch.stack(scores).numpy(), torch.stack(maps).numpy()
