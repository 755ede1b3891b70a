"""An ONNX file's bytes before ONNX Runtime loads them: metadata, and outputs taken out.

ONNX Runtime computes every node of a graph, whatever outputs are asked for and even if none needs
it. What nobody wants is therefore taken out before the file is loaded.

The onnx package is not needed for it. The encoding is that of Protocol Buffers
(protobuf.dev/programming-guides/encoding): a message is a row of fields, each a tag (number and
type) and a value. The numbers of the fields are onnx.proto's.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Collection, Iterator, Mapping

from ..errors import ModelError

_GRAPH, _METADATA = 7, 14
"""ModelProto.graph and .metadata_props"""
_KEY, _VALUE = 1, 2
"""StringStringEntryProto"""
_NODE, _INITIALIZER, _OUTPUT = 1, 5, 12
"""GraphProto"""
_NODE_INPUT, _NODE_OUTPUT, _ATTRIBUTE = 1, 2, 5
"""NodeProto"""
_SUBGRAPH, _SUBGRAPHS = 6, 11
"""AttributeProto.g and .graphs"""
_OUTPUT_NAME, _INITIALIZER_NAME = 1, 8
"""ValueInfoProto.name, TensorProto.name"""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

_Field = tuple[int, int, int, int]
"""Number; where the field, its value, and the next field begin."""


def without_outputs(model: bytes, drop: Collection[str]) -> bytes:
    """The model without those outputs of its graph, and without nodes and weights only they need.

    Args:
        model: an ONNX file, its nodes in the order that ONNX requires: each after those it needs.
        drop: names; if the graph has none of them, the model stays as it is.

    Raises:
        ModelError: the bytes are not an ONNX file.
    """
    view = memoryview(model)
    pieces: list[memoryview | bytes] = []
    for number, start, value, end in fields_of(view, 0, len(view)):
        if number != _GRAPH:
            pieces.append(view[start:end])
            continue
        kept = _live(view, list(fields_of(view, value, end)), {name.encode() for name in drop})
        pieces += [_varint(_GRAPH << 3 | _BYTES), _varint(sum(map(len, kept))), *kept]
    return b"".join(pieces)


@contextlib.contextmanager
def mapped(model: str | os.PathLike[str] | bytes) -> Iterator[memoryview]:
    """The bytes of a model, those of its weights unread."""
    if isinstance(model, bytes):
        yield memoryview(model)
        return
    with (
        open(model, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pages,
        memoryview(pages) as view,
    ):
        yield view


def metadata(model: bytes | memoryview) -> dict[str, str]:
    """The metadata_props of a model, before it is loaded.

    Args:
        model: an ONNX file.

    Raises:
        ModelError: the bytes are not an ONNX file.
    """
    view, found = memoryview(model), {}
    for number, _, value, end in fields_of(view, 0, len(view)):
        if number == _METADATA:
            entry = {
                part: bytes(view[at:stop]) for part, _, at, stop in fields_of(view, value, end)
            }
            found[_decoded(entry.get(_KEY, b""))] = _decoded(entry.get(_VALUE, b""))
    return found


def with_metadata(model: bytes, entries: Mapping[str, str]) -> bytes:
    """The model with these metadata_props; others of other names and all else stay as they are.

    Args:
        model: an ONNX file.
        entries: name -> text; they take the place of entries of the same name.

    Raises:
        ModelError: the bytes are not an ONNX file.
    """
    view = memoryview(model)
    names = {name.encode() for name in entries}
    pieces: list[memoryview | bytes] = [
        view[start:end]
        for number, start, value, end in fields_of(view, 0, len(view))
        if number != _METADATA or not names & (texts_of(view, value, end, _KEY) or {b""})
    ]
    for name, text in entries.items():
        entry = _bytes_field(_KEY, name.encode()) + _bytes_field(_VALUE, text.encode())
        pieces.append(_bytes_field(_METADATA, entry))
    return b"".join(pieces)


def _bytes_field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(value)) + value


def _decoded(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise _damaged() from error


def _live(view: memoryview, fields: list[_Field], drop: set[bytes]) -> list[memoryview]:
    """The fields of a graph that are needed for its other outputs."""
    outputs = {
        name
        for number, _, value, end in fields
        if number == _OUTPUT
        for name in texts_of(view, value, end, _OUTPUT_NAME)
    }
    if not outputs & drop:
        return [view[start:end] for _, start, _, end in fields]
    needed, live, kept = outputs - drop, set(), []
    for number, start, value, end in reversed(fields):
        if number == _NODE and needed & texts_of(view, value, end, _NODE_OUTPUT):
            live.add(start)
            needed |= read_by(view, value, end)
    for number, start, value, end in fields:
        if number == _NODE:
            wanted = start in live
        elif number == _OUTPUT:
            wanted = not drop & texts_of(view, value, end, _OUTPUT_NAME)
        elif number == _INITIALIZER:
            wanted = bool(needed & texts_of(view, value, end, _INITIALIZER_NAME))
        else:
            wanted = True
        if wanted:
            kept.append(view[start:end])
    return kept


def read_by(view: memoryview, start: int, end: int) -> set[bytes]:
    """What a node reads: its inputs, and all that is named in graphs within it."""
    names = texts_of(view, start, end, _NODE_INPUT)
    for number, _, value, stop in fields_of(view, start, end):
        if number != _ATTRIBUTE:
            continue
        for inner, _, inside, last in fields_of(view, value, stop):
            if inner not in (_SUBGRAPH, _SUBGRAPHS):
                continue
            for part, _, at, until in fields_of(view, inside, last):
                if part == _NODE:
                    names |= read_by(view, at, until)
                elif part == _OUTPUT:  # may be a value of the graph around it
                    names |= texts_of(view, at, until, _OUTPUT_NAME)
    return names


def fields_of(view: memoryview, start: int, end: int) -> Iterator[_Field]:
    """The fields of a message: number, and where the field, its value and the next one begin.

    Raises:
        ModelError: it is no message.
    """
    while start < end:
        tag, value = _read_varint(view, start, end)
        kind, stop = tag & 7, value
        if kind == _VARINT:
            stop = _read_varint(view, value, end)[1]
        elif kind == _BYTES:
            length, value = _read_varint(view, value, end)
            stop = value + length
        elif kind in (_FIXED64, _FIXED32):
            stop = value + (8 if kind == _FIXED64 else 4)
        else:
            raise _damaged()
        if stop > end:
            raise _damaged()
        yield tag >> 3, start, value, stop
        start = stop


def texts_of(view: memoryview, start: int, end: int, wanted: int) -> set[bytes]:
    """The texts in a message's fields of that number, the empty one (an input left out) aside."""
    fields = fields_of(view, start, end)
    return {bytes(view[at:stop]) for number, _, at, stop in fields if number == wanted} - {b""}


def _read_varint(view: memoryview, start: int, end: int) -> tuple[int, int]:
    """A number, seven bits per byte, the lowest first; and where it ends."""
    number = 0
    for shift, place in zip(range(0, 70, 7), range(start, end), strict=False):
        number |= (view[place] & 127) << shift
        if view[place] < 128:
            return number, place + 1
    raise _damaged()


def _varint(number: int) -> bytes:
    made = bytearray()
    while number > 127:
        made.append(number & 127 | 128)
        number >>= 7
    return bytes([*made, number])


def _damaged() -> ModelError:
    return ModelError(
        "the file is not an ONNX file, or it is damaged or truncated.",
        "copy the file again, or export the model again.",
    )
