"""Changes of onnx's own models, before or without onnx-ir."""

from __future__ import annotations

from collections.abc import Iterator

import onnx


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and every graph inside it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for part in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from graphs(part)


def with_output(proto: onnx.ModelProto, name: str, keep: bool = False) -> onnx.ModelProto:
    """A copy of the model that returns one named tensor, instead of or beside its outputs.

    Instead of them, nodes that the tensor does not need are left out: some engines would run them.
    """
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    if not keep:
        wanted = needed(proto.graph, name)
        nodes = [node for node in result.graph.node if wanted.intersection(node.output)]
        del result.graph.node[:]
        result.graph.node.extend(nodes)
    declared = [v for v in result.graph.output if v.name == name]
    if not keep:
        del result.graph.output[:]
    result.graph.output.extend(declared or [onnx.helper.make_empty_tensor_value_info(name)])
    return result


def reads(node: onnx.NodeProto) -> set[str]:
    """Names of the tensors that a node reads, those of its branches and loops too."""
    names = {name for name in node.input if name}
    for attribute in node.attribute:
        for inner in attribute.g.node:
            names |= reads(inner)
        names.update(value.name for value in attribute.g.output)
    return names


def needed(graph: onnx.GraphProto, name: str) -> set[str]:
    """Names of the tensors that one is computed from, and its own."""
    makers = {y: node for node in graph.node for y in node.output if y}
    found, stack = {name}, [name]
    while stack:
        node = makers.get(stack.pop())
        for x in reads(node) if node is not None else ():
            if x not in found:
                found.add(x)
                stack.append(x)
    return found
