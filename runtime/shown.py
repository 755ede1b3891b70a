"""How results show themselves: as pictures, as files, as JSON, in a notebook."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from PIL import Image

from .arrays import Floats, Index, Pixels, npy
from .drawing import markup
from .errors import BacklitError, ImageError, OptionError, OutputError, no_opencv
from .files import whole_file
from .guard import Guard, reading
from .images.bands import load_for, seen
from .images.load import Source
from .images.prepare import Prepared, shrink
from .saved import MARKS, make_parent, npz

if TYPE_CHECKING:
    from .boxes.geometry import Box
    from .drawing.panels import Row

_ROWS = 10
"""Classes in a picture."""
_KINDS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}


class Shown:
    """What every result of an image can do. The fields are those of the result."""

    image: str | None
    width: int
    height: int
    classes: Index
    scores: Floats
    maps: Floats
    map: str
    prepared: Prepared
    video_frame: int | None
    source: Source | None
    error: BacklitError | None

    @classmethod
    def failed(cls, image: str | None, error: BacklitError, video_frame: int | None = None) -> Self:
        """The result of an image that could not be read."""
        made = object.__new__(cls)
        made.__dict__.update(image=image, error=error, video_frame=video_frame)
        return made

    if not TYPE_CHECKING:  # or every misspelt field would pass a type checker

        def __getattr__(self, name: str) -> Any:
            error = self.__dict__.get("error")
            if error is not None and name in type(self).__dataclass_fields__:
                raise error
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        kind = type(self).__name__
        if self.error is not None:
            return f"<{kind} {self.name}: {type(self.error).__name__}: {self.error.problem}>"
        said = ", ".join(" ".join(filter(None, row)) for row in self._table()[1:4])
        more = ", ..." if len(self.classes) > 3 else ""
        return f"<{kind} {self.name} {self.width}x{self.height}: {said}{more}>"

    @property
    def name(self) -> str:
        """Path or address of the image, with its number if it is a frame of a video."""
        name = "image" if self.image is None else self.image
        return name if self.video_frame is None else f"{name} frame {self.video_frame}"

    def to_dict(self) -> dict[str, Any]:
        """The result without its arrays of pixels, of what JSON takes."""
        raise NotImplementedError

    def to_json(self) -> str:
        """`to_dict` as one line of JSON."""
        return json.dumps(self.to_dict())

    def resized(self) -> Floats:
        """The maps at the image's own size.

        Returns:
            float32 [K,height,width]; 0 where a centre crop cut the image off.
        """
        return np.stack([self.prepared.map_to_original(one) for one in self.maps])

    def overlay(self, which: int = 0, colormap: str = "inferno") -> Image.Image:
        """A map in colour over the image in grey, with the box where there is one.

        Args:
            which: one of the K classes, from 0, in the order of ``classes``.
            colormap: ``inferno``, ``viridis``, ``cividis``, ``grey``, or ``blue-orange`` for maps
                with signs.

        Returns:
            A Pillow image of the image's own size.

        Raises:
            OptionError: there are fewer classes, or no such colour map.
            ImageError: the image cannot be read again.
            BacklitError: OpenCV is not installed.
        """
        count = len(self.classes)
        if not isinstance(which, int | np.integer) or not -count <= which < count:
            raise OptionError(
                f"which={which!r} is no place: the result has {count} classes.",
                f"give 0 to {count - 1}, or ask the session for more with top=.",
            )
        _need_opencv()
        from .drawing.display import overlay

        values = self.prepared.map_to_original(self.maps[which])
        boxes: tuple[Box | None, ...] = getattr(self, "boxes", ())
        return overlay(
            self.original(),
            values,
            boxes[which] if boxes else None,
            colormap,
        )

    def original(self) -> Pixels:
        """The image itself, uint8 [height,width,3] RGB, read again from where it came.

        Raises:
            ImageError: it is not there any more, or another one is.
        """
        where = self.prepared  # of a failed result, this raises its error
        if self.source is None:
            raise ImageError("the result does not know its image.", "ask a session for it again.")
        pixels = seen(load_for(self.source, where.views.shape[-1]))
        if pixels.shape[:2] != (where.height, where.width):
            raise ImageError(
                f"{self.name} is {pixels.shape[1]}x{pixels.shape[0]} pixels now, "
                f"and was {where.width}x{where.height}.",
                "run the session on it again.",
            )
        return pixels

    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write the result, as the name says, whole or not at all.

        Args:
            path: ``.png``, ``.jpg``, ``.webp`` or ``.svg``: image, maps and boxes side by side;
                ``.json``: `to_dict`; ``.npz``: maps, classes, scores, boxes, masks; ``.npy``: maps
                alone. Folders are made. What Backlit wrote there before is replaced.
            overwrite: replace a file that Backlit did not write, too; never the image itself.

        Raises:
            OutputError: it cannot be written, the name says nothing, or a file must stay.
            ImageError: the image cannot be read again.
            BacklitError: OpenCV, which pictures need, is not installed.
        """
        if not isinstance(path, str | os.PathLike):
            kind = type(path).__name__
            raise OutputError(f"{kind} is no path.", "give one; overlay().save takes open files.")
        write(self, Path(path), reading(self.image, overwrite=overwrite))

    def _content(self, suffix: str) -> bytes:
        """The bytes of a file with that suffix."""
        if suffix == ".json":
            return self.to_json().encode() + b"\n"
        if suffix == ".npy":
            return npy(self.maps)
        if suffix == ".npz":
            return npz(self._arrays())
        rows = self._rows(vector=suffix == ".svg")
        if suffix == ".svg":
            from .drawing.svg import svg

            return svg(rows).encode()
        from .drawing import display

        return display.encoded(display.drawn(rows), _KINDS[suffix])

    def _repr_png_(self) -> bytes | None:
        try:
            rows = self._rows()
            from .drawing import display

            return display.encoded(display.drawn(rows), "png")
        except BacklitError:  # a notebook would show a traceback; the HTML says why
            return None

    def _repr_html_(self) -> str:
        return self.figure(_ROWS)

    def figure(self, most: int) -> str:
        """A fragment of HTML with the pictures of so many classes."""
        if self.error is not None:
            return markup.listed(
                self.name, [["error", "fix"], [self.error.problem, self.error.fix]]
            )
        table, note = self._table(), f"map: {self.map}"
        if len(table) > most + 1:
            table, note = table[: most + 1], f"{note}; {len(table) - 1 - most} more classes"
        try:
            rows = self._rows(most)
        except BacklitError as error:
            return markup.listed(
                self.name, table, f"{note}. No picture: {error.problem} {error.fix}"
            )
        from .drawing import display

        picture = display.encoded(display.drawn(rows), "jpeg")
        return markup.figure(picture, self.name) + markup.listed(self.name, table, note)

    def _rows(self, most: int = _ROWS, vector: bool = False) -> list[Row]:
        """Image, map and what was found side by side, a row for each class."""
        _ = self.maps  # of a failed result, this raises its error
        _need_opencv()
        from .drawing import pictures

        kept = _Kept(_first(self, most), self.prepared, shrink(self.original(), pictures.LONGEST))
        look = pictures.Look(vector=vector)
        if hasattr(self, "boxes"):
            return pictures.localization_rows(kept, look)
        return pictures.saliency_rows({self.map: kept}, look)

    def _table(self) -> list[list[str]]:
        labels, boxes = getattr(self, "labels", None), getattr(self, "boxes", None)
        return markup.table(self.classes, labels, self.scores, boxes)

    def _arrays(self) -> dict[str, Any]:
        arrays: dict[str, Any] = {
            "maps": self.maps, "classes": self.classes, "scores": self.scores,
        }  # fmt: skip
        if hasattr(self, "boxes"):
            boxes = [(-1,) * 4 if box is None else box for box in self.boxes]
            arrays["boxes"] = np.array(boxes, np.int64).reshape(len(boxes), 4)
            arrays["masks"] = self.masks  # type: ignore[attr-defined]
        return arrays

    def _head(self) -> dict[str, Any]:
        frame = {} if self.video_frame is None else {"video_frame": self.video_frame}
        return {"image": self.image, **frame, "width": self.width, "height": self.height}

    def _failure(self) -> dict[str, Any]:
        frame = {} if self.video_frame is None else {"video_frame": self.video_frame}
        return {"image": self.image, **frame, "error": self.error and self.error.problem}


@dataclasses.dataclass(frozen=True, eq=False)
class _Kept:
    """A result with its image, as pictures are drawn from it."""

    value: Any
    prepared: Prepared
    picture: Pixels


def number(value: Any) -> float | None:
    """A float32 as JSON takes it."""
    # The shortest decimal that is this float32, not the digits of its float64; JSON has no NaN.
    return float(str(value)) if math.isfinite(value) else None


def _first(found: Any, most: int) -> Any:
    """The result with its first classes alone."""
    if len(found.classes) <= most:
        return found
    names = ("classes", "labels", "scores", "maps", "boxes", "masks")
    cut = {
        name: getattr(found, name)[:most]
        for name in names
        if getattr(found, name, None) is not None
    }
    return dataclasses.replace(found, **cut)


def _need_opencv() -> None:
    try:
        import cv2  # noqa: F401  found missing now, with the line that mends it
    except ModuleNotFoundError as error:
        raise no_opencv() from error


def write(one: Shown, target: Path, guard: Guard) -> None:
    """`Shown.save`, with a guard of all that is read.

    Raises:
        OutputError: as there.
        ImageError: as there.
        BacklitError: as there.
    """
    suffix = target.suffix.lower()
    if suffix not in MARKS:
        raise OutputError(
            f"{target} does not say what to write.",
            f"end its name with one of: {', '.join(MARKS)}.",
        )
    data = one._content(suffix)
    make_parent(target)
    with whole_file(target, MARKS[suffix], guard) as file:
        file.write(data)
