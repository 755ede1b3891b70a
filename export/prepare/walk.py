"""One walk through a graph that tells every shape, and what in it follows the batch.

A number for the batch that occurs nowhere else tells the shape of every tensor and the value of
every shape computation. What does not follow the batch becomes a constant. What nodes need so that
they work on any batch (``mends``) is in batch.py.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnx.reference
import onnx_ir as ir

from ..autodiff.ops import Ops
from ..graph.values import attribute, constant
from ..graph.weights import SMALL

MARK = 1_000_003  # a prime: a length it divides is the batch's, times what it divides into
Dims: TypeAlias = list[int]
Mend: TypeAlias = Callable[["Walk", ir.Node, Dims], None]

SHAPED_AS_INPUT = ("GroupNormalization", "MeanVarianceNormalization")
"""Operators that onnx's shape inference knows nothing of."""

MENDS: dict[str, Mend] = {}
ALWAYS: dict[str, Mend] = {}
"""Of these, what nodes need even where the batch is dynamic already."""


def mends(*op_types: str, always: bool = False) -> Callable[[Mend], Mend]:
    """Register what an operator's node needs, given the shape of its first batched input."""

    def register(mend: Mend) -> Mend:
        MENDS.update(dict.fromkeys(op_types, mend))
        ALWAYS.update(dict.fromkeys(op_types if always else (), mend))
        return mend

    return register


class Walk:
    """Shapes with the batch marked, and constants that are put in its stead.

    Attributes:
        image: the input whose first length is the batch.
        old: what it is fixed to, and must be freed from; None: it is dynamic already.
        whole: what a number that means the whole batch is.
        changed: a value was made a constant, or a node changed.
    """

    def __init__(self, model: ir.Model, image: ir.Value, old: int | None = None) -> None:
        self.image, self.old, self.changed, self._model = image, old or 1, False, model
        self.whole = MARK if old is None else old
        self._mends = ALWAYS if old is None else MENDS
        self._types: dict[ir.Value, onnx.TypeProto] = {}
        self._values: dict[ir.Value, np.ndarray[Any, Any]] = {}  # shapes, and what is made of them
        self._within: dict[ir.Value, int] = {}  # of the batched length: the part outside the batch
        self._version = model.opset_imports.get("", 20)

    @functools.cached_property
    def op(self) -> Ops:
        """Emits what a mend needs."""
        return Ops(self._model.graph, 1, prefix="free_batch")

    def dims(self, value: ir.Value | None) -> Dims | None:
        """A tensor's shape, the batch marked; None where it is unknown."""
        if value is None or value not in self._types:
            return None
        shape = self._types[value].tensor_type
        return [d.dim_value for d in shape.shape.dim] if shape.HasField("shape") else None

    def fixed(self, value: ir.Value | None) -> np.ndarray[Any, Any] | None:
        """A small tensor's value; None where it is unknown, or follows the batch already."""
        known = None if value is None else self._values.get(value)
        return None if known is not None and follows(known).any() else known

    def known(self, value: ir.Value | None) -> np.ndarray[Any, Any] | None:
        """A small tensor's value, the batch in it marked; None where it is unknown."""
        return None if value is None else self._values.get(value)

    def at(self, value: ir.Value | None, count: int) -> np.ndarray[Any, Any] | None:
        """The value, for so many images, of a tensor that only shapes and constants make."""
        made: dict[ir.Value, np.ndarray[Any, Any]] = {}

        def compute(x: ir.Value) -> np.ndarray[Any, Any]:
            if x not in made:
                node, fixed = x.producer(), constant(x)
                if fixed is not None:
                    made[x] = fixed
                elif node is None:
                    raise ValueError(f"{x.name!r} is not made of shapes")
                elif node.op_type == "Shape":
                    dims = with_batch(self.dims(node.inputs[0]) or [0], count)
                    span = slice(attribute(node, "start", 0), attribute(node, "end"))
                    made[x] = np.array([int(d) for d in dims][span])  # type: ignore[arg-type]
                else:
                    feed = {str(i.name): compute(i) for i in node.inputs if i is not None}
                    run = onnx.reference.ReferenceEvaluator(ir.serde.serialize_node(node)).run
                    made.update(zip(node.outputs, run(None, feed), strict=True))  # type: ignore[arg-type]
            return made[x]

        with contextlib.suppress(Exception):  # of the evaluator, or the image is in it
            return None if value is None else compute(value)
        return None

    def axis(self, value: ir.Value | None) -> int | None:
        """Which axis of a tensor holds the batch."""
        found = [i for i, d in enumerate(self.dims(value) or ()) if d and d % MARK == 0]
        return found[0] if found else None

    def before(self, dims: Sequence[int]) -> Dims:
        """The shape that it was with the fixed batch."""
        return [d // MARK * self.old if d % MARK == 0 else d for d in dims]

    def outside(self, value: ir.Value | None) -> int:
        """How many slices of a tensor, in row-major order, lie outside its batch."""
        axis = self.axis(value) or 0
        within = 1 if value is None else self._within.get(value, 1)
        return math.prod(self.before(self.dims(value) or [])[:axis]) * within

    def put(self, node: ir.Node, index: int, value: Any) -> None:
        """Give a node another constant (or tensor) for an input."""
        made = self.op.const(np.asarray(value)) if not isinstance(value, ir.Value) else value
        node.replace_input_with(index, made)
        self.seed(made)
        self.changed = True

    def becomes(self, node: ir.Node, op_type: str, *inputs: Any, **attributes: int) -> None:
        """Make another operator of a node; its outputs stay."""
        node.op_type = op_type
        node.attributes.clear()
        node.attributes.update({k: ir.AttrInt64(k, v) for k, v in attributes.items()})
        node.resize_inputs(1 + len(inputs))
        for i, value in enumerate(inputs, 1):
            self.put(node, i, value)
        self.changed = True

    def emitted(self, value: ir.Value) -> ir.Value:
        """A tensor that a mend has emitted, its shape found."""
        node = value.producer()
        if node is not None:
            for x in node.inputs:
                if x is not None:
                    self.seed(x)
            self._infer(node)
        return value

    def repeated(self, value: ir.Value, axis: int) -> ir.Value:
        """A tensor that does not depend on the image, repeated for every image of the batch."""
        dims, dtype = self.dims(value) or [], self._types[value].tensor_type.elem_type
        if dims[axis] > 1:
            value = self.op.Slice(value, [0], [1], [axis])
        n = self.op.Gather(self.op.Shape(self.image), [0], axis=0)
        parts = [np.array([1] * axis), n, np.array([1] * (len(dims) - axis - 1))]
        target = self.op.Concat(*(p for p in parts if isinstance(p, ir.Value) or len(p)), axis=0)
        result: ir.Value = self.op.Expand(value, target)
        result.dtype = ir.DataType(dtype)
        self._types[result] = _type(dtype, [*dims[:axis], MARK, *dims[axis + 1 :]])
        return result

    def repeat_others(
        self, node: ir.Node, axis: int, inputs: Collection[int] | None = None
    ) -> None:
        """Repeat what a node reads that does not depend on the image; ``inputs``: of these."""
        for i, x in enumerate(node.inputs):
            taken = inputs is None or i in inputs
            if taken and x is not None and self.axis(x) is None and self.dims(x) is not None:
                self.put(node, i, self.repeated(x, axis))

    def run(self) -> None:
        """Walk through the nodes in order, mend each, and infer what it makes."""
        for value in self._model.graph.inputs:
            if value.shape is not None and value.dtype is not None:
                dims = [d if isinstance(d, int) else MARK for d in value.shape]
                if value is self.image and self._mends is MENDS:  # which frees it
                    dims[0] = MARK
                self._types[value] = _type(int(value.dtype), dims)
        for value in self._model.graph.initializers.values():
            self.seed(value)
        for node in list(self._model.graph):
            batched = next((x for x in node.inputs if self.axis(x) is not None), None)
            if batched is not None and node.op_type in self._mends:
                self._mends[node.op_type](self, node, self.dims(batched) or [])
            self._infer(node)

    def seed(self, value: ir.Value) -> None:
        """Take in the shape and the value of a constant."""
        tensor = value.const_value
        if tensor is not None and value not in self._types:
            shape = [int(d) for d in tensor.shape]  # type: ignore[arg-type]
            self._types[value] = _type(int(tensor.dtype), shape)
            if tensor.dtype != ir.DataType.STRING and tensor.nbytes <= SMALL:
                self._values[value] = tensor.numpy()

    def _infer(self, node: ir.Node) -> None:
        given = [x for x in node.inputs if x is not None]
        if any(x not in self._types for x in given) or not onnx.defs.has(node.op_type, node.domain):
            return
        if node.op_type in SHAPED_AS_INPUT:
            self._types[node.outputs[0]] = self._types[given[0]]
            return
        proto = ir.serde.serialize_node(node)
        values = {str(x.name): self._values[x] for x in given if x in self._values}
        types = {str(x.name): self._types[x] for x in given}
        data = {name: onnx.numpy_helper.from_array(value) for name, value in values.items()}
        schema = onnx.defs.get_schema(node.op_type, self._version, node.domain)
        opsets = [onnx.helper.make_opsetid("", self._version)]
        try:
            found = onnx.shape_inference.infer_node_outputs(
                schema, proto, types, data, None, opsets
            )
        except Exception:  # the model is wrong, or free already: others will say
            return
        for y in node.outputs:
            if y.name and y.name in found:  # several outputs may be unnamed
                self._types[y] = found[y.name]
        batched = next((x for x in given if self.axis(x) is not None), None)
        for y in node.outputs:
            if batched is not None and (axis := self.axis(y)) is not None:
                y_dims = self.dims(y) or []
                if node.op_type == "Reshape":
                    self._within[y] = self.outside(batched) // math.prod(self.before(y_dims)[:axis])
                elif y_dims[axis] == (self.dims(batched) or [])[self.axis(batched) or 0]:
                    self._within[y] = self._within.get(batched, 1)
        dims = self.dims(given[0]) if given else None
        if node.op_type == "Shape" and dims is not None and 0 not in dims:
            stop = attribute(node, "end", len(dims))
            self._values[node.outputs[0]] = np.array(dims[attribute(node, "start", 0) : stop])
        elif node.op_type == "Constant" or (values and values.keys() == types.keys()):
            quantised = "uantize" in node.op_type  # a weight stays; what follows would be cut off
            if quantised and any(follows(v).any() for v in values.values()):
                return
            with contextlib.suppress(Exception):  # no more is known than before
                made = onnx.reference.ReferenceEvaluator(proto).run(None, values)
                for y, value in zip(node.outputs, made, strict=True):
                    if isinstance(value, np.ndarray) and value.nbytes <= SMALL:
                        self._know(y, value, keep=quantised or y.is_graph_output())

    def _know(self, y: ir.Value, value: np.ndarray[Any, Any], keep: bool) -> None:
        """Remember a computed value; what does not follow the batch becomes a constant."""
        self._values[y] = value
        if not keep and value.dtype.kind in "iub" and self.fixed(y) is not None:
            name = f"{y.name}/known"
            made = ir.val(name, const_value=ir.tensor(value, name=name))
            self._model.graph.register_initializer(made)
            y.replace_all_uses_with(made)
            self.seed(made)
            self.changed = True


def with_batch(dims: Dims, count: int) -> ir.Shape:
    """A shape that has the batch marked, for so many images; None where it is not known."""
    sizes = (d // MARK * count if d % MARK == 0 else None if follows(d) else d for d in dims)
    return ir.Shape([n or None for n in sizes])


def follows(lengths: Any) -> Any:
    """Which numbers are made of the batch: it times a number, near that, or near a part of it."""
    given = np.asarray(lengths)
    if given.dtype.kind not in "iuf":
        return np.zeros(given.shape, bool)
    n = np.nan_to_num(np.minimum(np.abs(given.astype(np.float64)), 2.0**50))
    off = [(n * part % MARK, n * part > MARK // 2) for part in (1, 2, 3, 4)]
    near: Any = np.any([large & (np.minimum(r, MARK - r) <= 1000) for r, large in off], axis=0)
    return near


def _type(dtype: int, dims: Sequence[int]) -> onnx.TypeProto:
    return onnx.helper.make_tensor_type_proto(dtype, dims)


__all__ = [
    "ALWAYS",
    "MARK",
    "MENDS",
    "SHAPED_AS_INPUT",
    "Dims",
    "Walk",
    "follows",
    "mends",
    "with_batch",
]
