"""What methods of many runs share: the same file, run at many points around or before an image.

All derivatives are with respect to the graph's own ``image`` values: pixels 0..255 of a uint8 file,
the classifier's input of a float32 file. What a uint8 file is shown are pixels: points between them
are rounded to the nearest, and noise ends at 0 and 255. A float32 file has neither limit. At 200
steps rounding costs trained classifiers 1 to 2 % of completeness in the median; dithering does no
better.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..arrays import Doubles, Floats, Index, Pixels
from ..backend.interface import normalise

if TYPE_CHECKING:
    from ..backend.outputs import Outputs
    from ..backend.runner import Runner


def graph_values(runner: Runner, views: Pixels) -> Floats | Pixels:
    """Views uint8 [V,H,W,C] as the graph takes them: themselves, or float32 [V,C,H,W]."""
    if runner.contract.image.dtype == "uint8":
        return views
    return normalise(views, runner.contract)


def planes(runner: Runner, values: Floats) -> Floats:
    """Values in the graph's layout as [V,C,H,W], that of its gradient."""
    return values.transpose(0, 3, 1, 2) if runner.contract.image.layout == "NHWC" else values


def shown(values: npt.NDArray[np.floating], dtype: npt.DTypeLike) -> Floats | Pixels:
    """Values as a graph of that dtype takes them; pixels are rounded, and end at 0 and 255."""
    if np.dtype(dtype) == np.uint8:
        values = np.clip(np.rint(values), 0, 255)
    return values.astype(dtype)


def weighted_sum(
    runner: Runner,
    index: Index,
    batch: int,
    points: Iterable[tuple[float, npt.NDArray[Any]]],
    measure: Callable[[Outputs, list[int]], Floats],
    channels: tuple[int, ...] = (),
) -> Doubles:
    """The weighted sum over points of what is measured at each, for V views.

    Args:
        runner: an open file.
        index: int64 [V,K].
        batch: images per run, of as many points and views as it takes.
        points: a weight and V images each; made one point at a time.
        measure: of a run, and the views that its rows belong to: [n,K,*channels,H,W].
        channels: [C] where what is measured has them.

    Returns:
        float64 [V,K,*channels,H,W].
    """
    spec = runner.contract.image
    total = np.zeros((*index.shape, *channels, spec.height, spec.width))
    rows = ((weight, *row) for weight, images in points for row in enumerate(images))
    while part := list(itertools.islice(rows, batch)):
        weights, numbers, images = map(list, zip(*part, strict=True))
        values = measure(runner.run(np.stack(images), index[numbers]), numbers)
        for weight, number, value in zip(weights, numbers, values, strict=True):
            total[number] += weight * value
    return total
