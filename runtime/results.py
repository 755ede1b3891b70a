"""What a run on images gives: the maps of an image, the objects found in it, or its error."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, SupportsIndex, TypeVar, overload

from .arrays import Floats, Index, Mask, Pixels
from .boxes.geometry import Box
from .errors import BacklitError
from .files import whole_file
from .guard import reading
from .images.load import Source
from .images.prepare import Prepared
from .saved import JSON, make_parent
from .shown import Shown, number, write

Value = TypeVar("Value")
Item = TypeVar("Item", bound=Shown)

_PICTURES = 12
"""Results of a list that a notebook shows."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Saliency(Shown):
    """Where the classifier looked in one image, for K classes.

    A notebook shows it as a picture. Of an image that could not be read there are ``image`` and
    ``error`` alone: reading any other field raises that error.

    Examples:
        >>> import backlit
        >>> session = backlit.Session("tiny.backlit.onnx")
        >>> (found,) = session.saliency("mug.jpg", top=3)
        >>> found.classes.shape, found.scores.shape, found.maps.shape
        ((3,), (3,), (3, 96, 96))
        >>> bool((found.scores[:-1] >= found.scores[1:]).all())  # the best first
        True
        >>> found.width, found.height, found.resized().shape
        (360, 240, (3, 240, 360))
        >>> found.overlay().size
        (360, 240)
        >>> found.save("mug.png")
        >>> good, bad = session.saliency(["mug.jpg", "absent.jpg"])
        >>> good.error is None, bad.error.problem
        (True, 'absent.jpg does not exist.')

    Attributes:
        image: path or address of the image, or None if it was given as pixels or bytes.
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
        video_frame: number of the frame in its video, from 0; None if it is of no video.
        source: what pictures are drawn from: the path, bytes or pixels that were given.
        error: why there is no result; None if there is one.
    """

    image: str | None
    width: int
    height: int
    classes: Index
    labels: tuple[str, ...] | None
    scores: Floats
    maps: Floats
    map: str
    prepared: Prepared
    video_frame: int | None = None
    source: Source | None = None
    error: BacklitError | None = None

    def to_dict(self) -> dict[str, Any]:
        """The result without its maps, of what JSON takes; as ``backlit saliency`` prints it."""
        if self.error is not None:
            return self._failure()
        return self._head() | {
            "classes": self.classes.tolist(),
            "labels": None if self.labels is None else list(self.labels),
            "scores": [number(score) for score in self.scores],
            "map": self.map,
        }


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Localization(Shown):
    """The objects found in one image, one per explained class.

    A notebook shows it as a picture. Of an image that could not be read there are ``image`` and
    ``error`` alone: reading any other field raises that error.

    Examples:
        >>> import backlit
        >>> (found,) = backlit.Session("tiny.backlit.onnx").localize("mug.jpg", top=2)
        >>> len(found.boxes), found.masks.shape, found.masks.dtype
        (2, (2, 240, 360), dtype('bool'))
        >>> found.map, found.recipe
        ('object', 'default')
        >>> found.to_dict()["results"][0]["box"] == list(found.boxes[0])
        True
        >>> found.overlay().size
        (360, 240)
        >>> found.save("mug.png")

    Attributes:
        image: path or address of the image, None if it was given as pixels or bytes.
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
        prepared: the frame that the maps belong to, and the way back to the original's pixels.
        video_frame: number of the frame in its video, from 0; None if it is of no video.
        source: what pictures are drawn from: the path, bytes or pixels that were given.
        error: why there is no result; None if there is one.
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
    prepared: Prepared
    video_frame: int | None = None
    source: Source | None = None
    error: BacklitError | None = None

    def to_dict(self) -> dict[str, Any]:
        """The result without maps and masks, of what JSON takes; as ``backlit localize`` does."""
        if self.error is not None:
            return self._failure()
        objects = zip(self.classes, self.labels, self.scores, self.boxes, strict=True)
        results = [
            {
                "class": int(index),
                "label": label,
                "score": number(score),
                "box": None if box is None else [int(edge) for edge in box],
                "map": self.map,
                "recipe": self.recipe,
            }
            for index, label, score, box in objects
        ]
        return self._head() | {"results": results}


class Results(list[Item]):
    """The results of many images, in order: a list that a notebook shows as pictures.

    Examples:
        >>> import backlit
        >>> results = backlit.Session("tiny.backlit.onnx").localize(["mug.jpg", "absent.jpg"])
        >>> len(results), [found.image for found in results.failed]
        (2, ['absent.jpg'])
        >>> results.save("out")  # out/00000_mug.png and out/results.json
    """

    @property
    def failed(self) -> Results[Item]:
        """The results of the images that could not be read."""
        return Results(one for one in self if one.error is not None)

    @overload
    def __getitem__(self, place: SupportsIndex) -> Item: ...

    @overload
    def __getitem__(self, place: slice) -> Results[Item]: ...

    def __getitem__(self, place: SupportsIndex | slice) -> Item | Results[Item]:
        """A result, or some of them, which a notebook shows likewise."""
        if isinstance(place, slice):
            return Results(super().__getitem__(place))
        return super().__getitem__(place)

    def to_dicts(self) -> list[dict[str, Any]]:
        """`to_dict` of each."""
        return [one.to_dict() for one in self]

    def to_json(self) -> str:
        """`to_dicts` as JSON."""
        return json.dumps(self.to_dicts())

    def save(self, folder: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write a picture of each result, and ``results.json``, into a folder, which is made.

        Args:
            folder: for them; what Backlit wrote there under these names before is replaced.
            overwrite: replace files that Backlit did not write, too; never an image itself.

        Raises:
            OutputError: it cannot be written, or a file must stay.
            ImageError: an image cannot be read again.
        """
        guard = reading(*(one.image for one in self), overwrite=overwrite)
        for place, one in enumerate(self):
            if one.error is None:
                # An address and a path end alike; file systems take 255 bytes.
                stem = Path(one.name.split("?")[0]).stem if one.image else "image"
                safe = os.fsencode(stem)[:150].decode("utf-8", "ignore")
                write(one, Path(folder) / f"{place:05d}_{safe}.png", guard)
        target = Path(folder) / "results.json"
        make_parent(target)
        with whole_file(target, JSON, guard) as file:
            file.write(self.to_json().encode() + b"\n")

    def _repr_html_(self) -> str:
        parts = [one.figure(3) for one in self[:_PICTURES]]
        if len(self) > _PICTURES:
            parts.append(f"<p>and {len(self) - _PICTURES} more</p>")
        return "<hr>".join(parts) or "<p>no images</p>"


@dataclasses.dataclass(frozen=True, eq=False)
class Result(Generic[Value]):
    """What became of one image: a value, or the error that its pixels or path caused.

    Attributes:
        index: position among the images given.
        image: its path or address, or None if it was given as pixels or bytes.
        value: the result; None after an error.
        error: why there is none.
        prepared: the frame that the maps belong to; None after an error.
        picture: uint8 [h,w,3], the decoded image or a reduced one, where it was asked for.
        video_frame: number of the frame in its video.
        source: what the image was read from; None after an error.
    """

    index: int
    image: str | None
    value: Value | None
    error: BacklitError | None = None
    prepared: Prepared | None = None
    picture: Pixels | None = None
    video_frame: int | None = None
    source: Source | None = None


if TYPE_CHECKING:
    Explained = Mapping[str, Result[Saliency]]
    """One image's maps of one or more kinds, by name."""
