"""The frames of videos, by OpenCV."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from ..errors import ImageError
from .listing import VIDEO_SUFFIXES
from .load import Frame, Source, Unreadable
from .reading import image_errors, size_of


def is_video(path: str) -> bool:
    """Whether a path is named like a video."""
    return os.path.splitext(path)[1].lower() in VIDEO_SUFFIXES


def is_capture(item: object) -> bool:
    """Whether it is a ``cv2.VideoCapture``, or behaves like one."""
    return all(callable(getattr(item, name, None)) for name in ("isOpened", "read", "get"))


def frames(path: str) -> Iterator[Source]:
    """The frames of a video file, in order."""
    try:
        import cv2
    except ModuleNotFoundError:
        problem = f"{path} is a video, which OpenCV reads, and OpenCV is not installed."
        yield Unreadable(ImageError(problem, "pip install 'backlit[boxes]'"), path)
        return
    try:
        size_of(path, path)
        with image_errors(path):
            capture = cv2.VideoCapture(path)
    except ImageError as error:
        yield Unreadable(error, path)
        return
    try:
        yield from captured(capture, path)
    finally:
        capture.release()


def captured(capture: Any, path: str | None = None) -> Iterator[Source]:
    """The frames that are left of a ``cv2.VideoCapture``, which stays open.

    Args:
        capture: its frames are BGR uint8 [h,w,3], or grey [h,w].
        path: of its file, if that is known.
    """
    where = path or "the video"
    if not capture.isOpened():
        fix = "check that it plays; convert it to MP4 with H.264, or give its frames as images."
        yield Unreadable(ImageError(f"OpenCV cannot open {where}.", fix), path)
        return
    position = capture.get(1)  # CAP_PROP_POS_FRAMES; below 0, 0 or NaN for a camera
    number = int(position) if position > 0 else 0
    first = number
    while True:
        try:
            with image_errors(where):
                there, pixels = capture.read()
        except ImageError as error:
            yield Unreadable(error, path)
            return
        if not there or pixels is None:
            break
        upright = pixels[..., ::-1] if pixels.ndim == 3 and pixels.shape[2] == 3 else pixels
        yield Frame(upright.copy(), number, path)  # a camera may fill the same memory again
        number += 1
    if number == first:
        fix = "check that it plays, and that it has not been read to its end before."
        yield Unreadable(ImageError(f"{where} gives no frame.", fix), path)
