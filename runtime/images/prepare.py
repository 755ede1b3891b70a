"""Decode an image, resize it as the classifier expects, and map results back to its pixels."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..arrays import Floats, Index, Pixels
from ..contract import ImageInput
from ..errors import ImageError
from . import bands
from . import crops as crops_module

Box = tuple[int, int, int, int]

_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
# Boxes of whole frame pixels must not grow by a pixel because 3 * (10 / 3) is above 10.
_EPSILON = 1e-6


@dataclasses.dataclass(frozen=True, eq=False)
class Prepared:
    """An image as the network takes it, and the way back.

    A point (x, y) of the original image, in pixels from its upper left corner, lies at
    ``(x * scale_x - left, y * scale_y - top)`` in the frame.

    Attributes:
        frame: uint8 [fh,fw,3], RGB; the views are cut from it and maps have its pixels.
        views: uint8 [V,H,W,C], RGB or grey as the file takes it.
        width, height: of the original image in pixels, after EXIF orientation.
        scale_x, scale_y: frame pixels per original pixel.
        left, top: what a centre crop cut off, in frame pixels; 0 with resize ``stretch``.
    """

    frame: Pixels
    views: Pixels
    width: int
    height: int
    scale_x: float
    scale_y: float
    left: int = 0
    top: int = 0

    def at(self, width: int, height: int) -> Prepared:
        """The same frame, mapped to the image at another size in pixels."""
        return dataclasses.replace(
            self,
            width=width,
            height=height,
            scale_x=self.scale_x * self.width / width,
            scale_y=self.scale_y * self.height / height,
        )

    def box_to_original(self, box: tuple[float, float, float, float]) -> Box:
        """A box of the frame as a box of the original image.

        Args:
            box: x0, y0, x1, y1 in frame pixels, x1 and y1 exclusive.

        Returns:
            Whole pixels of the upright original image, rounded outward (a pixel that the box
            touches belongs to it), inside the image, at least 1x1; x1 and y1 exclusive.
        """
        x0, x1 = _span(box[0] + self.left, box[2] + self.left, self.scale_x, self.width)
        y0, y1 = _span(box[1] + self.top, box[3] + self.top, self.scale_y, self.height)
        return x0, y0, x1, y1

    def mask_to_original(self, mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """A mask bool [fh,fw] of the frame as bool [height,width], by the nearest pixel.

        What a centre crop cut off is False.
        """
        rows, inside_rows = self._lookup(self.height, self.scale_y, self.top, mask.shape[0])
        columns, inside_columns = self._lookup(self.width, self.scale_x, self.left, mask.shape[1])
        wide = mask[:, columns] & inside_columns
        result: npt.NDArray[np.bool_] = wide[rows]  # whole rows are copied, which is fast
        result[~inside_rows] = False
        return result

    def map_to_original(self, values: Floats) -> Floats:
        """A map float32 [fh,fw] of the frame as float32 [height,width], bilinear.

        What a centre crop cut off is 0.
        """
        region = (
            self.left,
            self.top,
            self.left + values.shape[1],
            self.top + values.shape[0],
        )
        x0, y0 = round(region[0] / self.scale_x), round(region[1] / self.scale_y)
        x1, y1 = round(region[2] / self.scale_x), round(region[3] / self.scale_y)
        x1, y1 = min(max(x1, x0 + 1), self.width), min(max(y1, y0 + 1), self.height)
        x0, y0 = min(x0, x1 - 1), min(y0, y1 - 1)
        picture = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
        resized = picture.resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR)
        result = np.zeros((self.height, self.width), np.float32)
        result[y0:y1, x0:x1] = np.asarray(resized)
        return result

    @staticmethod
    def _lookup(
        size: int, scale: float, offset: int, limit: int
    ) -> tuple[Index, npt.NDArray[np.bool_]]:
        index = np.floor((np.arange(size) + 0.5) * scale - offset).astype(np.int64)
        # A frame stretched from the whole image has no outside: only rounding could leave it.
        inside = (index >= 0) & (index < limit)
        return np.clip(index, 0, limit - 1), inside


def prepare(image: Pixels, spec: ImageInput, crops: int = 1) -> Prepared:
    """Resize an image to the frame that the file's resize rule asks for, and cut the views.

    ``stretch`` resizes the whole image to the frame. ``crop`` resizes it so that it covers
    ``round(size / crop_fraction)`` (torchvision's Resize: shorter side, other side rounded down)
    and cuts the centre (torchvision's CenterCrop); with 10 views the frame is the central
    ``round(size / crop_fraction)`` and the views are cut from it, as Krizhevsky et al. (2012,
    section 4.1) do. Resampling is Pillow's, antialiased, as torchvision's on Pillow images.

    Args:
        image: uint8 [h,w,3] RGB or [h,w,1]; [h,w,C] for a file of other bands.
        spec: the file's input.
        crops: views, 1, 2 or 10.

    Raises:
        OptionError: crops is not 1, 2 or 10.
        ImageError: the image has no pixels.
    """
    height, width = image.shape[:2]
    if not height or not width:
        raise ImageError(f"the image is {width}x{height} pixels.", "give one with pixels.")
    frame_height, frame_width = crops_module.frame_size(spec, crops)
    new_height, new_width = frame_height, frame_width
    if spec.resize == "crop":
        new_height, new_width = _cover(height, width, *spec.frame())
    left, top = round((new_width - frame_width) / 2), round((new_height - frame_height) / 2)
    box, how = (left, top, left + frame_width, top + frame_height), _RESAMPLING[spec.interpolation]
    if spec.channels in (1, 3):
        picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).convert("RGB")
        resized = crops_module.resized(picture, (new_width, new_height), box, how)
        frame = np.asarray(resized)
        pixels = np.asarray(resized if spec.channels == 3 else resized.convert("L"))
        pixels = pixels.reshape(frame_height, frame_width, spec.channels)
    else:
        pixels = bands.resize(image, (new_width, new_height), box, how)
        frame = bands.seen(pixels)
    return Prepared(
        frame=frame,
        views=crops_module.cut(pixels, spec.height, spec.width, crops),
        width=width,
        height=height,
        scale_x=new_width / width,
        scale_y=new_height / height,
        left=left,
        top=top,
    )


def shrink(image: Pixels, longest: int) -> Pixels:
    """An image uint8 [h,w,3], reduced so that its longer side has at most ``longest`` pixels."""
    height, width = image.shape[:2]
    factor = longest / max(height, width)
    if factor >= 1:
        return image
    size = max(1, round(width * factor)), max(1, round(height * factor))
    # reducing_gap halves big photographs cheaply first; for display that is good enough
    return np.asarray(Image.fromarray(image).resize(size, reducing_gap=2.0))


def _cover(height: int, width: int, least_height: int, least_width: int) -> tuple[int, int]:
    """The least size that covers: one side exactly, the other rounded down."""
    if width * least_height >= height * least_width:
        return least_height, max(least_width, least_height * width // height)
    return max(least_height, least_width * height // width), least_width


def _span(start: float, end: float, scale: float, size: int) -> tuple[int, int]:
    first = min(max(math.floor(start / scale + _EPSILON), 0), size - 1)
    last = min(max(math.ceil(end / scale - _EPSILON), first + 1), size)
    return first, last
