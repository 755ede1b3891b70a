"""The onnx package's own operator tests, as models with float inputs to differentiate by.

The generators behind onnx's backend test suite (``onnx.backend.test.case.node``) and the models it
stores beside them; nobody wrote these with gradients in mind, which is what makes them a test.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.version_converter
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]

FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
FOLDERS = ("pytorch-operator", "pytorch-converted", "simple")
# Float inputs that say what to compute rather than what to compute with: kept as stored, constant.
PARAMETERS = {
    "Clip": (1, 2), "Dropout": (1,), "Resize": (1, 2), "Upsample": (1,), "Range": (0, 1, 2),
    "QuantizeLinear": (1,), "DequantizeLinear": (1,), "RoiAlign": (1,), "MaxUnpool": (),
}  # fmt: skip
_TYPE_ATTRIBUTES = {"to", "dtype", "stash_type", "softmax_precision"}


@dataclasses.dataclass(frozen=True)
class Case:
    """One test model with the data stored for it.

    Attributes:
        operator: what the case is about; its row in the table.
        inputs, outputs: the stored arrays by name, absent ones left out.
        lists: it takes or returns sequences or optional values.
    """

    name: str
    operator: str
    model: onnx.ModelProto
    inputs: dict[str, Array]
    outputs: dict[str, Array]
    lists: bool

    def floats(self, values: dict[str, Array]) -> list[str]:
        """Names of those arrays that are of a float type and hold anything."""
        return [k for k, v in values.items() if is_float(v) and v.size]

    def parameters(self) -> set[str]:
        """Names of float inputs that are parameters of the operator."""
        found = set()
        for node in self.model.graph.node:
            names = [(i, x) for i, x in enumerate(node.input) if x]
            found |= {x for i, x in names if i in PARAMETERS.get(node.op_type, ())}
        return found


def is_float(value: Any) -> bool:
    names = ("float32", "float64", "float16", "bfloat16")  # float8 has too few values to move
    return isinstance(value, np.ndarray) and value.dtype.name in names


def collect() -> list[Case]:
    """Every case that the installed onnx package holds."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # overflows that its own cases intend
        np.random.seed(0)  # the generators draw from the global state
        made = collect_testcases(None)
    single = {
        c.name: c.model.graph.node[0].op_type for c in made if c.model and len(c.model.graph.node)
    }
    cases = []
    for test in made:
        model, stored = test.model, test.data_sets
        if model is None or not stored:
            raise ValueError(f"onnx's test {test.name} holds no model or no data")
        inputs, outputs = stored[0]
        base = re.sub(r"_expanded.*$", "", test.name)
        graph = model.graph
        cases.append(
            Case(
                test.name,
                single.get(base, single[test.name]),
                model,
                _arrays(graph.input, inputs),
                _arrays(graph.output, outputs),
                any(not v.type.HasField("tensor_type") for v in (*graph.input, *graph.output)),
            )
        )
    return [*cases, *_stored()]


def _arrays(declared: Any, values: Any) -> dict[str, Array]:
    """The values by name; some generators give tensors, as numpy lacks the type."""
    return {
        v.name: numpy_helper.to_array(value) if isinstance(value, TensorProto) else value
        for v, value in zip(declared, values, strict=False)
    }


def _lifted(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model of opset 6 at opset 7, the oldest that Backlit reads, where onnx can convert it.

    It cannot where PRelu's slope is one per channel: from opset 7 on that broadcasts otherwise.
    """
    slopes = {n.input[1] for n in model.graph.node if n.op_type == "PRelu"}
    many = any(np.prod(t.dims) > 1 for t in model.graph.initializer if t.name in slopes)
    if many or max(o.version for o in model.opset_import) >= 7:
        return model
    model.ir_version = max(model.ir_version, 4)  # else the converter wants weights as inputs
    try:
        return onnx.version_converter.convert_version(model, 7)
    except Exception:  # C++ exceptions of several types
        return model


def _stored() -> Iterator[Case]:
    root = Path(onnx.__file__).parent / "backend" / "test" / "data"
    for folder in FOLDERS:
        for path in sorted((root / folder).glob("*/model.onnx")):
            model = _lifted(onnx.load(path))
            weights = {t.name for t in model.graph.initializer}
            values: dict[str, dict[str, Array]] = {}
            taken = [v for v in model.graph.input if v.name not in weights]
            lists = False
            for kind, declared in (("input", taken), ("output", model.graph.output)):
                found = {}
                for i, value in enumerate(declared):
                    lists = lists or not value.type.HasField("tensor_type")
                    file = path.parent / "test_data_set_0" / f"{kind}_{i}.pb"
                    if file.is_file() and not lists:
                        tensor = TensorProto.FromString(file.read_bytes())
                        found[value.name] = numpy_helper.to_array(tensor)
                values[kind] = found
            nodes = [n.op_type for n in model.graph.node if n.op_type != "Constant"]
            operator = nodes[0] if len(nodes) == 1 else f"{folder} models"
            yield Case(path.parent.name, operator, model, values["input"], values["output"], lists)


def draws(case: Case, rng: np.random.Generator) -> Iterator[dict[str, Array]]:
    """Values to try for all inputs: random floats for general, bounded and larger domains; stored.

    Random values have no ties. Those that an operator's domain does not allow show as a result
    that is not finite, and the next are taken.
    """
    kept = case.parameters()
    free = [name for name in case.floats(case.inputs) if name not in kept]

    def fill(sample: Any) -> dict[str, Array]:
        return {
            k: np.asarray(sample(v.shape)).astype(v.dtype) if k in free else v
            for k, v in case.inputs.items()
        }

    for _ in range(2):
        yield fill(rng.standard_normal)
    for low, high in ((0.2, 0.9), (1.2, 2.5)):
        for _ in range(2):
            yield fill(lambda shape, low=low, high=high: rng.uniform(low, high, shape))
    for scale in (0.01, 0.0):  # near the stored values, and those themselves
        yield {
            k: (v + scale * rng.standard_normal(v.shape)).astype(v.dtype) if k in free else v
            for k, v in case.inputs.items()
        }


def frozen(model: onnx.ModelProto, values: dict[str, Array]) -> onnx.ModelProto:
    """The model with some inputs as constants."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    result.ir_version = 10  # the newest that all engines read; constants need not be inputs
    kept = [v for v in result.graph.input if v.name not in values]
    del result.graph.input[:]
    result.graph.input.extend(kept)
    for name, value in values.items():
        kind = next(v.type.tensor_type.elem_type for v in model.graph.input if v.name == name)
        tensor = numpy_helper.from_array(np.asarray(value), name)
        if tensor.data_type != kind:
            tensor = helper.make_tensor(name, kind, np.shape(value), np.asarray(value).ravel())
        result.graph.initializer.append(tensor)
    return result


def retyped(model: onnx.ModelProto, to: int) -> onnx.ModelProto:
    """The same model, all its float types replaced by one."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    result.ir_version = min(result.ir_version, 10)
    versions = {o.domain: o.version for o in model.opset_import}
    _retype_graph(result.graph, to, versions)
    return result


def _retype_graph(graph: onnx.GraphProto, to: int, versions: dict[str, int]) -> None:
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type in FLOATS:
            value.type.tensor_type.elem_type = to
    for tensor in graph.initializer:
        _retype_tensor(tensor, to)
    for node in graph.node:
        if onnx.defs.has(node.op_type, node.domain):
            version = versions.get(node.domain, onnx.defs.onnx_opset_version())
            with contextlib.suppress(onnx.defs.SchemaError):  # a default would stay float32
                schema = onnx.defs.get_schema(node.op_type, version, node.domain)
                given = {a.name for a in node.attribute}
                declared = schema.attributes.get("stash_type")
                if declared is not None and "stash_type" not in given:
                    node.attribute.append(declared.default_value)
        if node.op_type == "ConstantOfShape" and not node.attribute:
            zero = numpy_helper.from_array(np.zeros(1, helper.tensor_dtype_to_np_dtype(to)))
            node.attribute.append(helper.make_attribute("value", zero))
        for attribute in node.attribute:
            if (node.op_type, attribute.name) == ("LayerNormalization", "stash_type"):
                continue  # the engines take no other, and compute in the input's type
            if attribute.type == onnx.AttributeProto.TENSOR:
                _retype_tensor(attribute.t, to)
            elif attribute.type == onnx.AttributeProto.GRAPH:
                _retype_graph(attribute.g, to, versions)
            elif attribute.name in _TYPE_ATTRIBUTES and attribute.i in FLOATS:
                attribute.i = to


def _retype_tensor(tensor: TensorProto, to: int) -> None:
    if tensor.data_type in FLOATS:
        array = numpy_helper.to_array(tensor).astype(helper.tensor_dtype_to_np_dtype(to))
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
