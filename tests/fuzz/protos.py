"""Changes that make an ONNX model wrong, or hostile: each a function of a generator and a model."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from .damage import FLOATS, INTEGERS, TEXTS

Change = Callable[[random.Random, onnx.ModelProto], None]

_OPERATORS = sorted({schema.name for schema in onnx.defs.get_all_schemas()})
_NAMES = tuple(text for text in TEXTS if text != "\ud800")


def changed(rng: random.Random, model: onnx.ModelProto, folder: Path) -> None:
    """Make one to three changes; what an external tensor may point at lies in the folder."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if rng.random() < 0.07:
            _external(rng, model, folder)
        else:
            rng.choice(CHANGES)(rng, model)


def _node(rng: random.Random, model: onnx.ModelProto) -> onnx.NodeProto:
    nodes: Any = model.graph.node
    node: onnx.NodeProto = rng.choice(list(nodes)) if nodes else nodes.add()
    return node


def _tensor(rng: random.Random, model: onnx.ModelProto) -> onnx.TensorProto:
    tensors: Any = model.graph.initializer
    tensor: onnx.TensorProto = rng.choice(list(tensors)) if tensors else tensors.add()
    return tensor


def _value(rng: random.Random, model: onnx.ModelProto) -> onnx.ValueInfoProto:
    graph = model.graph
    values: list[onnx.ValueInfoProto] = [*graph.input, *graph.output, *graph.value_info]
    value: onnx.ValueInfoProto = rng.choice(values or [graph.input.add()])
    return value


def _known(rng: random.Random, model: onnx.ModelProto) -> str:
    graph = model.graph
    names = [name for node in graph.node for name in (*node.input, *node.output)]
    names += [value.name for value in (*graph.input, *graph.output)]
    return rng.choice(names) if names else "x"


def _any_name(rng: random.Random, model: onnx.ModelProto) -> str:
    return _known(rng, model) if rng.random() < 0.7 else rng.choice(_NAMES)


def _dims(rng: random.Random) -> list[int]:
    return [rng.choice(INTEGERS) for _ in range(rng.randrange(6))]


def drop_node(rng: random.Random, model: onnx.ModelProto) -> None:
    if model.graph.node:
        del model.graph.node[rng.randrange(len(model.graph.node))]


def repeat_node(rng: random.Random, model: onnx.ModelProto) -> None:
    model.graph.node.append(_node(rng, model))


def shuffle_nodes(rng: random.Random, model: onnx.ModelProto) -> None:
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in model.graph.node]
    rng.shuffle(nodes)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def rewire(rng: random.Random, model: onnx.ModelProto) -> None:
    """An input or output of a node gets another name: a cycle, a second maker, nothing at all."""
    node = _node(rng, model)
    names = node.output if rng.random() < 0.3 and node.output else node.input
    if names:
        names[rng.randrange(len(names))] = _any_name(rng, model)
    else:
        names.append(_any_name(rng, model))


def more_or_fewer_inputs(rng: random.Random, model: onnx.ModelProto) -> None:
    node = _node(rng, model)
    names = node.output if rng.random() < 0.3 else node.input
    if names and rng.random() < 0.5:
        del names[rng.randrange(len(names))]
    else:
        names.extend(_any_name(rng, model) for _ in range(rng.choice((1, 3, 40))))


def other_operator(rng: random.Random, model: onnx.ModelProto) -> None:
    _node(rng, model).op_type = rng.choice(_OPERATORS) if rng.random() < 0.8 else rng.choice(_NAMES)


def other_domain(rng: random.Random, model: onnx.ModelProto) -> None:
    domain = rng.choice(("", "ai.onnx", "ai.onnx.ml", "com.microsoft", "my.own", *_NAMES[:6]))
    _node(rng, model).domain = domain
    if rng.random() < 0.5:
        model.opset_import.append(helper.make_opsetid(domain, rng.choice((1, 17, 99))))


def other_attribute(rng: random.Random, model: onnx.ModelProto) -> None:
    """An attribute of a node gets another value, another type, or none."""
    node = _node(rng, model)
    if not node.attribute or rng.random() < 0.2:
        node.attribute.add(name=rng.choice(("axis", "pads", "to", "value", "perm", "epsilon", "")))
    attribute = rng.choice(list(node.attribute))
    way = rng.randrange(7)
    if way == 0:
        node.attribute.remove(attribute)
    elif way == 1:
        attribute.type = rng.randrange(15)
    elif way == 2 and attribute.ints:
        attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(INTEGERS)
    elif way == 3:
        attribute.name = rng.choice(("axis", "pads", "strides", "", "group", "value"))
    elif way == 4:
        node.attribute.append(attribute)
    else:
        name = attribute.name
        attribute.Clear()
        attribute.CopyFrom(_attribute(rng, name or "axis"))


def _attribute(rng: random.Random, name: str) -> AttributeProto:
    values: list[Any] = [
        rng.choice(INTEGERS),
        [rng.choice(INTEGERS) for _ in range(rng.choice((1, 2, 4, 9)))],
        float(np.float32(min(max(rng.choice(FLOATS), -3e38), 3e38))),
        [0.5, -1.0],
        rng.choice(_NAMES),
        numpy_helper.from_array(np.zeros(2, np.float32), "t"),
        helper.make_graph([], "empty", [], []),
    ]
    return helper.make_attribute(name, rng.choice(values))


def other_tensor(rng: random.Random, model: onnx.ModelProto) -> None:
    """A weight of other dimensions, another type, or fewer bytes than it says."""
    tensor = _tensor(rng, model)
    way = rng.randrange(7)
    if way == 0:
        tensor.data_type = rng.choice((*range(24), 99, -1))
    elif way == 1:
        del tensor.dims[:]
        tensor.dims.extend(_dims(rng))
    elif way == 2 and tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(INTEGERS)
    elif way == 3:
        tensor.raw_data = tensor.raw_data[: rng.randrange(len(tensor.raw_data) + 1)]
    elif way == 4:
        tensor.name = _any_name(rng, model)
    elif way == 5:
        model.graph.initializer.append(tensor)
    else:
        tensor.raw_data = bytes(rng.choice((0x00, 0x7F, 0xFF)) for _ in range(1)) * len(
            tensor.raw_data
        )


def sizes_that_ask_for_all_memory(rng: random.Random, model: onnx.ModelProto) -> None:
    """A weight without bytes, or a constant made at run time, of terabytes."""
    giant = [rng.choice((1 << 20, 1 << 31, 1 << 40)) for _ in range(2)]
    way = rng.randrange(4)
    if way == 0:
        tensor = _tensor(rng, model)
        tensor.ClearField("raw_data")
        del tensor.dims[:]
        tensor.dims.extend(giant)
        return
    shape = numpy_helper.from_array(np.array(giant, np.int64), "giant")
    model.graph.initializer.append(shape)
    target = _known(rng, model)
    made = {
        1: helper.make_node("ConstantOfShape", ["giant"], ["huge"]),
        2: helper.make_node("Expand", [target, "giant"], ["huge"]),
        3: helper.make_node("Tile", [target, "giant"], ["huge"]),
    }[way]
    model.graph.node.insert(0 if way == 1 else len(model.graph.node), made)
    if rng.random() < 0.7:
        reducer = helper.make_node("ReduceMax", ["huge"], ["most"], keepdims=0)
        model.graph.node.insert(1 if way == 1 else len(model.graph.node), reducer)
        _node(rng, model).input.append("most")
        consumer = rng.choice([node for node in model.graph.node if node.input])
        consumer.input[0] = "most"


def other_value(rng: random.Random, model: onnx.ModelProto) -> None:
    """An input or output of another name, type or shape."""
    value = _value(rng, model)
    way = rng.randrange(8)
    kind = value.type.tensor_type
    if way == 0:
        value.name = _any_name(rng, model)
    elif way == 1:
        kind.elem_type = rng.choice((*range(24), 99))
    elif way == 2:
        kind.ClearField("shape")
    elif way == 3 and kind.shape.dim:
        dim = rng.choice(list(kind.shape.dim))
        dim.dim_value = rng.choice(INTEGERS)
    elif way == 4 and kind.shape.dim:
        rng.choice(list(kind.shape.dim)).dim_param = rng.choice(_NAMES)
    elif way == 5:
        value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, _dims(rng)))
    elif way == 6:
        inner = helper.make_tensor_type_proto(TensorProto.FLOAT, [1])
        made = rng.choice((helper.make_sequence_type_proto, helper.make_optional_type_proto))
        value.type.CopyFrom(made(inner))
    else:
        value.ClearField("type")


def other_interface(rng: random.Random, model: onnx.ModelProto) -> None:
    """An input or output more, or one less."""
    values = rng.choice((model.graph.input, model.graph.output))
    if values and rng.random() < 0.5:
        del values[rng.randrange(len(values))]
    else:
        name = _any_name(rng, model)
        values.append(helper.make_tensor_value_info(name, rng.randrange(1, 17), _dims(rng)))


def other_version(rng: random.Random, model: onnx.ModelProto) -> None:
    version = rng.choice((*range(1, 27), *INTEGERS))
    way = rng.randrange(4)
    if way == 0:
        model.ir_version = version
    elif way == 1:
        del model.opset_import[:]
    elif way == 2:
        model.opset_import.append(helper.make_opsetid(rng.choice(("", "ai.onnx", "x")), version))
    elif model.opset_import:
        model.opset_import[0].version = version


def branch(rng: random.Random, model: onnx.ModelProto) -> None:
    """An If, Loop or Scan whose graphs lack something, lie deep, or never end."""
    value = helper.make_empty_tensor_value_info
    inside = _known(rng, model)
    depth = rng.choice((0, 1, 3, 24))  # a message may be 100 deep
    body = helper.make_graph([helper.make_node("Identity", [inside], ["i"])], "i", [], [value("i")])
    model.graph.initializer.append(numpy_helper.from_array(np.array(rng.random() < 0.5), "yes"))
    for number in range(depth):
        node = helper.make_node("If", ["yes"], [f"d{number}"], then_branch=body, else_branch=body)
        if depth > 3:  # else there are 2 ** depth of them
            node.attribute[1].g.Clear()
        body = helper.make_graph([node], f"d{number}", [], [value(f"d{number}")])
    if rng.random() < 0.5:
        made = helper.make_node("If", ["yes"], ["chosen"], then_branch=body, else_branch=body)
    else:
        many = np.array(rng.choice(INTEGERS), np.int64)
        model.graph.initializer.append(numpy_helper.from_array(many, "many"))
        loop = helper.make_graph(
            [
                helper.make_node("Identity", ["go"], ["on"]),
                helper.make_node("Identity", ["state"], ["next"]),
            ],
            "loop",
            [
                helper.make_tensor_value_info("number", TensorProto.INT64, []),
                helper.make_tensor_value_info("go", TensorProto.BOOL, []),
                value("state"),
            ],
            [helper.make_tensor_value_info("on", TensorProto.BOOL, []), value("next")],
        )
        made = helper.make_node("Loop", ["many", "yes", inside], ["chosen"], body=loop)
    if rng.random() < 0.3:
        del made.attribute[0]
    model.graph.node.append(made)
    readers = [node for node in model.graph.node if inside in node.input and node is not made]
    if readers:
        reader = rng.choice(readers)
        reader.input[list(reader.input).index(inside)] = "chosen"


def function(rng: random.Random, model: onnx.ModelProto) -> None:
    """A function of the model: one that calls itself, or lacks what it is called with."""
    node = _node(rng, model)
    operator = "Own" if rng.random() < 0.6 else node.op_type
    inner = [helper.make_node(rng.choice(("Relu", "Own", node.op_type)), ["x"], ["y"])]
    inner[0].domain = "own" if inner[0].op_type == "Own" else ""
    made = helper.make_function(
        "own", operator, ["x"], ["y"], inner, [helper.make_opsetid("", 17)],
    )  # fmt: skip
    model.functions.append(made)
    if rng.random() < 0.3:
        model.functions.append(made)
    node.op_type, node.domain = operator, "own"
    if rng.random() < 0.8:
        model.opset_import.append(helper.make_opsetid("own", 1))


def long_chain(rng: random.Random, model: onnx.ModelProto) -> None:
    """Thousands of nodes one after another: what recurs over them has no stack for it."""
    name = _known(rng, model)
    start = name
    nodes = []
    for number in range(1100):
        nodes.append(helper.make_node("Identity", [start], [f"chain{number}"]))
        start = f"chain{number}"
    for node in model.graph.node:
        for place, used in enumerate(node.input):
            if used == name:
                node.input[place] = start
    model.graph.node.extend(nodes)


def odd_field(rng: random.Random, model: onnx.ModelProto) -> None:
    """Fields that few files have."""
    way = rng.randrange(6)
    if way == 0:
        sparse = model.graph.sparse_initializer.add()
        sparse.values.name = _known(rng, model)
        sparse.dims.extend(_dims(rng))
    elif way == 1:
        model.training_info.add()
    elif way == 2:
        model.graph.quantization_annotation.add(tensor_name=_known(rng, model))
    elif way == 3:
        model.metadata_props.add(key=rng.choice(("", "labels", "backlit", *_NAMES)), value="{}")
    elif way == 4:
        model.graph.name = rng.choice(_NAMES)
        _node(rng, model).name = rng.choice(_NAMES)
    else:
        model.graph.ClearField("node")


def _external(rng: random.Random, model: onnx.ModelProto, folder: Path) -> None:
    """Weights beside the file: not there, too short, elsewhere, of another length."""
    tensor = _tensor(rng, model)
    beside = folder / "beside.data"
    beside.write_bytes(tensor.raw_data)
    length = str(len(tensor.raw_data))
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    locations = ("beside.data", "none.data", "../beside.data", "/etc/passwd", "/dev/zero", "", ".",
                 "link.data", str(beside), "a/../beside.data", *_NAMES)  # fmt: skip
    location = rng.choice(locations)
    if location == "link.data":
        (folder / "link.data").symlink_to("/etc/hostname")
    said = {"location": location, "offset": "0", "length": length}
    for key in ("offset", "length"):
        if rng.random() < 0.2:
            said[key] = rng.choice(("-1", "x", "", "9" * 30, "1e3", length + "0"))
    for key, text in said.items():
        if rng.random() < 0.9:
            tensor.external_data.add(key=key, value=text)


CHANGES: tuple[Change, ...] = (
    drop_node, repeat_node, shuffle_nodes, rewire, rewire, more_or_fewer_inputs, other_operator,
    other_operator, other_domain, other_attribute, other_attribute, other_attribute, other_tensor,
    other_tensor, sizes_that_ask_for_all_memory, other_value, other_value, other_interface,
    other_version, branch, function, long_chain, odd_field,
)  # fmt: skip
