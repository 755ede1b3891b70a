"""What a rule sees: operators to emit, and facts about the forward graph.

Gradients carry one leading axis K, the classes explained: the gradient of a tensor of shape S has
shape [K, *S]. Forward tensors have no such axis, and because ONNX broadcasts from the right,
``g * mask`` serves all K classes at once. Rules therefore count axes from the end. Operators with
a batch axis of their own (Conv, pooling) take ``op.fold(g)``: [K, N, ...] -> [K*N, ...].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import onnx_ir as ir

from ...runtime.contract import Relu
from .rewrites import PORTABLE
from .values import QUANTISED, Operand, Shape, shape_of, static

if TYPE_CHECKING:
    from ..rules.relu import Rectifier


class Ops:
    """Emits operators at the end of a graph: ``op.Mul(a, b)``, ``op.Slice(g, starts, ends)``.

    Numbers and float arrays become constants of ``dtype``, lists of integers int64 constants; equal
    constants are stored once. Values also add, subtract, multiply and divide (``g * (1 - y)``)
    while the engine runs.

    Attributes:
        lead: int64 [1] tensor holding K.
        on: names of the rewrites (rewrites.py) that rules may use.
        dtype: float type of the constants; the engine sets it to the node's.
        rectified: gradients that are zero already wherever their tensor is not positive.
        relu: the backward rule of rectifiers (relu.py), and ``rectifiers``: those met.
    """

    def __init__(
        self,
        graph: ir.Graph,
        lead: ir.Value | int,
        prefix: str = "backward",
        on: Collection[str] = PORTABLE,
    ) -> None:
        self.graph = graph
        self.on = on
        self.dtype = ir.DataType.FLOAT
        self.prefix = prefix
        self._count = 0
        self._constants: dict[object, ir.Value] = {}
        self._folded: dict[ir.Value, ir.Value] = {}
        self._small: dict[ir.Value, ir.Value] = {}  # before they were expanded
        self.rectified: set[ir.Value] = set()
        self.relu: Relu = "gradient"
        self.rectifiers: list[Rectifier] = []
        self.lead = self.const([lead]) if isinstance(lead, int) else lead

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

    def begin(self, seed: ir.Value, target: ir.Value) -> ir.Value:
        """The upstream gradient [K, *target's shape] as the engine starts with it."""
        return seed

    # -- the leading axis -------------------------------------------------------------------------

    def shape(self, like: ir.Value) -> ir.Value:
        """The shape [K, *like's] as Reshape takes it: int64, -1 for one unknown length."""
        dims = [-1 if d is None else d for d in shape_of(like)]
        if dims.count(-1) > 1:
            return self.Concat(self.lead, self.Shape(like), axis=0)
        return self.Concat(self.lead, dims, axis=0) if dims else self.lead

    def reshape(self, g: ir.Value, like: ir.Value) -> ir.Value:
        """Give ``g`` ([K, ...]) the shape [K, *like's]."""
        dims = [-1 if d is None else d for d in shape_of(like)]
        target = [0, *dims] if dims.count(-1) <= 1 else self.shape(like)  # 0 keeps K
        return self.Reshape(g, target)

    def fold(self, g: ir.Value, like: ir.Value) -> ir.Value:
        """[K, N, ...] -> [K*N, ...], ``like`` being the forward tensor ([N, ...])."""
        if g not in self._folded:
            self._folded[g] = self.Reshape(g, [-1, *static(like, 1)])
        return self._folded[g]

    def unfold(self, v: ir.Value, like: ir.Value) -> ir.Value:
        """[K*N, ...] -> [K, N, ...], ``like`` being the forward tensor ([N, ...])."""
        target = self.Concat(self.lead, [-1, *static(like, 1)], axis=0)
        g = self.Reshape(v, target)
        self._folded[g] = v
        return g

    def expand(self, g: ir.Value, like: ir.Value, axes: Sequence[int]) -> ir.Value:
        """Repeat ``g`` along the given axes (of ``like``, not negative) to the length they have."""
        dims = [d if i in axes else 1 for i, d in enumerate(shape_of(like))]
        if None in dims:  # the operator reduced the batch itself
            return self.Expand(g, self.Shape(like))
        whole: ir.Value = self.Expand(g, cast("list[int]", dims))
        self._small[whole] = g
        return whole

    def total(self, parts: Sequence[ir.Value]) -> ir.Value:
        """The sum of gradients of one tensor; what was expanded is so by the addition."""
        if len(parts) == 1:
            return parts[0]
        small = [self._small.get(g, g) for g in parts]
        if all(g in self._small for g in parts):
            small[0] = parts[0]
        total: ir.Value = self.Add(*small) if len(small) == 2 else self.Sum(*small)
        return total

    def sum_to(self, g: ir.Value, have: Shape, want: Shape) -> ir.Value:
        """Undo broadcasting: sum ``g`` ([K, *have]) where ``want`` lacks an axis or has 1."""
        extra = len(have) - len(want)
        axes = [i for i in range(len(have)) if i < extra or (want[i - extra] == 1 != have[i])]
        if axes:
            g = self.ReduceSum(g, [i + 1 for i in axes], keepdims=1)
        return self.Squeeze(g, [i + 1 for i in range(extra)]) if extra else g

    def full(self, value: float, like: ir.Value) -> ir.Value:
        """A gradient of shape [K, *like's], the same number everywhere."""
        return self.Expand(value, self.Concat(self.lead, self.Shape(like), axis=0))

    def scatter(
        self, g: ir.Value, indices: Sequence[int], n: int, axis: int, rank: int
    ) -> ir.Value:
        """The adjoint of taking constant ``indices`` along an axis: add each slice back.

        Scatter with addition is what TensorRT refuses. So each place gathers the slices that were
        taken from it, a slice of zeros filling up where others have more; where one place was taken
        far more often than the rest, a product with a 0/1 matrix is slimmer.

        Args:
            g: gradient with ``len(indices)`` slices along that axis.
            indices: none negative; may repeat.
            n: length of the axis that was indexed.
            axis: of the forward tensor, not negative.
            rank: of the forward tensor.
        """
        m, back, first = len(indices), axis - rank, indices[0] if len(indices) else 0
        if list(indices) == list(range(first, first + m)):
            return self.pad(g, rank + 1, {back: (first, n - first - m)})
        most = int(np.bincount(indices).max())
        if n * most > 4 * (n + m):
            matrix = np.zeros((m, n))
            matrix[range(m), list(indices)] = 1
            return self.along(g, matrix, axis, rank)
        table = np.full((n, most), m)
        filled = [0] * n
        for source, place in enumerate(indices):
            table[place, filled[place]] = source
            filled[place] += 1
        if table.max() == m:
            g = self.pad(g, rank + 1, {back: (0, 1)})
        if most == 1:
            return self.Gather(g, table[:, 0], axis=back)
        if back >= -2 and np.array_equal(table.ravel(), np.arange(m)):  # repeated, as by Resize
            split = self.Reshape(g, [*[0] * (rank + back + 1), n, most, *[-1] * (-1 - back)])
        else:
            split = self.Gather(g, table, axis=back)
        return self.ReduceSum(split, [back], keepdims=0)

    def pad(
        self, v: ir.Value, rank: int, ends: dict[int, tuple[int, int]], fill: Operand = 0.0
    ) -> ir.Value:
        """Lengthen axes, counted from the end, of a tensor of that rank.

        All axes are written out: ONNX Runtime's optimiser (1.31) takes a Transpose through a Pad
        that names its axes as if it named all of them, and the graph fails when it is run.
        """
        pads = [0] * 2 * rank
        for axis, (before, after) in ends.items():
            pads[axis % rank], pads[rank + axis % rank] = before, after
        return self.Pad(v, pads, fill) if any(pads) else v

    def along(self, g: ir.Value, matrix: np.ndarray[Any, Any], axis: int, rank: int) -> ir.Value:
        """Multiply the vectors along an axis of the forward tensor by a constant [m, n]."""
        back = axis - rank
        if back == -1:
            return self.MatMul(g, matrix)
        if back == -2:
            return self.MatMul(matrix.T, g)
        swap = list(range(rank + 1))
        swap[back], swap[-1] = swap[-1], swap[back]
        return self.Transpose(self.MatMul(self.Transpose(g, perm=swap), matrix), perm=swap)

    def add_at(self, g: ir.Value, index: ir.Value, n: int) -> ir.Value:
        """The adjoint of taking rows by computed indices: add each row back where it came from.

        Comparisons with a range and a matrix product instead of a Scatter with addition.

        Args:
            g: gradient [K, *B, m, r].
            index: integers [*B, m]; negative ones count from the end.
            n: the number of rows that could be taken.

        Returns:
            [K, *B, n, r].
        """
        wrapped = self.Mod(self.Cast(index, to=int(ir.DataType.INT64)), [n])
        rows = np.arange(n).reshape(n, 1)
        hits = self.Equal(self.Unsqueeze(wrapped, [-2]), rows)
        return self.MatMul(self.Cast(hits, to=int(self.dtype)), g)

    def own(self, w: ir.Value, g: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Weights, and a gradient to go through them as they are: both negated where w is square.

        OpenVINO 2025.4 brings weights into the layout of the node that it meets first; where rows
        and columns (channels in and out) are as many, it does not notice that the other node wants
        them the other way. Other numbers are other weights. (It sees through an identical copy.)
        """
        tensor = w.const_value
        if tensor is None or len(tensor.shape) < 2 or tensor.shape[0] != tensor.shape[1]:
            return w, g
        return self.Neg(w), self.Neg(g)

    def for_each_class(self, v: ir.Value) -> ir.Value:
        """A forward tensor repeated along the leading axis, for operators that do not broadcast."""
        return self.Expand(v, self.Concat(self.lead, self.Shape(v), axis=0))

    def as_float(self, v: ir.Value) -> ir.Value:
        """A quantised tensor's numbers as floats (floats are passed through)."""
        if v.dtype not in QUANTISED:
            return v
        number: ir.Value = self.Cast(v, to=int(self.dtype))
        number.dtype, number.shape = self.dtype, v.shape
        return number

    def gate(self, g: ir.Value, y: ir.Value, high: float | None = None) -> ir.Value:
        """g where 0 < y (and y < high), else 0; y rectifies."""
        g = self._small.get(g, g)  # expanded by the mask
        if "step-masks" in self.on:
            return g * (self.step(y) if high is None else self.inside(y, high))
        return self.Where(self._between(y, high), g, 0.0)

    def step(self, y: ir.Value) -> ir.Value:
        """1 where y > 0, else 0, as floats.

        HardSigmoid clamps 3e38 y - 1 to [0, 1]: an exact step for normal float32. (With beta = 0,
        which -1 stands for, OpenVINO 2025.4 takes beta's default, 0.5.)
        """
        if "step-masks" not in self.on:
            return self.Cast(self._between(y, None), to=int(self.dtype))
        return self.HardSigmoid(y, alpha=3e38, beta=-1.0)

    def inside(self, y: ir.Value, high: float) -> ir.Value:
        """1 where 0 < y < high, else 0, for a y that is clamped to [0, high].

        alpha is a power of two, so that -alpha y + alpha high is exactly 0 at high, and at the
        number below it still more than 1. (Min, or Greater and Where, cost several times that.)
        """
        if "step-masks" not in self.on:
            return self.Cast(self._between(y, high), to=int(self.dtype))
        alpha = 2.0 ** (126 - math.ceil(math.log2(high)))
        return self.step(y) * self.HardSigmoid(y, alpha=-alpha, beta=alpha * high)

    def _between(self, y: ir.Value, high: float | None) -> ir.Value:
        above = self.Greater(y, 0.0)
        return above if high is None else self.And(above, self.Less(y, high))
