"""Classifiers that are no files by a path: models in memory, bytes, open files."""

from __future__ import annotations

import io
import os
import types
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from backlit.export import export
from backlit.export.sources.load import load
from backlit.runtime.errors import ModelError
from onnx import TensorProto, helper
from support import small


class Named(os.PathLike[str]):
    """A path of another class than pathlib's."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)


def ways(folder: Path) -> dict[str, Any]:
    model = small.convnet()
    path = folder / "m.onnx"
    onnx.save(model, path)
    data = path.read_bytes()
    return {
        "path": path, "text": str(path), "path-like": Named(path), "bytes": data,
        "bytearray": bytearray(data), "view": memoryview(data), "stream": io.BytesIO(data),
        "proto": model, "onnx_ir": ir.serde.deserialize_model(model),
    }  # fmt: skip


def test_however_a_model_comes_it_is_the_same(tmp_path: Path) -> None:
    given = ways(tmp_path)
    with (tmp_path / "m.onnx").open("rb") as file:
        given["file"] = file
        weights = {}
        for name, source in given.items():
            model = load(source).model
            assert model is not None, name
            weights[name] = [v.const_value for v in model.graph.initializers.values()]
    first = [w.numpy() for w in weights["path"] if w is not None]
    for name, found in weights.items():
        for ours, theirs in zip(first, found, strict=True):
            assert theirs is not None
            np.testing.assert_array_equal(ours, theirs.numpy(), err_msg=name)


@pytest.mark.parametrize("source", [b"", b"<html>", io.StringIO("text"), bytearray(b"\x08\x09")])
def test_what_is_no_model_is_told(source: Any) -> None:
    with pytest.raises(ModelError) as caught:
        load(source)
    assert "\n" not in caught.value.problem


def untidy() -> onnx.ModelProto:
    """Nodes out of order, an input that nothing reads, a result in a map, a class in its labels."""
    model = small.convnet(end="Softmax")
    nodes = list(reversed(model.graph.node))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    labels = [f"class {i}" for i in range(small.CLASSES)]
    model.graph.node.append(
        helper.make_node(
            "ZipMap", ["ended"], ["map"], domain="ai.onnx.ml", classlabels_strings=labels
        )
    )
    unread = helper.make_tensor_value_info("unread", TensorProto.FLOAT, [1])
    model.graph.input.append(unread)
    return model


def test_models_of_onnx_ir_are_mended_as_files_are(tmp_path: Path) -> None:
    given = ir.serde.deserialize_model(untidy())
    order = [node.op_type for node in given.graph]
    contract = export(given, tmp_path / "m.onnx").contract
    assert contract.labels is not None
    assert contract.labels[2] == "class 2"
    assert contract.score.left_out == ("Softmax",)
    assert [node.op_type for node in given.graph] == order
    assert [v.name for v in given.graph.inputs] == ["input", "unread"]
    empty = ir.Model(ir.Graph([], [], nodes=[]), ir_version=10)
    with pytest.raises(ModelError, match="holds no graph"):
        load(empty)


def test_what_makes_a_model_of_itself_is_a_source(tmp_path: Path) -> None:
    """As functions of onnxscript do."""
    report = export(types.SimpleNamespace(to_model_proto=small.convnet), tmp_path / "m.onnx")
    assert report.contract.score.classes == small.CLASSES
