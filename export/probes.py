"""Images to measure a classifier with."""

from __future__ import annotations

from collections.abc import Iterator
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
    return as_taken(smooth + rng.normal(0, 20, smooth.shape), contract)


def others(contract: Contract) -> Iterator[tuple[Array, Array]]:
    """More seeded test images, for networks that those above leave cold; as `smooth_noise`.

    In pairs: spectra that fall with the frequency, as a photo's does; noise of full contrast, and
    of little; nearly black and nearly white; ten and a hundred times as far as pixels go, where
    the graph takes what the classifier does.
    """
    rng = np.random.default_rng(2)
    spec = contract.image
    shape = (IMAGES, spec.channels, spec.height, spec.width)
    across = np.hypot(*np.meshgrid(np.fft.fftfreq(shape[2]), np.fft.rfftfreq(shape[3]),
                                   indexing="ij"))  # fmt: skip
    falling = 1 / np.maximum(across, 1 / max(shape[2:]))
    waves = np.fft.irfft2(np.fft.rfft2(rng.standard_normal(shape)) * falling, s=shape[2:])
    yield as_taken(128 + 60 * waves / waves.std((1, 2, 3), keepdims=True), contract)
    noise = rng.uniform(-1, 1, shape)
    yield as_taken(128 + 128 * noise, contract)
    yield as_taken(128 + 20 * noise, contract)
    yield as_taken(np.array([15, 240]).reshape(-1, 1, 1, 1) + 15 * noise, contract)
    if spec.dtype == "float32":
        for scale in (10, 100):
            image = np.float32(scale) * as_taken(128 + 128 * noise, contract)[1]
            yield image.astype(np.float64), image


def as_taken(values: Array, contract: Contract) -> tuple[Array, Array]:
    """Values [N, C, H, W] of 0..255, rounded: the graph's own values, and as it takes them."""
    pixels = np.clip(values, 0, 255).round()
    if contract.image.dtype == "uint8":
        image = pixels.astype(np.uint8).transpose(0, 2, 3, 1)
    else:
        image = preprocessed(pixels, contract).astype(np.float32)
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
