"""What ONNX Runtime forgives in a file, put right: the same classifier as the rest expects it.

Nodes out of order, the standard domain by its long name, lengths of -1, results that are no
tensors, inputs that nothing reads, types that no CPU computes in, versions newer than the runtime.
"""

from __future__ import annotations

import onnx

from ...runtime.errors import ModelError
from ..graph.protos import graphs
from ..graph.weights import SMALL
from .plain import spell_out
from .versions import lower_versions


def repair(proto: onnx.ModelProto, where: str) -> None:
    """Mend a model in place; what it computes stays the same.

    Args:
        proto: as it was read; its external data may be elsewhere.
        where: the file's name, for errors.

    Raises:
        ModelError: nothing that it returns is a tensor; its nodes go in a circle; an operator is
            of an opset that cannot be lowered to one that is known here.
    """
    graph = proto.graph
    _short_domain(proto)
    spell_out(proto, list(graphs(graph)))
    for part in graphs(graph):
        _sort(part, where)
    _open_lengths(graph)
    _tensors_only(graph, where)
    _only_what_is_used(graph)
    _types_of_outputs(proto)
    _own_names(graph)
    lower_versions(proto, where)


def _short_domain(proto: onnx.ModelProto) -> None:
    """``ai.onnx`` is the standard domain's other name; ONNX Runtime takes both."""
    versions = {"": 0} | {o.domain: o.version for o in proto.opset_import if o.domain != "ai.onnx"}
    versions[""] = max(
        [o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")], default=0
    )
    if any(o.domain == "ai.onnx" for o in proto.opset_import):
        del proto.opset_import[:]
        kept = [(domain, version) for domain, version in versions.items() if version]
        proto.opset_import.extend(onnx.helper.make_opsetid(*one) for one in kept)
    for function in proto.functions:
        for opset in function.opset_import:
            opset.domain = "" if opset.domain == "ai.onnx" else opset.domain
    parts = [node for part in graphs(proto.graph) for node in part.node]
    for node in (*parts, *(n for function in proto.functions for n in function.node)):
        if node.domain == "ai.onnx":
            node.domain = ""


def _own_names(graph: onnx.GraphProto) -> None:
    """A name of its own for every node that shares one: ONNX Runtime wants that."""
    taken: set[str] = set()
    for i, node in enumerate(graph.node):
        if node.name in taken:
            node.name = f"{node.name}/{i}"
        taken |= {node.name} - {""}


def _reads(node: onnx.NodeProto) -> set[str]:
    """Every tensor that a node reads, the graphs inside it too."""
    names = set(node.input)
    for attribute in node.attribute:
        for part in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            for inner in part.node:
                names |= _reads(inner)
            names |= {y.name for y in part.output}
    return names - {""}


def _sort(graph: onnx.GraphProto, where: str) -> None:
    """Nodes in an order in which each comes after those it reads, else as they were."""
    maker: dict[str, int] = {}
    for i, node in enumerate(graph.node):
        for y in filter(None, node.output):
            if y in maker:
                raise ModelError(
                    f"{where} has two nodes that make the tensor {y!r}.",
                    "export the classifier again: no runtime takes such a graph.",
                )
            maker[y] = i
    needs = [{maker[x] for x in _reads(node) if x in maker} for node in graph.node]
    if all(max(before, default=-1) < i for i, before in enumerate(needs)):
        return
    order: list[int] = []
    done: set[int] = set()
    for start in range(len(needs)):
        waiting, open_ = [start], set()
        while waiting:
            i = waiting[-1]
            missing = [] if i in done else sorted(needs[i] - done)
            if any(n in open_ or n == i for n in missing):
                raise ModelError(
                    f"{where} has nodes that depend on themselves: {graph.node[i].op_type} "
                    f"{graph.node[i].name or graph.node[i].output[0]!r}.",
                    "export the classifier again: no runtime can order such a graph.",
                )
            if missing:
                open_.add(i)
                waiting.extend(missing[-1:])
                continue
            waiting.pop()
            open_.discard(i)
            if i not in done:
                done.add(i)
                order.append(i)
    nodes = [onnx.NodeProto.FromString(graph.node[i].SerializeToString()) for i in order]
    del graph.node[:]
    graph.node.extend(nodes)


def _open_lengths(graph: onnx.GraphProto) -> None:
    """Lengths of -1 (Paddle, some converters), and of 0, are dynamic ones."""
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.HasField("tensor_type"):
            for i, dim in enumerate(value.type.tensor_type.shape.dim):
                if dim.HasField("dim_value") and dim.dim_value <= 0:
                    dim.dim_param = f"{value.name}_{i}"


def _tensors_only(graph: onnx.GraphProto, where: str) -> None:
    """Leave out results that are maps or sequences: the tensor that a ZipMap takes is the result.

    Results that are text (labels) go too, where there are others; so do those that are inputs as
    they came, and names that occur twice.
    """
    maker = {y: node for node in graph.node for y in node.output}
    given = {v.name for v in graph.input} | {t.name for t in graph.initializer}
    declared = {v.name: v for v in (*graph.value_info, *graph.output)}
    kept: dict[str, onnx.ValueInfoProto] = {}
    for output in graph.output:
        name, node = output.name, maker.get(output.name)
        while node is not None and (node.op_type == "ZipMap" or _wraps(node)):
            name, output = node.input[0], onnx.helper.make_empty_tensor_value_info(node.input[0])
            node = maker.get(name)
        if output.type.WhichOneof("value") in (None, "tensor_type") and name not in given:
            kept.setdefault(name, declared.get(name, output))
    texts = {name for name, value in kept.items() if _is_text(value, maker.get(name), graph)}
    if texts < kept.keys():
        kept = {name: value for name, value in kept.items() if name not in texts}
    if not kept:
        kinds = ", ".join(f"{v.name} ({v.type.WhichOneof('value')})" for v in graph.output)
        raise ModelError(
            f"{where} returns no tensor that it computes: {kinds or 'it has no outputs'}.",
            "export the classifier with its scores as a tensor (sklearn-onnx: zipmap=False).",
        )
    if [v.name for v in graph.output] != list(kept):
        values = [onnx.ValueInfoProto.FromString(v.SerializeToString()) for v in kept.values()]
        del graph.output[:]
        graph.output.extend(values)
    nodes = [n for n in graph.node if n.op_type != "ZipMap"]
    if len(nodes) < len(graph.node):
        nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
        del graph.node[:]
        graph.node.extend(nodes)


def _is_text(
    value: onnx.ValueInfoProto, node: onnx.NodeProto | None, graph: onnx.GraphProto
) -> bool:
    """Whether a result is strings: said so, or picked out of a list of strings."""
    strings = {t.name for t in graph.initializer if t.data_type == onnx.TensorProto.STRING}
    return value.type.tensor_type.elem_type == onnx.TensorProto.STRING or (
        node is not None
        and not value.type.tensor_type.elem_type
        and not strings.isdisjoint(node.input)
    )


def _wraps(node: onnx.NodeProto) -> bool:
    """Whether a node only makes a sequence of one tensor, or an optional one."""
    return node.op_type == "Optional" or (
        node.op_type == "SequenceConstruct" and len(node.input) == 1
    )


def _only_what_is_used(graph: onnx.GraphProto) -> None:
    """Take nodes out that no result needs, and then inputs that nothing reads."""
    wanted, kept = {v.name for v in graph.output}, []
    for node in reversed(graph.node):
        if any(y in wanted for y in node.output):
            wanted |= _reads(node)
            kept.append(node.SerializeToString())
    if len(kept) < len(graph.node):
        del graph.node[:]
        graph.node.extend(map(onnx.NodeProto.FromString, reversed(kept)))
    inputs = [v.SerializeToString() for v in graph.input if v.name in wanted]
    if len(inputs) < len(graph.input):
        del graph.input[:]
        graph.input.extend(map(onnx.ValueInfoProto.FromString, inputs))


def _types_of_outputs(proto: onnx.ModelProto) -> None:
    """Give results the type that inference finds; its shape follows from the graph later on."""
    graph = proto.graph
    lacking = [v for v in graph.output if not v.type.tensor_type.elem_type]
    shapeless = [v for v in graph.output if not v.type.tensor_type.HasField("shape")]
    if not lacking and not shapeless:
        return
    inferred = onnx.shape_inference.infer_shapes(without_weights(proto))
    found = {v.name: v for v in inferred.graph.output}
    for value in (*lacking, *shapeless):
        if found[value.name].type.tensor_type.elem_type:
            value.type.CopyFrom(found[value.name].type)


def without_weights(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose large weights are inputs: for functions that look at no weights."""
    made = onnx.ModelProto(ir_version=max(proto.ir_version, 4))
    made.opset_import.extend(proto.opset_import)
    made.functions.extend(proto.functions)
    graph = made.graph
    graph.name = proto.graph.name
    for field in ("node", "input", "output", "value_info"):
        getattr(graph, field).extend(getattr(proto.graph, field))
    declared = {v.name for v in graph.input}
    for tensor in proto.graph.initializer:
        external = tensor.data_location == onnx.TensorProto.EXTERNAL
        small = len(tensor.raw_data) <= SMALL or tensor.data_type == onnx.TensorProto.INT64
        if small and not external:
            graph.initializer.append(tensor)
        elif tensor.name not in declared:
            dims = list(tensor.dims)
            value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, dims)
            graph.input.append(value)
    return made


__all__ = ["repair", "without_weights"]
