"""Changes of onnx's own models, before or without onnx-ir."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx
from google.protobuf.message import Message


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and every graph inside it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for part in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from graphs(part)


def as_text(message: Message) -> None:
    """Make text of every string in a model, whatever bytes are in its place.

    protobuf lets them through: names and notes in GBK or Latin-1, which ONNX Runtime reads and
    onnx-ir cannot write.
    """
    for field in message.DESCRIPTOR.fields:
        if field.type not in (field.TYPE_STRING, field.TYPE_MESSAGE):
            continue
        value = getattr(message, field.name)
        if isinstance(value, bytes):
            setattr(message, field.name, _escaped(value))
        elif isinstance(value, Message):
            if message.HasField(field.name):
                as_text(value)
        elif not isinstance(value, str):
            for number, one in enumerate(value):
                if isinstance(one, bytes):
                    value[number] = _escaped(one)
                elif isinstance(one, Message):
                    as_text(one)


def _escaped(text: bytes) -> str:
    r"""Bytes that should be UTF-8, what is none of it as ``\xd6``."""
    return text.decode("utf-8", "backslashreplace")


def with_outputs(proto: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """A copy of the model that returns the named tensors, and has no node that they do not need.

    Some engines would run those, whatever they are asked for.
    """
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    wanted = _needed(proto.graph, names)
    nodes = [node for node in result.graph.node if wanted.intersection(node.output)]
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    declared = {value.name: value for value in proto.graph.output}
    del result.graph.output[:]
    result.graph.output.extend(
        declared.get(name) or onnx.helper.make_empty_tensor_value_info(name) for name in names
    )
    return result


def reads(node: onnx.NodeProto) -> set[str]:
    """Names of the tensors that a node reads, those of its branches and loops too."""
    names = {name for name in node.input if name}
    for attribute in node.attribute:
        for inner in attribute.g.node:
            names |= reads(inner)
        names.update(value.name for value in attribute.g.output)
    return names


def _needed(graph: onnx.GraphProto, names: Sequence[str]) -> set[str]:
    """Names of the tensors that some are computed from, and their own."""
    makers = {y: node for node in graph.node for y in node.output if y}
    found, stack = set(names), [*names]
    while stack:
        node = makers.get(stack.pop())
        for x in reads(node) if node is not None else ():
            if x not in found:
                found.add(x)
                stack.append(x)
    return found
