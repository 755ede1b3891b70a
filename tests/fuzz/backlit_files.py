"""Damaged and hostile Backlit files, given to the commands that read them."""

from __future__ import annotations

import copy
import functools
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import onnx
from backlit.export import export
from backlit.runtime.contract import KEY
from support.linear_file import write_linear_file
from support.small import convnet

from .damage import damaged, long_numbers, value
from .kind import Kind
from .protos import changed

_COMMANDS = (
    ["info", "F"],
    ["info", "F", "--json"],
    ["saliency", "F", "I"],
    ["saliency", "F", "I", "--top", "3", "-o", "out"],
    ["saliency", "F", "I", "--map", "gradcam", "-o", "out"],
    ["saliency", "F", "I", "--map", "smoothgrad", "--class", "1"],
    ["localize", "F", "I", "-o", "out"],
    ["localize", "F", "I", "--format", "csv", "-o", "out"],
    ["localize", "F", "I", "--sheet", "sheet.png"],
    ["visualize", "F", "--class", "0", "-o", "seen.png", "--steps", "3"],
)


def make(rng: random.Random, folder: Path) -> list[str]:
    """One file, damaged in its metadata, its graph or its bytes, and a command that reads it."""
    data = rng.choice(_bases())
    way = rng.random()
    if way < 0.5:
        data = _with_metadata(data, _metadata(rng, data))
    elif way < 0.8:
        model = onnx.load_from_string(data)
        changed(rng, model, folder)
        data = model.SerializeToString()
    else:
        data = damaged(rng, data)
    (folder / "F").write_bytes(data)
    _picture(folder / "I")
    return list(rng.choice(_COMMANDS))


def _picture(path: Path) -> None:
    from PIL import Image

    Image.radial_gradient("L").resize((40, 30)).convert("RGB").save(path, "PNG")


@functools.cache
def _bases() -> tuple[bytes, ...]:
    """Whole Backlit files: of one map and of all, of pixels and of floats, with labels."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        labels = ("cat", "dog", "=1+1", "a, b", "owl")
        write_linear_file(folder / "a", labels=labels, resize="crop")
        write_linear_file(folder / "b", dtype="float32", output="gradient", colour="BGR")
        write_linear_file(folder / "c", channels=1, classes=1)
        maps = ("saliency", "features", "gradcam", "layercam")
        export(convnet(end="Softmax"), folder / "d", maps=maps, labels=list("abcdef"))
        return tuple((folder / letter).read_bytes() for letter in "abcd")


def _with_metadata(data: bytes, text: bytes) -> bytes:
    model = onnx.load_from_string(data)
    kept = [entry for entry in model.metadata_props if entry.key != KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    # Past the Python package, which takes no text that is not UTF-8.
    entry = _field(1, KEY.encode()) + _field(2, text)
    before: bytes = model.SerializeToString()
    return before + _field(14, entry)


def _field(number: int, content: bytes) -> bytes:
    length, made = len(content), bytearray([number << 3 | 2])
    while length > 127:
        made.append(length & 127 | 128)
        length >>= 7
    return bytes([*made, length]) + content


def _metadata(rng: random.Random, data: bytes) -> bytes:
    """The metadata of a file with one to three things wrong."""
    entries = {e.key: e.value for e in onnx.load_from_string(data).metadata_props}
    document: dict[str, Any] = json.loads(entries[KEY])
    way = rng.random()
    if way < 0.06:
        deep = rng.choice((500, 100_000))
        return b"[" * deep + b"]" * deep if rng.random() < 0.5 else b'{"a":' * deep
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        spoil(rng, document)
    with long_numbers():
        text = json.dumps(document, ensure_ascii=rng.random() < 0.7)
    encoded = text.encode("utf-8", "surrogatepass")
    if way < 0.12:
        return damaged(rng, encoded)
    if way < 0.18:  # a key twice
        return b'{"schema":2,"labels":"abc",' + encoded[1:]
    if way < 0.2:
        return rng.choice(
            (text.encode("utf-16", "replace"), b"\xef\xbb\xbf" + encoded, encoded + b"{}")
        )
    return encoded


def spoil(rng: random.Random, document: dict[str, Any]) -> None:
    """Make one place of the metadata wrong, as a rule."""
    places = list(_places(document))
    inside, key = rng.choice(places)
    way = rng.randrange(8)
    if way == 0 and isinstance(inside, dict):
        del inside[key]
    elif way == 1 and isinstance(inside, dict):
        inside[rng.choice(("extra", "", "__class__", "schema", "name"))] = value(rng)
    elif way == 2:
        other, name = rng.choice(places)
        inside[key] = copy.deepcopy(other[name])
    elif way == 3 and isinstance(inside[key], int | float):
        inside[key] = inside[key] * rng.choice((-1, 0, 2, 1000, 1e-3, 1e300))
    elif way == 4 and isinstance(inside[key], list):
        inside[key] = inside[key][:1] if rng.random() < 0.5 else inside[key] * 2
    elif way == 5 and isinstance(inside[key], list):
        inside[key] = "".join(map(str, inside[key]))
    else:
        inside[key] = value(rng)


def _places(inside: Any) -> Any:
    """Every container and key of a JSON document."""
    for key, item in list(inside.items() if isinstance(inside, dict) else enumerate(inside)):
        yield inside, key
        if isinstance(item, dict | list):
            yield from _places(item)


KIND = Kind("backlit files", 5000, make)
