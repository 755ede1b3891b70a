"""The table of rule cases: for every operator with a rule, models that exercise it.

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
    exact: bool = True  # the reference evaluator implements it

    @property
    def name(self) -> str:
        attributes = "-".join(f"{k}{v}" for k, v in self.attributes.items())
        constants = "-".join(str(np.shape(c)) for c in self.constants)
        text = f"{self.op}-{self.opset}-{self.shape}-{self.second}-{attributes}-{constants}"
        text += f"-{self.position}-{self.sampler.__name__}"
        return text.replace(" ", "").replace("None", "")

    def model(self, dtype: type = np.float64) -> onnx.ModelProto:
        """The model, its float constants and input x (and y, if there is a second) of a type."""
        rng = np.random.default_rng(7)
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        inputs, initializers, names = [], [], []
        for i, constant in enumerate(self.constants):
            if constant is None:
                names.append("")
                continue
            array = np.asarray(constant)
            if isinstance(constant, Draw):
                array = constant.sampler(rng, constant.shape)
            if array.dtype.kind == "f":
                array = array.astype(dtype)
            names.append(f"c{i}")
            initializers.append(numpy_helper.from_array(array, f"c{i}"))
        names.insert(self.position, "x")
        inputs.append(helper.make_tensor_value_info("x", kind, self.shape))
        if self.second is not None:
            names.insert(self.position + 1, "y")
            inputs.append(helper.make_tensor_value_info("y", kind, self.second))
        outs = [f"o{i}" for i in range(self.outputs)]
        node = helper.make_node(self.op, names, outs, name="case", **self.attributes)
        target = helper.make_tensor_value_info(outs[self.use or 0], kind, None)
        graph = helper.make_graph([node], "case", inputs, [target], initializers)
        opset = helper.make_opsetid("", self.opset)
        return helper.make_model(graph, opset_imports=[opset], ir_version=8)

    def feed(self, dtype: type = np.float64) -> dict[str, Array]:
        rng = np.random.default_rng(3)
        values = {"x": self.sampler(rng, self.shape).astype(dtype)}
        if self.second is not None:
            values["y"] = self.sampler(rng, self.second).astype(dtype)
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
IMAGE = (2, 3, 7, 6)

CASES = [
    # elementwise
    *(case(op, (2, 3, 4)) for op in ("Identity", "Neg", "Exp", "Sin", "Cos", "Sigmoid")),
    *(case(op, (2, 3, 4)) for op in ("Tanh", "Softplus")),
    case("Gelu", (2, 3, 4), exact=False),
    case("Erf", (2, 3, 4), exact=False),
    *(case(op, (2, 3, 4), sampler=positive) for op in ("Log", "Sqrt")),
    *(case(op, (2, 3, 4), sampler=away(0)) for op in ("Relu", "LeakyRelu", "Elu", "Selu", "Celu")),
    *(case(op, (2, 3, 4), sampler=away(0)) for op in ("Abs", "Reciprocal", "Softsign")),
    case("LeakyRelu", (2, 3), sampler=away(0), alpha=0.2),
    case("Elu", (2, 3), sampler=away(0), alpha=0.7),
    case("Celu", (2, 3), sampler=away(0), alpha=0.7),
    case("Selu", (2, 3), sampler=away(0), alpha=1.5, gamma=0.5),
    case("ThresholdedRelu", (2, 9), sampler=away(0.5), alpha=0.5),
    case("HardSigmoid", (2, 9), sampler=away(-2.5, 2.5)),
    case("HardSigmoid", (2, 9), sampler=away(-3, 3), alpha=1 / 6, beta=0.5),
    case("HardSwish", (4, 9), sampler=away(-3, 3)),
    case("Gelu", (2, 3, 4), approximate="tanh"),
    case("PRelu", IMAGE, Draw((3, 1, 1)), sampler=away(0)),
    case("PRelu", (4, 5), I([0.3]), sampler=away(0)),
    case("Clip", (5, 7), I(-1.0), I(1.5), sampler=away(-1, 1.5)),
    case("Clip", (5, 7), I(0.0), I(2.0), sampler=away(0, 2)),
    case("Clip", (5, 7), None, I(1.5), sampler=away(1.5)),
    case("Clip", (5, 7), I(0.0), sampler=away(0)),
    case("Clip", (5, 7), min=-1.0, max=1.5, opset=7, sampler=away(-1, 1.5)),
    case("Clip", (5, 7), min=0.0, max=6.0, opset=10, sampler=away(0, 6)),
    case("Dropout", (3, 4), opset=7, ratio=0.4),
    case("Dropout", (3, 4), I(0.4), opset=13),
    case("Cast", (3, 4), to=TensorProto.DOUBLE),
    # arithmetic with broadcasting
    *(case(op, (2, 3, 4), second=(2, 3, 4), sampler=positive) for op in ("Add", "Sub", "Mul", "Div")),
    *(case(op, (2, 3, 4), second=(3, 1), sampler=positive) for op in ("Add", "Sub", "Mul", "Div")),
    *(case(op, (4,), second=(2, 1, 4), sampler=positive) for op in ("Add", "Sub", "Mul", "Div")),
    *(case(op, (1, 3, 1), second=(2, 3, 4), sampler=distinct) for op in ("Max", "Min")),
    *(case(op, (2, 3), Draw((2, 1)), Draw((3,))) for op in ("Sum", "Mean", "Max", "Min")),
    case("Max", (2, 3)),
    case("Add", (3, 1), I(2.0), opset=7),
    case("Pow", (2, 3, 4), second=(3, 1), sampler=positive),
    case("Pow", (2, 3), I(3)),
    case("Pow", (2, 3), I([0.0, 1.0, 2.0])),
    case("Pow", (2, 3), I(2.0), position=1),
    case("Where", (3, 1), I([[True, False, True, False]]), second=(3, 4), position=1),
    # convolutions
    case("Conv", IMAGE, Draw((4, 3, 3, 3)), Draw((4,))),
    case("Conv", IMAGE, Draw((4, 3, 3, 3)), pads=[1, 1, 1, 1]),
    case("Conv", IMAGE, Draw((4, 3, 3, 2)), pads=[0, 1, 2, 0]),
    case("Conv", IMAGE, Draw((4, 3, 1, 1))),
    case("Conv", IMAGE, Draw((4, 3, 1, 1)), pads=[1, 1, 1, 1]),
    case("Conv", IMAGE, Draw((4, 3, 1, 1)), strides=[2, 2]),
    case("Conv", IMAGE, Draw((4, 3, 3, 3)), strides=[2, 2], pads=[1, 1, 1, 1]),
    case("Conv", IMAGE, Draw((4, 3, 2, 3)), strides=[3, 2], pads=[1, 0, 0, 2]),
    case("Conv", IMAGE, Draw((4, 3, 2, 2)), dilations=[2, 3], pads=[1, 1, 1, 1]),
    case("Conv", (2, 3, 9, 9), Draw((4, 3, 2, 3)), dilations=[2, 2], strides=[2, 3], pads=[1, 1, 0, 2]),
    case("Conv", (2, 4, 6, 5), Draw((6, 2, 3, 3)), group=2, pads=[1, 1, 1, 1]),
    case("Conv", (2, 4, 6, 5), Draw((6, 2, 3, 3)), group=2, strides=[2, 1]),
    case("Conv", (2, 4, 6, 5), Draw((4, 1, 3, 3)), group=4, pads=[1, 1, 1, 1]),
    case("Conv", (2, 4, 6, 5), Draw((8, 1, 3, 3)), group=4, pads=[1, 1, 1, 1]),
    case("Conv", (2, 4, 7, 5), Draw((4, 1, 5, 5)), group=4, pads=[2, 2, 2, 2], strides=[2, 2]),
    *(
        case("Conv", (1, 2, 8, 7), Draw((3, 2, 3, 2)), auto_pad=how, strides=[2, s])
        for how in ("SAME_UPPER", "SAME_LOWER", "VALID")
        for s in (1, 2)
    ),
    case("Conv", (2, 3, 9), Draw((4, 3, 3)), strides=[2], pads=[1, 1]),
    case("Conv", (2, 3, 9), Draw((4, 3, 3)), pads=[2, 0]),
    case("Conv", (1, 2, 5, 4, 6), Draw((3, 2, 3, 2, 3)), pads=[1, 0, 1, 1, 1, 1]),
    case("Conv", (1, 2, 5, 4, 6), Draw((3, 2, 3, 2, 3)), strides=[2, 1, 2], pads=[1, 0, 1, 1, 1, 1]),
    case("Conv", IMAGE, Draw((4, 3, 3, 3)), opset=7, pads=[1, 1, 1, 1]),
    case("ConvTranspose", IMAGE, Draw((3, 4, 3, 3)), Draw((4,))),
    case("ConvTranspose", IMAGE, Draw((3, 4, 3, 3)), strides=[2, 2], pads=[1, 1, 1, 1]),
    case("ConvTranspose", IMAGE, Draw((3, 4, 3, 3)), strides=[2, 2], output_padding=[1, 1]),
    case("ConvTranspose", IMAGE, Draw((3, 4, 2, 2)), strides=[2, 3], pads=[0, 1, 1, 0]),
    case("ConvTranspose", (2, 4, 5, 4), Draw((4, 3, 3, 3)), group=2, strides=[2, 1], exact=False),
    case("ConvTranspose", (2, 4, 5, 4), Draw((4, 1, 3, 3)), group=4, dilations=[2, 2]),
    case("ConvTranspose", (1, 2, 6), Draw((2, 3, 3)), strides=[2], pads=[1, 1], output_padding=[1]),
    # matrix products
    case("Gemm", (3, 4), Draw((4, 5)), Draw((5,))),
    case("Gemm", (3, 4), Draw((5, 4)), Draw((1, 5)), transB=1, alpha=0.5, beta=2.0),
    case("Gemm", (4, 3), Draw((4, 5)), transA=1, alpha=0.5),
    case("Gemm", (4, 3), Draw((5, 4)), transA=1, transB=1),
    case("Gemm", (3, 4), second=(4, 5)),
    case("Gemm", (4, 3), second=(5, 4), transA=1, transB=1, alpha=2.0),
    case("Gemm", (3, 1), Draw((3, 4)), Draw((4, 5)), position=2, beta=0.5),
    case("MatMul", (3, 4), Draw((4, 5))),
    case("MatMul", (2, 3, 4), Draw((4, 5))),
    case("MatMul", (2, 1, 3, 4), second=(5, 4, 2)),
    case("MatMul", (3, 1), second=(2, 1, 4)),
    case("MatMul", (4,), second=(4, 3)),
    case("MatMul", (2, 3, 4), second=(4,)),
    case("MatMul", (4,), second=(4,)),
    case("MatMul", (4,), second=(2, 4, 3)),
    # pooling
    case("MaxPool", IMAGE, kernel_shape=[2, 2], sampler=distinct),
    case("MaxPool", IMAGE, kernel_shape=[2, 2], strides=[2, 2], sampler=distinct),
    case("MaxPool", IMAGE, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], sampler=distinct),
    case("MaxPool", IMAGE, kernel_shape=[3, 2], strides=[1, 3], pads=[1, 0, 0, 1], sampler=distinct),
    case("MaxPool", IMAGE, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, sampler=distinct),
    case("MaxPool", (1, 2, 8, 8), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, sampler=distinct),
    case("MaxPool", (1, 2, 9, 8), kernel_shape=[2, 2], dilations=[2, 3], sampler=distinct),
    case("MaxPool", (1, 2, 8, 7), kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER", sampler=distinct),
    case("MaxPool", (1, 2, 8, 7), kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_LOWER", sampler=distinct, exact=False),
    case("MaxPool", (2, 3, 9), kernel_shape=[3], strides=[2], sampler=distinct),
    case("MaxPool", (1, 2, 5, 4, 6), kernel_shape=[2, 2, 3], strides=[2, 2, 2], sampler=distinct),
    case("MaxPool", IMAGE, kernel_shape=[2, 2], opset=7, sampler=distinct),
    case("AveragePool", IMAGE, kernel_shape=[2, 2]),
    case("AveragePool", IMAGE, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    case("AveragePool", IMAGE, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1),
    case("AveragePool", IMAGE, kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1),
    case("AveragePool", (1, 2, 8, 8), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, pads=[1, 1, 1, 1]),
    case("AveragePool", (1, 2, 8, 8), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, pads=[1, 1, 1, 1], count_include_pad=1, exact=False),
    case("AveragePool", (1, 2, 8, 7), kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"),
    case("AveragePool", (2, 3, 9), kernel_shape=[3], strides=[2]),
    case("AveragePool", (1, 2, 5, 4, 6), kernel_shape=[2, 2, 3]),
    case("AveragePool", IMAGE, kernel_shape=[3, 3], pads=[1, 1, 1, 1], opset=7),
    case("GlobalAveragePool", IMAGE),
    case("GlobalAveragePool", (2, 3, 5)),
    case("GlobalMaxPool", IMAGE, sampler=distinct),
    case("GlobalMaxPool", (2, 3, 2, 2, 3), sampler=distinct, exact=False),
    # normalisation
    case("BatchNormalization", IMAGE, *[Draw((3,))] * 3, Draw((3,), positive)),
    case("BatchNormalization", (4, 3), *[Draw((3,))] * 3, Draw((3,), positive), epsilon=0.1),
    case("BatchNormalization", IMAGE, *[Draw((3,))] * 3, Draw((3,), positive), opset=14),
    case("LRN", (2, 7, 3, 4), size=5, alpha=0.3, beta=0.75, bias=2.0, exact=False),
    case("LRN", (2, 7, 3, 4), size=3, alpha=0.5, exact=False),
    *(case(op, (2, 3, 4), axis=axis) for op in ("Softmax", "LogSoftmax") for axis in (-1, 1, 0)),
    *(case(op, (2, 3, 4), opset=11, axis=1, exact=False) for op in ("Softmax", "LogSoftmax")),
    # shape
    case("Flatten", (2, 3, 4)),
    case("Flatten", (2, 3, 4), axis=2),
    case("Reshape", (2, 3, 4), I([0, -1])),
    case("Reshape", (2, 3, 4), I([4, 3, 2])),
    case("Transpose", (2, 3, 4)),
    case("Transpose", (2, 3, 4, 5), perm=[2, 0, 3, 1]),
    case("Squeeze", (1, 3, 1, 2), I([0, 2])),
    case("Squeeze", (1, 3, 1, 2)),
    case("Squeeze", (1, 3, 1, 2), axes=[2], opset=11),
    case("Unsqueeze", (2, 3), I([0, -1])),
    case("Unsqueeze", (2, 3), axes=[1], opset=11),
    case("Concat", (2, 3), second=(2, 5), axis=1),
    case("Concat", (2, 3, 2), second=(4, 3, 2), axis=-3),
    case("Concat", (2, 3), axis=0),
    case("Split", (2, 6), I([2, 4]), outputs=2, use=1, axis=1),
    case("Split", (6, 2), outputs=3, num_outputs=3, use=0),
    case("Split", (2, 6), outputs=2, split=[1, 5], axis=-1, opset=11, use=0),
    case("Slice", (4, 6), I([1, 2]), I([3, 100])),
    case("Slice", (4, 6), I([-3]), I([-1]), I([1])),
    case("Slice", (4, 7), I([1]), I([7]), I([-1]), I([2])),
    case("Slice", (4, 7), I([-1]), I([-(2**62)]), I([1]), I([-1])),
    case("Slice", (5, 4), I([4]), I([0]), I([0]), I([-2])),
    case("Slice", (4, 6), starts=[1], ends=[-1], axes=[1], opset=7),
    case("Gather", (4, 3), I([2, 0, 2])),
    case("Gather", (4, 3), I(1)),
    case("Gather", (2, 4, 3), I([[0, -1], [1, 1]]), axis=1),
    case("Gather", (2, 3, 3), I([2, 0, 1]), axis=2),
    case("Gather", (2, 3, 3), I([2, 0, 0]), axis=-1),
    case("Expand", (3, 1), I([2, 3, 4])),
    case("Expand", (2, 3), I([1])),
    case("Pad", (2, 3), I([1, 0, 2, 3])),
    case("Pad", (4, 5), I([1, -1, -2, 3]), I(0.5), exact=False),
    *(case("Pad", (4, 5), I([1, 2, 3, 0]), mode=mode) for mode in ("edge", "reflect", "wrap")),
    case("Pad", (2, 3, 4), I([1, 2]), None, I([-1]), mode="edge"),
    case("Pad", (2, 3), pads=[1, 0, 2, 3], opset=7),
    # reductions
    *(case(op, (2, 3, 4), I([0, 2]), keepdims=k) for op in ("ReduceSum", "ReduceMean") for k in (0, 1)),
    *(case(op, (2, 3, 4), keepdims=0) for op in ("ReduceSum", "ReduceMean")),
    *(case(op, (2, 3, 4), axes=[-1], keepdims=0, opset=11) for op in ("ReduceSum", "ReduceMean")),
    case("ReduceSum", (2, 3), noop_with_empty_axes=1),
    *(case(op, (2, 3, 4), I([1]), keepdims=k, sampler=distinct) for op in ("ReduceMax", "ReduceMin") for k in (0, 1)),
    case("ReduceL2", (2, 3, 4), I([1])),
    case("ReduceL2", (2, 3, 4), I([0, 2]), keepdims=0),
]  # fmt: skip
