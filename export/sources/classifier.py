"""What loading a source gives: the classifier, and what its source says of its input."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

import onnx_ir as ir

if TYPE_CHECKING:
    import torch


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What a source says of its own input; None where it says nothing."""

    size: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    range: Literal["0-1", "0-255"] | None = None
    crop_fraction: float | None = None
    interpolation: Literal["bilinear", "bicubic"] | None = None
    labels: tuple[str, ...] | None = None
    bgr: bool = False


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A loaded classifier.

    Attributes:
        name: as it was asked for.
        sha256: of the ONNX file, or of the weights of a torch module.
        model: the ONNX model; None while a torch module waits to know its input size.
        module: the torch module in eval mode, for verification against autograd.
        says: what the source says of its preprocessing.
    """

    name: str
    sha256: str
    model: ir.Model | None
    module: torch.nn.Module | None = None
    says: Preprocessing = Preprocessing()
