"""An ONNX file's bytes before ONNX Runtime loads them: metadata, and outputs taken out.

ONNX Runtime computes every node of a graph, whatever outputs are asked for and even if none needs
it. What nobody wants is therefore taken out before the file is loaded.

The onnx package is not needed for it. The encoding is that of Protocol Buffers
(protobuf.dev/programming-guides/encoding): a message is a row of fields, each a tag (number and
type) and a value. The numbers of the fields are onnx.proto's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from .errors import ModelError

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
    for number, start, value, end in _fields(view, 0, len(view)):
        if number != _GRAPH:
            pieces.append(view[start:end])
            continue
        kept = _live(view, list(_fields(view, value, end)), {name.encode() for name in drop})
        pieces += [_varint(_GRAPH << 3 | _BYTES), _varint(sum(map(len, kept))), *kept]
    return b"".join(pieces)


def metadata(model: bytes) -> dict[str, str]:
    """The metadata_props of a model, before it is loaded.

    Args:
        model: an ONNX file.

    Raises:
        ModelError: the bytes are not an ONNX file.
    """
    view, found = memoryview(model), {}
    for number, _, value, end in _fields(view, 0, len(view)):
        if number == _METADATA:
            entry = {part: bytes(view[at:stop]) for part, _, at, stop in _fields(view, value, end)}
            found[_decoded(entry.get(_KEY, b""))] = _decoded(entry.get(_VALUE, b""))
    return found


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
        for name in _texts(view, value, end, _OUTPUT_NAME)
    }
    if not outputs & drop:
        return [view[start:end] for _, start, _, end in fields]
    needed, live, kept = outputs - drop, set(), []
    for number, start, value, end in reversed(fields):
        if number == _NODE and needed & _texts(view, value, end, _NODE_OUTPUT):
            live.add(start)
            needed |= _reads(view, value, end)
    for number, start, value, end in fields:
        if number == _NODE:
            wanted = start in live
        elif number == _OUTPUT:
            wanted = not drop & _texts(view, value, end, _OUTPUT_NAME)
        elif number == _INITIALIZER:
            wanted = bool(needed & _texts(view, value, end, _INITIALIZER_NAME))
        else:
            wanted = True
        if wanted:
            kept.append(view[start:end])
    return kept


def _reads(view: memoryview, start: int, end: int) -> set[bytes]:
    """What a node reads: its inputs, and all that is named in graphs within it."""
    names = _texts(view, start, end, _NODE_INPUT)
    for number, _, value, stop in _fields(view, start, end):
        if number != _ATTRIBUTE:
            continue
        for inner, _, inside, last in _fields(view, value, stop):
            if inner not in (_SUBGRAPH, _SUBGRAPHS):
                continue
            for part, _, at, until in _fields(view, inside, last):
                if part == _NODE:
                    names |= _reads(view, at, until)
                elif part == _OUTPUT:  # may be a value of the graph around it
                    names |= _texts(view, at, until, _OUTPUT_NAME)
    return names


def _fields(view: memoryview, start: int, end: int) -> Iterator[_Field]:
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


def _texts(view: memoryview, start: int, end: int, wanted: int) -> set[bytes]:
    """The texts in a message's fields of that number, the empty one (an input left out) aside."""
    fields = _fields(view, start, end)
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
