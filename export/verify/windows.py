"""How a window moves over a map: what convolution and pooling share in the reference."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ...runtime.arrays import Array


@dataclasses.dataclass(frozen=True)
class Window:
    """A kernel and how it moves.

    Attributes:
        kernel: lengths, int64 [axes], as the others.
        stride, dilation: steps of the window, and within it.
    """

    kernel: Array
    stride: Array
    dilation: Array

    @property
    def reach(self) -> Array:
        """From a window's first element to its last."""
        return self.dilation * (self.kernel - 1) + 1

    def taps(self, count: Array) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """The elements of the kernel, and where each meets the longer map in ``count`` windows."""
        for number, tap in enumerate(np.ndindex(*self.kernel)):
            first = np.array(tap) * self.dilation
            end = first + (count - 1) * self.stride + 1
            yield number, (..., *map(slice, first, end, self.stride))

    def padding(
        self, size: Array, pads: Sequence[int] | None, auto_pad: str | None
    ) -> tuple[Array, Array]:
        """What is put before and after a map, [axes] each: as given, or so that SAME holds."""
        if is_same(auto_pad):
            count = -(-size // self.stride)
            return split(np.maximum((count - 1) * self.stride + self.reach - size, 0), auto_pad)
        before, after = lengths(pads, 2 * len(size), 0).reshape(2, -1)
        return before, after


def window(kernel: Sequence[int], strides: Any, dilations: Any) -> Window:
    """A window of a node's attributes."""
    rank = len(kernel)
    return Window(np.array(kernel), lengths(strides, rank), lengths(dilations, rank))


def is_same(auto_pad: str | None) -> bool:
    """Whether the padding is to be found: SAME_UPPER or SAME_LOWER."""
    return (auto_pad or "").startswith("SAME")


def split(total: Array, auto_pad: str | None) -> tuple[Array, Array]:
    """Padding before and after; the odd one is after in SAME_UPPER."""
    before = total // 2 if auto_pad == "SAME_UPPER" else total - total // 2
    return before, total - before


def lengths(given: Sequence[int] | None, count: int, usual: int = 1) -> Array:
    """An attribute of one number for each axis, or what is usual."""
    return np.array(given or [usual] * count, np.int64)
