"""Decode an image: a path, an address, bytes, a Pillow image or an array become upright pixels."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError

from ..arrays import Pixels
from ..errors import ImageError
from .addresses import is_address, shown
from .listing import VIDEO_SUFFIXES


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


LIMIT_VARIABLE = "BACKLIT_MAX_PIXELS"


def load(source: Source, grey: bool = False) -> Pixels:
    """Decode an image.

    Reads every format that Pillow reads. The EXIF orientation is applied; transparent pixels are
    composited on white; 16-bit greys are scaled to 8 bits; CMYK is converted by Pillow's formula
    (colour profiles are not applied); of an animation the first frame is taken.

    Args:
        source: a path, an address, the bytes of a file, a Pillow image, a frame of a video, or an
            array uint8 [H,W,3] (RGB), [H,W,1] or [H,W] (grey).
        grey: return one channel (ITU-R 601 luma).

    Returns:
        uint8 [h,w,3] RGB, or [h,w,1].

    Raises:
        ImageError: missing, empty, truncated, not an image, of zero size, or larger than the limit
            of pixels (Pillow's ``Image.MAX_IMAGE_PIXELS``; the environment variable
            ``BACKLIT_MAX_PIXELS`` sets another one).
    """
    where, source = describe(source), fetched(source)
    if isinstance(source, Unreadable):
        raise source.error
    if isinstance(source, np.ndarray):
        picture = _from_array(source, where)
    elif isinstance(source, Frame):
        picture = _from_array(source.pixels, where)
    elif isinstance(source, Image.Image):
        with _LOCKS[id(source) // 64 % len(_LOCKS)]:  # the same one may come twice, still unread
            picture = _upright_rgb(source, where)
    elif isinstance(source, bytes | Encoded):
        data = source if isinstance(source, bytes) else source.data
        picture = _opened(io.BytesIO(data), len(data), where)
    elif isinstance(source, str | os.PathLike):
        picture = _from_file(Path(source), where)
    elif isinstance(source, list | tuple | dict):
        raise ImageError(
            f"{type(source).__name__} is not an image.",
            "give one list of the images alone, without labels and lists inside.",
        )
    else:
        raise ImageError(
            f"{type(source).__name__} is not an image.",
            "give a path, an address, bytes, an open file, a Pillow image or a uint8 array "
            "[H,W,3], or a list of them.",
        )
    if grey:
        return np.asarray(picture.convert("L"))[..., None]
    return np.asarray(picture)


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


def _from_file(path: Path, where: str) -> Image.Image:
    if not where:
        raise ImageError("an empty text is no path.", "give the path of an image.")
    try:
        if path.is_dir():
            raise ImageError(f"{where} is a folder.", "give the image files inside it.")
        if not path.exists():
            raise ImageError(f"{where} does not exist.", _found_by(where))
        return _opened(path, path.stat().st_size, where)
    except OSError as error:
        name = where if len(where) < 200 else f"{where[:60]}..."
        raise ImageError(
            f"{name} cannot be read: {error.strerror or error}.", "check the path and its rights."
        ) from error


def _found_by(path: str) -> str:
    if path.startswith("~"):
        return "write the folder out: os.path.expanduser(path)."
    if any(sign in path for sign in "*?["):
        return "give the files that it stands for: glob.glob(pattern)."
    return "check the path."


def _opened(file: Path | io.BytesIO, size: int, where: str) -> Image.Image:
    if not size:
        raise ImageError(f"{where} is empty.", "copy the file again.")
    try:
        with Image.open(file) as image:
            _check_size(image, where)
            return _upright_rgb(image, where)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _bomb(str(error).split(", could be")[0], where) from error
    except UnidentifiedImageError as error:
        if os.path.splitext(where)[1].lower() in VIDEO_SUFFIXES:
            raise ImageError(
                f"{where} is a video.",
                "take its frames: session.localize(path) in Python does, and ffmpeg makes files.",
            ) from error
        raise ImageError(
            f"{where} is not an image that Pillow reads.", "convert it to JPEG or PNG."
        ) from error
    except OSError as error:
        raise ImageError(f"{where} cannot be read: {error}.", "check the file.") from error


def _check_size(image: Image.Image, where: str) -> None:
    # Pillow only warns up to twice its limit; a service would be dead by then.
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise _bomb(f"{image.width}x{image.height} pixels, limit {limit}", where)


def _bomb(detail: str, where: str) -> ImageError:
    return ImageError(
        f"{where} is too large: {detail}.",
        f"make it smaller, or raise the limit: {LIMIT_VARIABLE}=400000000 in the environment "
        "(PIL.Image.MAX_IMAGE_PIXELS in Python).",
    )


def _upright_rgb(image: Image.Image, where: str) -> Image.Image:
    if not image.width or not image.height:
        size = f"{image.width}x{image.height}"
        raise ImageError(f"{where} is {size} pixels.", "give an image with pixels.")
    try:
        image.load()
        with contextlib.suppress(Exception):  # damaged EXIF must not lose sound pixels
            if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
                image = ImageOps.exif_transpose(image)
        return _rgb(image, where)
    except ImageError:
        raise
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, ...
        raise ImageError(
            f"{where} is damaged or truncated ({error}).", "copy the file again, or convert it."
        ) from error


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
