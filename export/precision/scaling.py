"""How large the tensors of a graph are, and the power of two that its gradients are scaled by.

Measured on test images in the float32 graph itself: gradients of a trained classifier are some
1e-8 to 1e2, and float16 ends at 65504 and 6e-8.
"""

from __future__ import annotations

import math
from collections.abc import Set
from typing import TypeAlias

import numpy as np
import onnx
import onnx_ir as ir

from ...runtime.contract import MOST_RANKS, Contract
from ..graph.weights import array, detach, session
from ..probes import smooth_noise
from ..wrap import GRADIENT
from .types import SHAPES, is_float

PRODUCTS = frozenset({"Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul"})
LINEAR = frozenset({"gradcam", "layercam"})  # outputs that are linear in the seed, too
CHOSEN = "class"  # the output with the classes explained; the seed is made of it

# Of the largest magnitude in a tensor. float16 ends at 2^16, so other images may have 16 times as
# much; its normal numbers begin at 2^-14, so elements 16 times smaller keep all their digits.
LARGEST, SMALLEST = 2.0**12, 2.0**-10
CONSTANTS = 2.0**-14, 2.0**15
CENTRE = 2.0**3  # where the scaled gradients lie: further from the end that turns into inf

Range: TypeAlias = tuple[float, float]


def gradients(graph: ir.Graph) -> tuple[set[ir.Value], list[ir.Value]]:
    """The float tensors on the way from the chosen class to the gradient, all linear in the seed.

    Returns:
        Those tensors, and those among them where the seed enters (made of integers or masks).
    """
    wanted = {v for node in upstream(named(graph, GRADIENT)) for v in node.outputs}
    depends = {named(graph, CHOSEN)}
    entries = []
    for node in graph:
        if node.op_type in SHAPES:
            continue
        from_class = [x for x in node.inputs if x in depends]
        if not from_class or not wanted.intersection(node.outputs):
            continue
        depends.update(node.outputs)
        if not any(is_float(x) for x in from_class):
            entries += [y for y in node.outputs if is_float(y)]
    return {v for v in depends & wanted if is_float(v)}, entries


def peaks(model: ir.Model, contract: Contract) -> dict[str, Range]:
    """The least and greatest peak magnitude, over test images and classes, of each float tensor.

    Each image is run alone with its best and its last class; peaks of 0 are left out.
    """
    detached = detach(model)
    names = [str(y.name) for node in model.graph for y in node.outputs if is_float(y)]
    graph, probes = detached.proto.graph, {}
    for index, name in enumerate(names):
        size, peak = f"probe/{index}/size", f"probe/{index}/peak"
        graph.node.append(onnx.helper.make_node("Abs", [name], [size], name=size))
        graph.node.append(onnx.helper.make_node("ReduceMax", [size], [peak], name=peak, keepdims=0))
        probes[peak] = name
    graph.output.extend(onnx.helper.make_empty_tensor_value_info(peak) for peak in probes)
    runs, found = session(detached), []
    _, images = smooth_noise(contract)
    for image in images:
        for rank in {-1, -min(contract.score.classes, MOST_RANKS)}:
            feed = {"image": image[None], "class_index": np.array([[rank]])}
            found.append(runs.run(list(probes), feed))
    table = np.ma.masked_equal(np.array(found, np.float64), 0)
    least, greatest = table.min(0).filled(0), table.max(0).filled(0)
    return {
        name: (float(low), float(high))
        for name, low, high in zip(probes.values(), least, greatest, strict=True)
        if high
    }


def scaled(model: ir.Model, ranges: dict[str, Range]) -> dict[str, Range]:
    """Scale the gradients between seed and result, in place; returns the peaks as they are then.

    The power of two puts what products read and make into the middle of float16. An overflow spoils
    the map and an underflow a few pixels of it, so the top has its room first.
    """
    graph = model.graph
    linear, entries = gradients(graph)
    moved = {
        str(v.name): ranges[str(v.name)] for v in linear
        if v.name in ranges and math.isfinite(ranges[str(v.name)][1])
    }  # fmt: skip
    touched = [
        moved[str(v.name)] for v in linear
        if v.name in moved and any(n.op_type in PRODUCTS for n in (v.producer(), *users_of(v)) if n)
    ]  # fmt: skip
    scale = 1.0
    if touched:
        low, high = min(r[0] for r in touched), max(r[1] for r in touched)
        scale = 2.0 ** math.floor(math.log2(min(CENTRE / math.sqrt(low * high), LARGEST / high)))
    ranges = ranges | {name: (low * scale, high * scale) for name, (low, high) in moved.items()}
    for entry in entries:
        _multiply(graph, entry, scale)
    linear_too = [y for y in graph.outputs if y.name in LINEAR]
    for result in (named(graph, GRADIENT), *linear_too):
        _multiply(graph, result, 1 / scale)
    if GRADIENT in ranges:
        ranges[f"{GRADIENT}/before"] = ranges.pop(GRADIENT)
    graph.sort()
    for value in graph.initializers.values():
        if is_float(value) and value.const_value is not None and value.const_value.size:
            peak = float(np.abs(array(value.const_value)).max())
            if peak and not CONSTANTS[0] <= peak <= CONSTANTS[1]:
                ranges[str(value.name)] = peak, peak
    return ranges


def _multiply(graph: ir.Graph, value: ir.Value, factor: float) -> None:
    """Put a power of two behind a tensor, which keeps its name after it."""
    number = ir.tensor(np.float32(factor), name=f"{value.name}/factor")
    constant = ir.val(number.name or "", const_value=number)
    graph.register_initializer(constant)
    node = ir.node("Mul", [value, constant], name=f"{value.name}/scaling")
    product = node.outputs[0]
    product.type, product.shape = value.type, value.shape
    value.replace_all_uses_with(product, replace_graph_outputs=True)
    node.replace_input_with(0, value)
    product.name, value.name = value.name, f"{value.name}/before"
    graph.append(node)


def upstream(value: ir.Value, known: Set[ir.Node] = frozenset()) -> list[ir.Node]:
    """The nodes that a value is computed by, without those known and the choice of the class."""
    found: dict[ir.Node, None] = {}
    stack = [value]
    while stack:
        node = stack.pop().producer()
        if node is None or node in found or node in known or node.outputs[0].name == CHOSEN:
            continue
        found[node] = None
        stack += [x for x in node.inputs if x is not None]
    return list(found)


def users_of(value: ir.Value) -> list[ir.Node]:
    """The nodes that read a value, those in subgraphs too."""
    return [use.node for use in value.uses()]


def named(graph: ir.Graph, name: str) -> ir.Value:
    """The tensor of that name, which a node makes."""
    return next(y for node in graph for y in node.outputs if y.name == name)
