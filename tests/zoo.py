"""torchvision's classifiers with seeded random weights, for tests.

The CPU build of torch lacks two operators that torchvision's import registers fake kernels for;
declaring them lets its pure-Python classifiers load. This is for tests only.
"""

from __future__ import annotations

import functools
from typing import Any

import torch


@functools.cache
def torchvision() -> Any:
    """Import torchvision with the CPU build of torch."""
    global _library
    _library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        _library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision

    return torchvision


def classifier(name: str, seed: int = 0, size: int = 224) -> torch.nn.Module:
    """A classifier with random weights and BatchNorm statistics measured on noise."""
    models = torchvision().models
    torch.manual_seed(seed)
    options = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
    model: torch.nn.Module = models.get_model(name, weights=None, **options)
    norms = [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
        torch.nn.init.normal_(norm.bias, 0.0, 0.2)
        norm.momentum = 1.0
    if norms:
        with torch.no_grad():
            model.train()(torch.randn(4, 3, size, size))
    return model.eval()
