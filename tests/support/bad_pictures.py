"""Pictures damaged in many ways, from a seeded generator, and paths that are no pictures."""

import functools
import io
import os
import random
import re
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

_LENGTHS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_MODES = {
    "png": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "jpeg": ("L", "RGB", "CMYK", "YCbCr"),
    "gif": ("L", "P", "RGB"),
    "bmp": ("1", "L", "P", "RGB"),
    "webp": ("RGB", "RGBA"),
    "ppm": ("1", "L", "RGB", "I;16", "F"),
    "tga": ("L", "P", "RGB", "RGBA"),
    "ico": ("RGBA",),
    "icns": ("RGBA",),
    "pcx": ("1", "L", "RGB"),
    "sgi": ("L", "RGB"),
    "im": ("L", "RGB", "F"),
    "dds": ("RGB", "RGBA"),
    "msp": ("1",),
    "xbm": ("1",),
    "spider": ("F",),
    "jpeg2000": ("L", "RGB"),
    "avif": ("RGB",),
    "qoi": ("RGB",),
    "eps": ("RGB",),
}
_TIFF = (None, "tiff_lzw", "jpeg", "packbits", "tiff_adobe_deflate", "group4", "zstd")


@functools.cache
def pictures() -> tuple[bytes, ...]:
    """Sound files of every format that Pillow writes, in many modes, animated ones too."""
    return tuple(_pictures())


def _pictures() -> Iterator[bytes]:
    grey = Image.radial_gradient("L").resize((37, 29))
    colour = Image.merge("RGB", [grey, grey.rotate(90), grey.rotate(180)])

    def saved(mode: str, form: str, **options: Any) -> bytes:
        source = grey if mode in ("1", "I;16", "F") else colour
        picture = source.convert(mode)
        if form == "icns":
            picture = picture.resize((32, 32))
        file = io.BytesIO()
        with warnings.catch_warnings():  # of formats that Pillow will drop
            warnings.simplefilter("ignore", DeprecationWarning)
            picture.save(file, form, **options)
        return file.getvalue()

    for form, modes in _MODES.items():
        for mode in modes:
            yield saved(mode, form)
    for compression in _TIFF:
        yield saved("1" if compression == "group4" else "RGB", "tiff", compression=compression)
    for form in ("gif", "webp", "png", "tiff", "mpo"):
        yield saved("RGB", form, save_all=True, append_images=[colour.rotate(45)])
    exif = Image.Exif()
    exif[274] = 6
    yield saved("RGB", "jpeg", exif=exif, progressive=True)


def mutant(rng: random.Random) -> bytes:
    """A picture's bytes, damaged; a few are still sound."""
    data = rng.choice(pictures())
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data = rng.choice(_WAYS)(rng, data)
    return data


def _cut(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] if rng.random() < 0.8 else data[at:]


def _flipped(rng: random.Random, data: bytes) -> bytes:
    made = bytearray(data)
    for _ in range(rng.choice((1, 2, 8, 64)) if made else 0):
        made[rng.randrange(len(made))] = rng.randrange(256)
    return bytes(made)


def _header(rng: random.Random, data: bytes) -> bytes:
    """Another number among the first bytes, where sizes and offsets are."""
    made = bytearray(data)
    form = rng.choice(("<H", ">H", "<I", ">I"))
    at, number = rng.randrange(min(len(made), 120) or 1), rng.choice(_LENGTHS)
    number &= 0xFFFF if form[1] == "H" else 0xFFFFFFFF
    made[at : at + struct.calcsize(form)] = struct.pack(form, number)
    return bytes(made)


def _text(rng: random.Random, data: bytes) -> bytes:
    """Other texts where formats like PPM and XBM have their numbers."""
    odd = (
        b"4$",
        b"-3",
        b"0",
        b"",
        b"99999999999",
        b"1e9",
        b"nan",
        b"\0",
        b"9" * 5000,
        b"0x1",
        b"inf",
    )
    head, rest = data[:200], data[200:]
    found = [*re.finditer(rb"\d+", head)]
    if not found:
        return data
    at = rng.choice(found)
    return head[: at.start()] + rng.choice(odd) + head[at.end() :] + rest


def _joined(rng: random.Random, data: bytes) -> bytes:
    other = rng.choice(pictures())
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other)) :]


def _repeated(rng: random.Random, data: bytes) -> bytes:
    begin = rng.randrange(len(data) + 1)
    end = begin + rng.choice((1, 7, 64, 500))
    return data[:end] + data[begin:end] * rng.choice((1, 3, 200)) + data[end:]


def _chunk(rng: random.Random, data: bytes) -> bytes:
    """A chunk of a PNG changed, and its sum made right again, so that the decoder reads it."""
    if not data.startswith(b"\x89PNG"):
        return _header(rng, data)
    chunks, at = [], 8
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    index = rng.randrange(len(chunks) or 1)
    made = data[:8]
    for number, (name, body) in enumerate(chunks):
        if number == index:
            body = rng.choice((_flipped, _cut, _repeated))(rng, body)
            name = rng.choice((name, name, b"iCCP", b"zTXt", b"tRNS", b"PLTE", b"eXIf", b"acTL"))
        made += len(body).to_bytes(4, "big") + name + body
        made += zlib.crc32(name + body).to_bytes(4, "big")
    return made


_WAYS: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    _cut, _flipped, _header, _header, _text, _joined, _repeated, _chunk,
)  # fmt: skip


def awkward(folder: Path) -> list[str]:
    """Paths that are no picture, each in a way of its own; some are made in the folder."""
    (folder / "folder.jpg").mkdir()
    (folder / "empty.png").touch()
    (folder / "text.jpg").write_text("no picture")
    (folder / "gone.png").symlink_to("nowhere")
    (folder / "circle.png").symlink_to("circle.png")
    (folder / "zero.png").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.jpg")
    os.truncate(folder / "text.jpg", 5_000_000)
    (folder / "huge.ppm").write_bytes(b"P6\n60000 60000\n255\nxxxx")
    (folder / "wrong.ppm").write_bytes(b"P6\n4$ 4\n255\nxxxx")
    (folder / "program.eps").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n"
    )
    made = [str(path) for path in sorted(folder.iterdir())]
    return [
        *made,
        str(folder / "absent.png"),
        str(folder / "text.jpg" / "below.png"),
        str(folder / ("long" * 2000)),
        f"{folder}{'/./' * 3000}a.png",
    ]
