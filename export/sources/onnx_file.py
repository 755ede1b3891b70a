"""ONNX files: read, mended, and checked as far as ONNX Runtime would."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnx.external_data_helper import load_external_data_for_tensor

from ...runtime.contract import KEY
from ...runtime.errors import ModelError
from ..graph.protos import as_text, graphs
from ..graph.sound import checked, nbytes, quiet, readable, unreadable, unsound
from ..graph.weights import detach, inside, through
from .classifier import Classifier
from .repair import repair, without_weights
from .single import in_float32
from .stated import stated

_OLDEST = 7


def from_file(path: Path) -> Classifier:
    """A classifier of an ONNX file.

    Raises:
        ModelError: it cannot be read, or is of an opset that is too old or too new.
    """
    if not path.is_file():
        raise ModelError(f"{path} does not exist, or is no file.", "check the path.")
    try:
        proto = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's own
        raise unreadable(path, error) from error
    as_text(proto)
    _refuse_unsound(proto, path)
    beside = _external_files(proto, path)
    folder = _behind_links(proto, path, beside)
    _read_inner(proto, folder)
    problem = checked(path)
    labels = _labels(proto)
    with readable(path, problem), quiet():
        _mend(proto, str(path))
        if problem is not None and not _runs(proto, str(path)):
            raise unreadable(path, problem)
        model = _model(proto, folder)
        says = stated(model, path, labels)
    return Classifier(path.name, _digest_of_files(path, *beside), model, says=says)


def from_memory(model: onnx.ModelProto | ir.Model) -> Classifier:
    """A classifier that is here already; it stays as it is.

    Raises:
        ModelError: it holds no graph, or is of an opset that is too old or too new.
    """
    if isinstance(model, ir.Model):
        return _mended(model)
    proto = onnx.ModelProto()
    proto.CopyFrom(model)
    as_text(proto)
    _refuse_unsound(proto, "the model")
    _external_files(proto, Path("the model"))
    _read_inner(proto, Path())
    labels = _labels(proto)
    with readable("the model"), quiet():
        _mend(proto, "the model")
        if not _runs(proto, model):
            raise unreadable("the model", checked(without_weights(proto)) or "it does not run")
        made = _model(proto, Path())
        return Classifier("model", digest(made), made, says=stated(made, labels=labels))


def _refuse_unsound(proto: onnx.ModelProto, where: Any) -> None:
    if not proto.graph.node or not proto.opset_import:
        raise unreadable(where, "it holds no graph")
    if (wrong := unsound(proto)) is not None:
        raise unreadable(where, wrong)


def _mended(model: ir.Model) -> Classifier:
    """A model of onnx-ir, mended as files are; it stays as it is."""
    if not len(model.graph):
        raise ModelError("the model holds no graph.", "give a complete onnx_ir.Model.")
    labels: list[tuple[str, ...] | None] = []

    def mended(proto: onnx.ModelProto) -> onnx.ModelProto:
        labels.append(_labels(proto))
        _mend(proto, "the model")
        return proto

    made = through(model, mended)
    if KEY not in made.metadata_props:
        in_float32(made)
    return Classifier("model", digest(model), made, says=stated(made, labels=labels[0]))


def _mend(proto: onnx.ModelProto, where: str) -> None:
    if any(p.key == KEY for p in proto.metadata_props):  # a Backlit file is as it should be
        return
    repair(proto, where)
    opset = next((o.version for o in proto.opset_import if o.domain == ""), 99)
    if opset < _OLDEST:
        raise ModelError(
            f"{where} is of opset {opset}; Backlit reads opset {_OLDEST} and later.",
            "convert it: onnx.version_converter.convert_version(model, 17).",
        )


def _model(proto: onnx.ModelProto, folder: Path) -> ir.Model:
    model = ir.serde.deserialize_model(proto)
    for graph in model.graphs():
        ir.external_data.set_base_dir(graph, folder)
    inside(model, 0)
    if KEY not in model.metadata_props:
        in_float32(model)
    return model


def _external_files(proto: onnx.ModelProto, path: Path) -> list[Path]:
    """The files that hold a model's external data, in order of their names.

    Raises:
        ModelError: one is not here, ends too early, or lies elsewhere than the model.
    """
    ends: dict[Path, int] = {}
    for tensor in (*proto.graph.initializer, *_inner(proto)):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            name, end = _external(tensor, path)
            ends[name] = max(end, ends.get(name, 0))
    for file, end in ends.items():
        if not file.is_file():
            raise ModelError(
                f"the weights of {path} lie in {file.name!r}, which is not beside it.",
                f"copy {file.name} into {path.parent}, or export with the weights inside.",
            )
        # A link leads elsewhere; but a hub's cache is of links, whose files lie side by side.
        homes = path.parent.resolve(), path.resolve().parent
        if not any(file.resolve().is_relative_to(home) for home in homes):
            raise _outside(path, file.name)
        if end > file.stat().st_size:
            raise ModelError(
                f"{file}, with the weights of {path.name}, ends too early.",
                "copy both files again: one of them is incomplete or of another export.",
            )
    return sorted(ends)


def _behind_links(proto: onnx.ModelProto, path: Path, beside: list[Path]) -> Path:
    """The folder that external data is read from, and each tensor's file as it is named in it.

    A hub's cache is of links, which readers of external data do not follow.
    """
    if all(file.resolve().is_relative_to(path.parent.resolve()) for file in beside):
        return path.parent
    home = path.resolve().parent
    for tensor in (*proto.graph.initializer, *_inner(proto)):
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = os.path.relpath((path.parent / entry.value).resolve(), home)
    return home


def _external(tensor: onnx.TensorProto, path: Path) -> tuple[Path, int]:
    """The file that holds a tensor's values, and where they end in it."""
    said = {entry.key: entry.value for entry in tensor.external_data}
    location, wanted = said.get("location", ""), nbytes(tensor)
    if Path(location).is_absolute() or ".." in Path(location).parts or "\0" in location:
        raise _outside(path, location)
    numbers = said.get("offset", "0"), said.get("length", str(wanted))
    if not all(number.isascii() and number.isdecimal() and len(number) < 20 for number in numbers):
        raise unreadable(path, f"the weights of {tensor.name!r} lie at {numbers[0]!r}")
    offset, length = map(int, numbers)
    if length != wanted:
        raise unreadable(path, f"{tensor.name!r} needs {wanted} bytes, and has {length}")
    return path.parent / location, offset + length


def _outside(path: Path, location: str) -> ModelError:
    return ModelError(
        f"{path} says that its weights lie in {location!r}, outside of its own folder.",
        "do not use the file, unless you know it: then copy its weights beside it.",
    )


def _inner(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Tensors in attributes, and those of graphs inside nodes."""
    for part in graphs(proto.graph):
        if part is not proto.graph:
            yield from part.initializer
        for node in part.node:
            for attribute in node.attribute:
                yield from (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors)


def _read_inner(proto: onnx.ModelProto, folder: Path) -> None:
    """Take what lies beside the file into it, but for the weights of the graph itself."""
    for tensor in _inner(proto):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            load_external_data_for_tensor(tensor, str(folder))
            tensor.data_location = onnx.TensorProto.DEFAULT
            del tensor.external_data[:]


def _runs(proto: onnx.ModelProto, given: str | onnx.ModelProto) -> bool:
    """Whether a model that the checker refuses is right once mended, or runs as it is."""
    if checked(without_weights(proto)) is not None:
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4
        try:
            data = given if isinstance(given, str) else given.SerializeToString()
            ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception:
            return False
    return True


def _labels(proto: onnx.ModelProto) -> tuple[str, ...] | None:
    """The names that a ZipMap gives to the scores."""
    for node in proto.graph.node:
        for attribute in node.attribute if node.op_type == "ZipMap" else ():
            if attribute.name == "classlabels_strings" and attribute.strings:
                return tuple(name.decode("utf-8", "replace") for name in attribute.strings)
    return None


def _digest_of_files(*paths: Path) -> str:
    """SHA-256 of the file, then of the files of its external data in order of their names."""
    found = hashlib.sha256()
    for part in paths:
        with part.open("rb") as file:
            while block := file.read(1 << 20):
                found.update(block)
    return found.hexdigest()


def digest(model: ir.Model) -> str:
    """SHA-256 of a model in memory: its graph, then its weights."""
    detached = detach(model)
    found = hashlib.sha256(detached.proto.SerializeToString(deterministic=True))
    for name, tensor in detached.weights.items():
        found.update(name.encode() + tensor.tobytes())
    return found.hexdigest()


__all__ = ["from_file", "from_memory"]
