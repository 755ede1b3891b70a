"""Which execution provider took which node of a graph, and which were left to another.

A node that a GPU provider leaves to the CPU costs two copies and a wait in every run, and forbids
CUDA graphs. Not so the computation of shapes: those few integers are on the CPU anyway, where
Reshape and its like read them, and ONNX Runtime leaves it there on purpose.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from typing import Any

from ..errors import ModelError
from .protobuf import fields_of, mapped, read_by, texts_of

_GRAPH, _NODE, _INITIALIZER, _INPUT = 7, 1, 5, 11
"""ModelProto.graph; GraphProto.node, .initializer and .input (onnx.proto)"""
_OUTPUTS, _NAME, _OPERATOR = 2, 3, 4
"""NodeProto.output, .name and .op_type"""
_INPUT_NAME, _INITIALIZER_NAME = 1, 8
"""ValueInfoProto.name, TensorProto.name"""

RECORD = ("session.record_ep_graph_assignment_info", "1")
"""The session configuration entry that has ONNX Runtime keep what ``placed`` reads."""


@dataclasses.dataclass(frozen=True)
class Node:
    """A node of a graph that ran elsewhere than asked.

    Attributes:
        name: of the node.
        operator: its type; with its domain, if that is not ONNX's own.
        provider: short name of the provider that took it, or ONNX Runtime's own name.
    """

    name: str
    operator: str
    provider: str


def placed(
    session: Any, model: str | os.PathLike[str] | bytes, names: dict[str, str]
) -> tuple[tuple[Node, ...], int]:
    """The nodes that the first provider left to others, computations of shapes aside.

    Args:
        session: of ONNX Runtime, opened with ``RECORD``.
        model: what it was opened on, path or bytes.
        names: ONNX Runtime's name of a provider -> its short name.

    Returns:
        Those nodes; and how many groups of nodes the first provider took: TensorRT's are engines,
        CUDA's single nodes. Nothing and 0 from an ONNX Runtime before 1.24, which does not tell.
    """
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return (), 0
    first, engines, left = session.get_providers()[0], 0, []
    for group in session.get_provider_graph_assignment_info():
        if group.ep_name == first:
            engines += 1
            continue
        for node in group.get_nodes():
            domain = f"{node.domain}." if node.domain not in ("", "ai.onnx") else ""
            provider = names.get(group.ep_name, group.ep_name)
            left.append(Node(node.name, f"{domain}{node.op_type}", provider))
    if left:
        with mapped(model) as content, contextlib.suppress(ModelError):
            shapes = shape_nodes(content)
            left = [node for node in left if node.name not in shapes]
    return tuple(left), engines


def shape_nodes(model: bytes | memoryview) -> set[str]:
    """Names of the nodes that compute from the shapes of tensors, and never from their values.

    Args:
        model: an ONNX file, its nodes in the order that ONNX requires: each after those it needs.

    Raises:
        ModelError: the bytes are not an ONNX file.
    """
    view, names = memoryview(model), set()
    graphs = (field for field in fields_of(view, 0, len(view)) if field[0] == _GRAPH)
    for _, _, begin, stop in graphs:
        parts = list(fields_of(view, begin, stop))
        values, constants = set(), set()
        for number, _, at, end in parts:
            if number == _INPUT:
                values |= texts_of(view, at, end, _INPUT_NAME)
            elif number == _INITIALIZER:
                constants |= texts_of(view, at, end, _INITIALIZER_NAME)
        values -= constants  # before IR version 4 an initializer is an input, too
        for number, _, at, end in parts:
            if number != _NODE or texts_of(view, at, end, _OPERATOR) & {b"Shape", b"Size"}:
                continue
            if read_by(view, at, end) & values:
                values |= texts_of(view, at, end, _OUTPUTS)
            else:
                names |= texts_of(view, at, end, _NAME)
    return {name.decode(errors="replace") for name in names}


def summary(nodes: tuple[Node, ...], provider: str, shown: int = 5) -> str:
    """A line for people about the nodes that a provider left to others."""
    listed = ", ".join(f"{node.name or '(no name)'} ({node.operator})" for node in nodes[:shown])
    more = f" and {len(nodes) - shown} more" if len(nodes) > shown else ""
    where = "/".join(dict.fromkeys(node.provider for node in nodes))
    what = "a node" if len(nodes) == 1 else f"{len(nodes)} nodes"
    runs = "runs" if len(nodes) == 1 else "run"
    return (
        f"{what} that {provider} does not take {runs} on {where}, which copies between them in "
        f"every run: {listed}{more}"
    )
