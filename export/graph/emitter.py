"""Operators appended to a graph, one call each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from .rewrites import PORTABLE
from .values import Operand


class Emitter:
    """Emits operators at the end of a graph: ``op.Mul(a, b)``, ``op.Slice(x, starts, ends)``.

    Numbers and float arrays become constants of ``dtype``, lists of integers int64 constants; equal
    constants are stored once.

    Attributes:
        graph: what it appends to.
        prefix: of the names of new nodes.
        on: names of the rewrites (rewrites.py) wanted.
        dtype: float type of the constants.
    """

    def __init__(self, graph: ir.Graph, prefix: str, on: Collection[str] = PORTABLE) -> None:
        self.graph = graph
        self.prefix = prefix
        self.on = on
        self.dtype = ir.DataType.FLOAT
        self._count = 0
        self._constants: dict[object, ir.Value] = {}

    def __getattr__(self, op_type: str) -> Callable[..., Any]:
        if op_type.startswith("_"):
            raise AttributeError(op_type)

        def emit(*inputs: Operand, outputs: int = 1, **attributes: Any) -> Any:
            values = [None if x is None else self.const(x) for x in inputs]
            made = self.emit(op_type, values, outputs, attributes)
            return made[0] if outputs == 1 else made

        return emit

    def emit(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        outputs: int,
        attributes: dict[str, Any],
    ) -> Sequence[ir.Value]:
        """Append one node; returns its outputs."""
        self._count += 1
        name = f"{self.prefix}/{op_type}_{self._count}"
        node = ir.node(op_type, inputs, attributes=attributes, num_outputs=outputs, name=name)
        for index, output in enumerate(node.outputs):
            output.name = f"{name}:{index}"
        self.graph.append(node)
        return node.outputs

    def const(self, value: Operand, dtype: ir.DataType | None = None) -> ir.Value:
        """A constant as an initializer of the graph (a Value is passed through)."""
        if isinstance(value, ir.Value):
            return value
        array = np.asarray(value)
        scalar = isinstance(value, int | float)
        if dtype is None:
            dtype = self.dtype if scalar or array.dtype.kind == "f" else ir.DataType.INT64
            dtype = ir.DataType.BOOL if array.dtype.kind == "b" else dtype
        array = array.astype(dtype.numpy())
        key = (dtype, array.shape, array.tobytes())
        if key not in self._constants:
            name = f"{self.prefix}/const_{len(self._constants)}"
            made = ir.val(name, const_value=ir.tensor(array, dtype=dtype, name=name))
            self.graph.register_initializer(made)
            self._constants[key] = made
        return self._constants[key]
