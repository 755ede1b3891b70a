"""Bring a model to the form the rules assume, without changing what it computes.

Opset 20 or later, no local functions, constants as initializers, windows with explicit attributes,
inference-mode layers, a free batch dimension, and the shape of every tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import onnx
import onnx.inliner
import onnx.version_converter
import onnx_ir as ir
from onnx_ir.passes import common as passes
from onnxscript import optimizer

from ...runtime.errors import ModelError
from ..autodiff.backward import path, unknown, unsupported
from ..graph.sound import quiet
from ..graph.values import BATCH
from ..graph.weights import through
from . import batch, expansions
from .branches import decided
from .statistics import without_saved_statistics
from .walk import Walk
from .windows import explicit

Ends: TypeAlias = tuple[ir.Value, ir.Value]  # the tensor differentiated by, and the score

OPSET = 20
_RESIZE_10 = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


def upgraded(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model at opset 20 or later, local functions inlined.

    Raises:
        ModelError: an operator cannot be converted from its old opset.
    """
    if proto.functions:
        proto = _without_functions(proto)
    proto = expansions.set_apart(proto)
    version = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), OPSET)
    if version >= OPSET:
        return proto
    if proto.ir_version < 4:  # then the converter wants every initializer listed as an input
        newer = onnx.ModelProto()
        newer.CopyFrom(proto)
        newer.ir_version, proto = 8, newer
    if version < 14 and any(len(n.output) > 3 for n in _normalisations(proto)):
        proto = without_saved_statistics(proto)
    try:
        converted = onnx.version_converter.convert_version(proto, OPSET)
    except Exception as error:  # the C++ converter raises RuntimeError and types of its own
        raise ModelError(
            f"the model is of opset {version} and cannot be converted to {OPSET}: {error}",
            "export the classifier again with a newer opset.",
        ) from error
    for node in converted.graph.node if version < 11 else ():
        if node.op_type == "Resize":  # of Resize-10 and Upsample; the converter leaves them out
            given = {a.name for a in node.attribute}
            for name, value in _RESIZE_10.items():
                if name not in given:
                    node.attribute.append(onnx.helper.make_attribute(name, value))
    return converted


def _without_functions(proto: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return onnx.inliner.inline_local_functions(proto, convert_version=True)
    except Exception as error:  # the C++ inliner raises RuntimeError and types of its own
        said = str(error).rpartition(": ")[2]
        raise ModelError(
            f"the model's own functions cannot be written out as operators: {said}.",
            "export the classifier again without functions (torch.onnx.export writes none).",
        ) from error


def _normalisations(proto: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in proto.graph.node if node.op_type == "BatchNormalization"]


def modernise(model: ir.Model) -> ir.Model:
    """Upgrade, write QLinear operators as QDQ, make constants initializers and no inputs."""
    model = through(model, upgraded)
    passes.RemoveInitializersFromInputsPass()(model)
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    expansions.expand(model)
    return model


def free_batch(model: ir.Model, image: ir.Value) -> None:
    """Make the image's first dimension symbolic and forget all shapes derived from the old one."""
    old, *dims = image.shape  # type: ignore[misc]
    if isinstance(old, int):
        Walk(model, image, old).run()
        model.graph.sort()
    image.shape = ir.Shape([BATCH, *dims])
    for value in _values(model.graph):
        value.shape = None


def fold_constants(model: ir.Model) -> None:
    """Compute what depends on no input (axes, shapes, small weights); large weights stay as is."""
    with quiet():
        optimizer.fold_constants(model, onnx_shape_inference=True)
    passes.RemoveUnusedNodesPass()(model)


def share(model: ir.Model) -> None:
    """Compute once what several nodes compute."""
    passes.CommonSubexpressionEliminationPass()(model)


def infer_shapes(model: ir.Model, known: Mapping[ir.Value, list[int]] | None = None) -> None:
    """Set the shape of every tensor: numbers, or a symbol where it depends on a dynamic dimension.

    Inferred twice with different numbers put in for the symbols: what comes out different depends
    on them. Reshapes whose targets are computed from shapes come out exact this way, where
    inference with symbols gives up.

    Args:
        model: changed in place.
        known: shapes that ``batch.fold_shapes`` found where onnx's inference knows no way (the
            target of an Expand that torch computes with Where).
    """
    inputs = [v for v in model.graph.inputs if v.shape is not None]
    given = {v: v.shape for v in inputs}
    results = []
    for filler in (2, 3):
        for value in _values(model.graph):
            dims = (known or {}).get(value)
            value.shape = None if dims is None else batch.with_batch(dims, filler)
        for value, shape in given.items():
            value.shape = ir.Shape([d if isinstance(d, int) else filler for d in shape or ()])
        _infer(model)
        results.append({v: v.shape for v in _values(model.graph)})
    for value, second in results[1].items():
        first = results[0][value]
        if first is None or second is None or len(first) != len(second):
            value.shape = None
            continue
        pairs = zip(first, second, strict=True)
        value.shape = ir.Shape([a if a == b else None for a, b in pairs])
    for value, shape in given.items():
        value.shape = shape


def _infer(model: ir.Model) -> None:
    """onnx's shape inference, with the operators that it knows nothing of under another name."""
    hidden = {node: node.op_type for node in model.graph if node.op_type in batch.SHAPED_AS_INPUT}
    for node in hidden:
        node.op_type = "InstanceNormalization"
    try:
        passes.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
    finally:
        for node, op_type in hidden.items():
            node.op_type = op_type


def settle(model: ir.Model, locate: Callable[[ir.Model], Ends]) -> tuple[ir.Model, Ends]:
    """Fold, infer and expand until the rules' assumptions hold.

    Args:
        model: modernised; may be changed in place.
        locate: finds (wrt, target) in a model; called again after each expansion, which makes new
            values.

    Returns:
        The model, and (wrt, target) in it.

    Raises:
        UnsupportedOperatorError: lists all operators on the path without a rule.
    """
    while True:
        fold_constants(model)
        changed, known = batch.fold_shapes(model)
        if changed:
            fold_constants(model)
        infer_shapes(model, known)
        if expansions.unroll(model):
            expansions.expand(model)
            continue
        decided(model)
        wrt, target = locate(model)
        missing = unknown(path(model.graph, wrt, target))
        expanded = expand_functions(model, missing)
        if expanded is None:
            if missing:
                raise unsupported(missing)
            explicit(model)
            return model, (wrt, target)
        model = expanded


def expand_functions(model: ir.Model, missing: Sequence[ir.Node]) -> ir.Model | None:
    """Replace the operators of these nodes wherever they are defined as ONNX functions.

    Returns:
        The new model, in which values must be looked up again by name; None if nothing to expand.
    """
    version = model.opset_imports.get("", OPSET)
    found = []
    for domain, op_type in {(n.domain, n.op_type) for n in missing}:
        if domain not in ("", "ai.onnx") or not onnx.defs.has(op_type):
            continue
        schema: Any = onnx.defs.get_schema(op_type, version, domain)
        if schema.has_function or schema.has_context_dependent_function:
            found.append((domain, op_type))
    if not found:
        return None
    for node in model.graph:
        if (node.domain, node.op_type) in found:
            _spell_out_defaults(node, version)

    def inline(proto: onnx.ModelProto) -> onnx.ModelProto:
        try:
            return onnx.inliner.inline_selected_functions(
                proto, found, inline_schema_functions=True
            )
        except RuntimeError as error:  # one that leaves out an optional input before its last
            raise ModelError(
                f"{', '.join(sorted(name for _, name in found))} cannot be expanded into the "
                f"operators that ONNX defines it by: {error}",
                "export the classifier without that operator (an older opset).",
            ) from error

    return modernise(through(model, inline))


def _spell_out_defaults(node: ir.Node, version: int) -> None:
    """Write down the attributes left at their defaults, which onnx's inliner would lose."""
    schema = onnx.defs.get_schema(node.op_type, version, node.domain)
    for name, declared in schema.attributes.items():
        if name not in node.attributes and declared.default_value.type:
            node.attributes[name] = ir.serde.deserialize_attribute(declared.default_value)


def _values(graph: ir.Graph) -> Iterable[ir.Value]:
    """Every tensor a node makes."""
    return [y for node in graph for y in node.outputs]
