"""Decode an image: a path, an address, bytes, a Pillow image or an array become upright pixels."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import threading
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageCms, ImageOps

from ..arrays import Pixels
from ..errors import ImageError
from .addresses import is_address, shown
from .reading import LIMIT_VARIABLE, check_size, decode, image_errors, opened


@dataclasses.dataclass(frozen=True, eq=False)
class Encoded:
    """The bytes of an image's file, and the name they came under."""

    data: bytes = dataclasses.field(repr=False)
    name: str | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Frame:
    """A frame of a video: uint8 [h,w,3] RGB or [h,w] grey, its number from 0, the video's path."""

    pixels: Pixels = dataclasses.field(repr=False)
    number: int
    video: str | None = None


@dataclasses.dataclass(frozen=True)
class Unreadable:
    """What was given for an image and cannot be one: the error that `load` raises."""

    error: ImageError
    name: str | None = None


_LOCKS = [threading.Lock() for _ in range(64)]

Source = str | os.PathLike[str] | bytes | Image.Image | Pixels | Encoded | Frame | Unreadable


def load(source: Source, grey: bool = False) -> Pixels:
    """Decode an image.

    Reads every format that Pillow reads but PostScript. The EXIF orientation is applied;
    transparent pixels are composited on white; 16-bit greys are scaled to 8 bits; CMYK is converted
    by Pillow's formula (colour profiles are not applied); of an animation the first frame is taken.

    Args:
        source: a path, an address, the bytes of a file, a Pillow image, a frame of a video, or an
            array uint8 [H,W,3] (RGB), [H,W,1] or [H,W] (grey).
        grey: return one channel (ITU-R 601 luma).

    Returns:
        uint8 [h,w,3] RGB, or [h,w,1].

    Raises:
        ImageError: missing, empty, damaged, not an image, of zero size, or larger than the limit of
            pixels (Pillow's ``Image.MAX_IMAGE_PIXELS``; the environment variable
            ``BACKLIT_MAX_PIXELS`` sets another one).
    """
    where = describe(source)
    with image_errors(where):
        picture = _picture(fetched(source), where)
        return np.asarray(picture.convert("L"))[..., None] if grey else np.asarray(picture)


def _picture(source: Source, where: str) -> Image.Image:
    """Upright, RGB."""
    if isinstance(source, Unreadable):
        raise source.error
    if isinstance(source, np.ndarray):
        return _from_array(source, where)
    if isinstance(source, Frame):
        return _from_array(source.pixels, where)
    if isinstance(source, Image.Image):
        with _LOCKS[id(source) // 64 % len(_LOCKS)]:  # the same one may come twice, still unread
            return _upright_rgb(source, where)
    if isinstance(source, bytes | Encoded | str | os.PathLike):
        return _decoded(content(source, where), where)
    raise ImageError(
        f"{type(source).__name__} is not an image.",
        "give one list of the images alone, without labels and lists inside."
        if isinstance(source, list | tuple | dict)
        else "give a path, an address, bytes, an open file, a Pillow image or a uint8 array "
        "[H,W,3], or a list of them.",
    )


def content(source: bytes | Encoded | str | os.PathLike[str], where: str) -> IO[bytes]:
    """The bytes of an image's file, open.

    Raises:
        ImageError: there are none.
    """
    if not isinstance(source, bytes | Encoded):
        return opened(source, where)
    data = source if isinstance(source, bytes) else source.data
    if not data:
        raise ImageError(f"{where} is empty.", "copy the file again.")
    return io.BytesIO(data)


def fetched(source: Source) -> Source:
    """The source itself; of an address, the bytes that it leads to.

    Raises:
        ImageError: nothing can be fetched there.
    """
    if isinstance(source, str | os.PathLike):
        text = os.fsdecode(source)
        if is_address(text) and not os.path.exists(text):
            from .fetch import fetch  # 35 ms that paths do without

            return Encoded(fetch(text), name_of(text))
    return source


def name_of(source: object) -> str | None:
    """The path or address of an image; None if it was given as pixels or bytes."""
    if isinstance(source, str | os.PathLike):
        text = os.fsdecode(source)
        return None if text[:5].lower() == "data:" else text
    if isinstance(source, Frame):
        return source.video
    return source.name if isinstance(source, Encoded | Unreadable) else None


def describe(source: object) -> str:
    """The name of an image in messages: its path, or what it is."""
    if isinstance(source, str | os.PathLike):
        text = os.fsdecode(source)
        return shown(text) if is_address(text) else text
    if isinstance(source, Frame):
        return f"frame {source.number} of {source.video or 'the video'}"
    if isinstance(source, bytes | Encoded | Unreadable):
        return name_of(source) or "the data"
    if isinstance(source, Image.Image):
        return getattr(source, "filename", "") or "the Pillow image"
    return "the array" if isinstance(source, np.ndarray) else type(source).__name__


def _from_array(array: npt.NDArray[Any], where: str) -> Image.Image:
    shape = list(array.shape)
    if array.dtype != np.uint8:
        raise ImageError(
            f"{where} has dtype {array.dtype}, not uint8.",
            "pass pixels 0..255 as uint8: (x * 255).round().astype(np.uint8) for x in 0..1.",
        )
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3)):
        raise ImageError(
            f"{where} has shape {shape}.", "pass [H,W,3] (RGB), [H,W] or [H,W,1] (grey)."
        )
    if 0 in array.shape:
        raise ImageError(f"{where} has shape {shape}: no pixels.", "pass one with pixels.")
    pixels = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    return Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")


def _decoded(file: IO[bytes], where: str) -> Image.Image:
    with file, Image.open(file) as image:
        check_size(image, where)
        decode(image, where)
        check_size(image, where)  # of an icon, the header does not say
        return _upright_rgb(image, where)


def _upright_rgb(image: Image.Image, where: str) -> Image.Image:
    if not image.width or not image.height:
        size = f"{image.width}x{image.height}"
        raise ImageError(f"{where} is {size} pixels.", "give an image with pixels.")
    decode(image, where)
    with contextlib.suppress(Exception):  # damaged EXIF must not lose sound pixels
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            image = ImageOps.exif_transpose(image)
    return _rgb(image, where)


def _rgb(image: Image.Image, where: str) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _eight_bits(np.asarray(image), where)
    if image.mode == "LAB":
        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
        return converted if converted is not None else image
    if image.has_transparency_data:
        pixels = image.convert({"La": "LA", "RGBa": "RGBA"}.get(image.mode, image.mode))
        canvas = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(canvas, pixels.convert("RGBA")).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bits(values: npt.NDArray[Any], where: str) -> Image.Image:
    """Greys of 16 bits (65535 is white) or floats (1 is white) as 8-bit RGB, rounded."""
    top = 1.0 if values.dtype.kind == "f" else 65535.0
    # written so that NaN fails too
    if not (values.min() >= 0 and values.max() <= top):
        raise ImageError(
            f"{where} has pixels from {values.min()} to {values.max()}; "
            f"greys of this kind go from 0 to {top:g}.",
            "convert it to 8 or 16 bits.",
        )
    scaled = np.floor(values.astype(np.float64) * (255.0 / top) + 0.5).astype(np.uint8)
    return Image.fromarray(scaled).convert("RGB")


def _limit_from_environment() -> None:
    text = os.environ.get(LIMIT_VARIABLE, "")
    if text.isdecimal() and int(text) > 0:
        Image.MAX_IMAGE_PIXELS = int(text)


_limit_from_environment()
