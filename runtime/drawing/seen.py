"""What pictures are drawn from, described: whatever has these fields can be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from ..arrays import Floats, Index, Mask, Pixels
from ..images.prepare import Prepared

Value = TypeVar("Value", covariant=True)
Box = tuple[int, int, int, int]


class Seen(Protocol):
    """K classes of an image with their maps."""

    @property
    def width(self) -> int:
        """Of the original image in pixels."""

    @property
    def height(self) -> int:
        """Of the original image in pixels."""

    @property
    def classes(self) -> Index:
        """Indices, int64 [K]."""

    @property
    def labels(self) -> Sequence[str | None] | None:
        """Names, K if there are any."""

    @property
    def scores(self) -> Floats:
        """Scores, float32 [K]."""

    @property
    def maps(self) -> Floats:
        """Maps over the frame, float32 [K,fh,fw]."""

    @property
    def map(self) -> str:
        """Name of their kind."""

    @property
    def prepared(self) -> Prepared:
        """The frame, and the way back to the original's pixels."""


class Objects(Seen, Protocol):
    """K classes of an image with the objects that were found."""

    @property
    def boxes(self) -> Sequence[Box | None]:
        """Boxes in pixels of the original image, K."""

    @property
    def masks(self) -> Mask:
        """Masks, bool [K,height,width]."""


class Kept(Protocol[Value]):
    """A result that has kept its image."""

    @property
    def value(self) -> Value | None:
        """The result."""

    @property
    def prepared(self) -> Prepared | None:
        """The frame that the maps belong to."""

    @property
    def picture(self) -> Pixels | None:
        """The image, uint8 [h,w,3], of any size."""
