"""The engines that run an original model for the oracle: onnx's evaluator and ONNX Runtime."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from backlit.export.verify.pools import MaxPool
from backlit.export.verify.reference import OWN
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from benchmarks.oracle.cases import Array, Case, frozen, is_float, retyped

Run = Callable[[dict[str, Array]], dict[str, Array]]


@dataclasses.dataclass(frozen=True)
class Reference:
    """An engine that runs the original model and reproduces the outputs stored for it."""

    name: str
    run: Run
    step: float
    smooth: float  # how far one-sided differences may be apart
    tolerance: float


def usable(case: Case) -> Iterator[Reference]:
    """The engines that can differentiate the original, best first."""
    step = {"step": 1e-6, "smooth": 1e-4, "tolerance": 1e-6}
    coarse = {"step": 1e-2, "smooth": 0.1, "tolerance": 1e-2}
    double, single = TensorProto.DOUBLE, TensorProto.FLOAT
    ways: list[tuple[str, Callable[..., Run], int, dict[str, float]]] = [
        ("onnx's evaluator, float64", evaluator, double, step),
        ("ONNX Runtime, float64", runtime, double, step),
        ("ONNX Runtime, float32", runtime, single, coarse),
    ]
    for name, make, kind, accuracy in ways:
        try:
            run = make(retyped(case.model, kind))
            found = run({k: wide(v) for k, v in case.inputs.items()})
        except Exception:  # whatever an engine raises, it cannot run the case
            continue
        if all(agrees(found[k], case.outputs[k]) for k in case.floats(case.outputs)):
            yield Reference(name, run, **accuracy)


def agrees(found: Any, stored: Array) -> bool:
    """Whether an engine's output is the stored one, as precisely as that is stored."""
    loose = stored.dtype.itemsize < 4
    limits = {"rtol": 2e-2, "atol": 1e-2} if loose else {"rtol": 1e-3, "atol": 1e-5}
    same = isinstance(found, np.ndarray | np.generic) and np.shape(found) == stored.shape
    return same and np.allclose(wide(found), wide(stored), equal_nan=True, **limits)


def close(found: Any, expected: Array, tolerance: float) -> bool:
    """Whether a forward result is the expected one, as precisely as gradients are asked to be."""
    if np.shape(found) != expected.shape:
        return False
    size = max(float(np.abs(expected).max()), 1e-3)
    return bool(np.abs(wide(found) - expected).max() <= 10 * tolerance * size)


def evaluator(model: onnx.ModelProto) -> Run:
    """Run a model in onnx's reference evaluator, with what verification mends of it."""
    names = [v.name for v in model.graph.output]
    engine = ReferenceEvaluator(model, new_ops=[*OWN, MaxPool])

    def run(feed: dict[str, Array]) -> dict[str, Array]:
        with np.errstate(all="ignore"):
            return dict(zip(names, engine.run(None, feed), strict=True))

    return run


def runtime(model: onnx.ModelProto) -> Run:
    """Run a model in ONNX Runtime's CPU provider, feeds cast to its input types."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    lowered = frozen(model, {})
    session = ort.InferenceSession(
        lowered.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    types = {v.name: v.type.tensor_type.elem_type for v in model.graph.input}
    names = [v.name for v in session.get_outputs()]

    def run(feed: dict[str, Array]) -> dict[str, Array]:
        cast = {k: v.astype(helper.tensor_dtype_to_np_dtype(types[k])) for k, v in feed.items()}
        return dict(zip(names, session.run(names, cast), strict=True))

    return run


def wide(value: Any) -> Array:
    """Floats as float64, everything else as it is."""
    array = np.asarray(value)
    return array.astype(np.float64) if is_float(array) else array
