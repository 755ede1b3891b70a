"""Images to measure a classifier with."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..runtime.arrays import Array
from ..runtime.contract import Contract

IMAGES = 2
"""How many are measured by default."""


def smooth_noise(contract: Contract, count: int = IMAGES) -> tuple[Array, Array]:
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
        pixels = preprocessed(pixels, contract)
        image = pixels.astype(np.float32)
        pixels = image.astype(np.float64)
    return pixels, np.ascontiguousarray(image)


def preprocessed(pixels: Any, contract: Contract) -> Any:
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
