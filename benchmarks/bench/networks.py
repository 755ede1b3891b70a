"""torchvision's classifiers as the benchmark's processes can unpickle them."""

from __future__ import annotations

import torch
from support import zoo

zoo.torchvision()  # before the pickle of a module names one of its classes


class Wrapped(torch.nn.Module):
    """A classifier; its pickle imports this module first."""

    def __init__(self, classifier: torch.nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.classifier(x)
        return scores
