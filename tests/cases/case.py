"""What a rule case is.

A case is a one-operator (or small) model, the input to differentiate by and how to draw it.
Samplers stay away from kinks; ties are tested apart, against torch (test_ties.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]
Sampler = Callable[[np.random.Generator, tuple[int, ...]], Array]


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.standard_normal(shape)


def positive(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.uniform(0.3, 2.0, shape)


def between(low: float, high: float) -> Sampler:
    return lambda rng, shape: rng.uniform(low, high, shape)


def among(*values: float) -> Sampler:
    return lambda rng, shape: rng.choice(values, shape)


def away(*kinks: float) -> Sampler:
    """Normal numbers, those near a kink pushed off it."""

    def sample(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        x = 2 * rng.standard_normal(shape)
        for kink in kinks:
            near = np.abs(x - kink) < 0.1
            x = np.where(near, kink + np.copysign(0.15, x - kink), x)
        return x

    return sample


def distinct(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """No two numbers closer than 0.1: no ties, and small steps do not reorder them."""
    return rng.permutation(np.prod(shape, dtype=int)).reshape(shape) * 0.1 - 1.0


def below_zero(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """As distinct, in each channel 0 and below: a 0 that pads a map equals the largest number."""
    rows = [rng.permutation(np.prod(shape[2:], dtype=int)) for _ in range(shape[0] * shape[1])]
    return -0.1 * np.reshape(rows, shape)


def tiny(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """So small that the epsilon of a normalisation counts."""
    return 3e-3 * rng.standard_normal(shape)


@dataclasses.dataclass(frozen=True)
class Case:
    """``op(inputs) -> first output``, differentiated by each input named in ``wrt``."""

    op: str
    shape: tuple[int, ...]
    constants: Sequence[Any] = ()
    attributes: dict[str, Any] = dataclasses.field(default_factory=dict)
    sampler: Sampler = normal
    opset: int = 20
    position: int = 0
    outputs: int = 1
    second: tuple[int, ...] | None = None
    use: int | None = None  # which output is the target; None: the first
    live: bool = False  # integer constants are inputs of the model, known at run time only
    exact: bool = True  # the reference evaluator implements it
    step: float = 1e-2  # of float32 central differences, where it does not

    @property
    def name(self) -> str:
        attributes = "-".join(f"{k}{v}" for k, v in self.attributes.items())
        constants = "-".join(str(np.shape(c)) for c in self.constants)
        text = f"{self.op}-{self.opset}-{self.shape}-{self.second}-{attributes}-{constants}{'-live' * self.live}"
        text += f"-{self.position}-{self.sampler.__name__}"
        return text.replace(" ", "").replace("None", "")

    def model(self, dtype: type = np.float64, batch: str | None = None) -> onnx.ModelProto:
        """The model, its float constants and input x (and y, if there is a second) of a type.

        Args:
            dtype: numpy float type.
            batch: a name for the first axis of x (and of y, if as long), then of any length.
        """
        rng = np.random.default_rng(7)
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        inputs, initializers, names = [], [], []

        def info(name: str, shape: tuple[int, ...], of: int = kind) -> onnx.ValueInfoProto:
            free: list[str | int] = [*shape]
            if batch is not None and self.in_batch(shape):
                free[0] = batch
            return helper.make_tensor_value_info(name, of, free)

        for i, constant in enumerate(self.constants):
            if constant is None:
                names.append("")
                continue
            array = np.asarray(constant)
            if isinstance(constant, Draw):
                array = constant.sampler(rng, constant.shape)
            if array.dtype == np.float64:
                array = array.astype(dtype)
            names.append(f"c{i}")
            if self.live and array.dtype.kind == "i":
                inputs.append(info(f"c{i}", array.shape, TensorProto.INT64))
                continue
            initializers.append(numpy_helper.from_array(array, f"c{i}"))
        names.insert(self.position, "x")
        inputs.append(info("x", self.shape))
        if self.second is not None:
            names.insert(self.position + 1, "y")
            inputs.append(info("y", self.second))
        outs = [f"o{i}" for i in range(self.outputs)]
        node = helper.make_node(self.op, names, outs, name="case", **self.attributes)
        target = helper.make_tensor_value_info(outs[self.use or 0], kind, None)
        graph = helper.make_graph([node], "case", inputs, [target], initializers)
        opset = helper.make_opsetid("", self.opset)
        return helper.make_model(graph, opset_imports=[opset], ir_version=8)

    def in_batch(self, shape: tuple[int, ...]) -> bool:
        """Whether an input of that shape has x's first axis."""
        return len(shape) == len(self.shape) and shape[:1] == self.shape[:1]

    def feed(self, dtype: type = np.float64) -> dict[str, Array]:
        rng = np.random.default_rng(3)
        values: dict[str, Array] = {"x": self.sampler(rng, self.shape).astype(dtype)}
        if self.second is not None:
            values["y"] = self.sampler(rng, self.second).astype(dtype)
        if self.live:
            arrays = {f"c{i}": np.asarray(c) for i, c in enumerate(self.constants)}
            values |= {name: array for name, array in arrays.items() if array.dtype.kind == "i"}
        return values


@dataclasses.dataclass(frozen=True)
class Draw:
    """A random float constant."""

    shape: tuple[int, ...]
    sampler: Sampler = normal


def case(op: str, shape: Sequence[int], *constants: Any, **kwargs: Any) -> Case:
    fields = {f.name for f in dataclasses.fields(Case)}
    own = {k: kwargs.pop(k) for k in list(kwargs) if k in fields}
    return Case(op, tuple(shape), constants, kwargs, **own)


I = np.array  # noqa: E741


def F(values: Any) -> Array:
    """A constant that stays float32 (Resize's scales)."""
    return np.array(values, np.float32)


IMAGE = (2, 3, 7, 6)
