"""What a run on images gives: the maps of an image, the objects found in it, or its error."""

from __future__ import annotations

import dataclasses
from typing import Generic, TypeVar

from .arrays import Floats, Index, Mask, Pixels
from .boxes.geometry import Box
from .errors import BacklitError
from .images.prepare import Prepared

Value = TypeVar("Value")


@dataclasses.dataclass(frozen=True, eq=False)
class Saliency:
    """Where the classifier looked in one image, for K classes.

    Examples:
        >>> import backlit
        >>> (found,) = backlit.Session("tiny.backlit.onnx").saliency("mug.jpg", top=3)
        >>> found.classes.shape, found.scores.shape, found.maps.shape
        ((3,), (3,), (3, 96, 96))
        >>> bool((found.scores[:-1] >= found.scores[1:]).all())  # the best first
        True
        >>> found.width, found.height
        (360, 240)
        >>> found.prepared.map_to_original(found.maps[0]).shape
        (240, 360)

    Attributes:
        image: path of the image, or None if it was given as pixels.
        width: of the original image in pixels, after EXIF orientation.
        height: likewise.
        classes: int64 [K], class indices.
        labels: their names; None if the file has no labels.
        scores: float32 [K], unnormalised class scores, averaged over the views.
        maps: float32 [K,fh,fw], averaged over the views (paper, section 3), in pixels of the
            frame. Of ``saliency``: max over channels of abs(d score / d image), score per unit of
            the graph's ``image`` values (section 3.1); of others as their kind says.
        map: name of the kind of map, such as ``saliency``.
        prepared: the frame that the maps belong to, and the way back to the original's pixels.
    """

    image: str | None
    width: int
    height: int
    classes: Index
    labels: tuple[str, ...] | None
    scores: Floats
    maps: Floats
    map: str
    prepared: Prepared = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, eq=False)
class Localization:
    """The objects found in one image, one per explained class.

    Examples:
        >>> import backlit
        >>> (found,) = backlit.Session("tiny.backlit.onnx").localize("mug.jpg", top=2)
        >>> len(found.boxes), found.masks.shape, found.masks.dtype
        (2, (2, 240, 360), dtype('bool'))
        >>> found.map, found.recipe
        ('features', 'default')

    Attributes:
        image: the image's path, None if it was given as pixels.
        width: of the original image in pixels.
        height: of the original image in pixels.
        classes: int64 [K], class indices.
        labels: K class names; None where the file names none.
        scores: float32 [K], unnormalised class scores.
        boxes: K boxes (x0, y0, x1, y1) in pixels of the original image, x1 and y1 exclusive; None
            where nothing was found.
        masks: bool [K,height,width], true inside the object; one connected component each.
        maps: float32 [K,fh,fw], the maps the boxes came from, in pixels of the frame.
        map: name of their kind.
        recipe: name of the recipe.
    """

    image: str | None
    width: int
    height: int
    classes: Index
    labels: tuple[str | None, ...]
    scores: Floats
    boxes: tuple[Box | None, ...]
    masks: Mask
    maps: Floats
    map: str
    recipe: str


@dataclasses.dataclass(frozen=True, eq=False)
class Result(Generic[Value]):
    """What became of one image: a value, or the error that its pixels or path caused.

    Attributes:
        index: position among the images given.
        image: its path, or None if it was given as pixels.
        value: the result; None after an error.
        error: why there is none.
        prepared: the frame that the maps belong to; None after an error.
        picture: uint8 [h,w,3], the decoded image or a reduced one, where it was asked for.
    """

    index: int
    image: str | None
    value: Value | None
    error: BacklitError | None = None
    prepared: Prepared | None = None
    picture: Pixels | None = None
