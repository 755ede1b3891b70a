"""The views of an image that are shown to the classifier, and the average of their maps.

The paper (section 3) averages the maps of 10 cropped and mirrored sub-images. All views
are cut from one *frame*, and the averaged map has the frame's pixels:

* 1 view: the frame itself, of the network's input size;
* 2 views: the frame and its mirror image;
* 10 views: the four corners and the centre of a frame that is larger than the input (256 for 224),
  then the mirror images of those five.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from ..arrays import Floats, Pixels
from ..contract import ImageInput
from ..errors import OptionError

CROPS = (1, 2, 10)
"""The numbers of views that exist."""

_LARGEST = 1 << 24
"""Pixels that are resized as a whole."""


def check(crops: int) -> int:
    """``crops`` itself.

    Raises:
        OptionError: not 1, 2 or 10.
    """
    if crops not in CROPS:
        raise OptionError(
            f"crops={crops} is not a number of views.",
            "1 is the image, 2 adds its mirror image, 10 are the paper's crops.",
        )
    return int(crops)


def resized(
    picture: Image.Image,
    size: tuple[int, int],
    box: tuple[int, int, int, int],
    how: Image.Resampling,
) -> Image.Image:
    """A picture resized to (width, height), and what a box of whole pixels cuts out of that."""
    if size[0] * size[1] <= _LARGEST:
        return picture.resize(size, how).crop(box)
    # Of 65,000 x 1 pixels the whole would take gigabytes. Filters look beyond the part.
    across, down = picture.width / size[0], picture.height / size[1]
    right, below = min(box[2] * across, picture.width), min(box[3] * down, picture.height)
    part = (box[0] * across, box[1] * down, right, below)
    return picture.resize((box[2] - box[0], box[3] - box[1]), how, part)


def frame_size(spec: ImageInput, crops: int) -> tuple[int, int]:
    """Height and width of the frame in pixels: ``round(size / crop_fraction)`` for 10 views."""
    if check(crops) == 10:
        return spec.frame()
    return spec.height, spec.width


def cut(frame: Pixels, height: int, width: int, crops: int) -> Pixels:
    """The views of a frame.

    Args:
        frame: uint8 [fh,fw,C]; of size (height, width) for 1 and 2 views.
        height: of the network's input in pixels.
        width: of the network's input in pixels.
        crops: 1, 2 or 10.

    Returns:
        uint8 [V,height,width,C] with V = crops; mirror images are the second half.
    """
    corners = _corners(frame.shape[0], frame.shape[1], height, width, crops)
    views = [frame[y : y + height, x : x + width] for y, x in corners]
    if crops > 1:
        views += [view[:, ::-1] for view in views]
    return np.stack(views)


def assemble(maps: Floats, frame_height: int, frame_width: int) -> Floats:
    """Average the maps of the views of one frame, each put back where its view was cut.

    Args:
        maps: float32 [V,H,W], one per view in the order of ``cut``.
        frame_height: the frame's height in pixels.
        frame_width: the frame's width in pixels.

    Returns:
        float32 [fh,fw]: at each pixel the mean over the views that cover it (paper, section 3);
        0 where none does, which needs a crop_fraction below one half.

    Raises:
        OptionError: V is not 1, 2 or 10.
    """
    crops, height, width = maps.shape
    total = np.zeros((frame_height, frame_width), np.float64)
    covered = np.zeros((frame_height, frame_width), np.int64)
    corners = _corners(frame_height, frame_width, height, width, check(crops))
    for index, view in enumerate(maps):
        y, x = corners[index % len(corners)]
        mirrored = index >= len(corners)
        total[y : y + height, x : x + width] += view[:, ::-1] if mirrored else view
        covered[y : y + height, x : x + width] += 1
    mean: Floats = (total / np.maximum(covered, 1)).astype(np.float32)
    return mean


def _corners(
    frame_height: int, frame_width: int, height: int, width: int, crops: int
) -> list[tuple[int, int]]:
    """Top and left of each view before mirroring."""
    if crops < 10:
        return [(0, 0)]
    bottom, right = frame_height - height, frame_width - width
    return [(0, 0), (0, right), (bottom, 0), (bottom, right), (round(bottom / 2), round(right / 2))]
