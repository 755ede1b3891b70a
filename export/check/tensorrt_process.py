"""Ask NVIDIA's own parser, and engine builder, about one ONNX file: run as a process of its own.

    python -P tensorrt_process.py FILE build|parse REPORT [BATCH CLASSES]

BATCH and CLASSES are the largest that an engine is built for. It writes a JSON object to REPORT.
The libraries may print, and may crash on a graph they do not know; neither reaches the process that
asks. No GPU is needed. Nothing here imports Backlit.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import onnx
import tensorrt_rtx_bindings as trt

MOST = 50  # refused nodes listed
TUNED = 8  # images that the engine is tuned for
OTHER = 224


def refused(path: str, logger: Any) -> list[dict[str, str]]:
    """Every node that the parser refuses.

    It stops at the first; so each refused node is cut out, what it computed becomes an input, and
    the rest is tried again.
    """
    model = onnx.load(path, load_external_data=False)
    found: list[dict[str, str]] = []
    inferred = None
    while len(found) < MOST:
        builder = trt.Builder(logger)  # neither keeps the other alive
        network = builder.create_network(0)
        parser = trt.OnnxParser(network, logger)
        if parser.parse(model.SerializeToString(), path):
            break
        if not parser.num_errors:
            found.append({"node": "", "operator": "", "reason": "the parser gives no reason"})
            break
        error = parser.get_error(0)
        index, kind = error.node(), error.node_operator()
        found.append({"node": error.node_name(), "operator": kind, "reason": reason(error.desc())})
        nodes = model.graph.node
        if not 0 <= index < len(nodes) or nodes[index].op_type != kind:
            break
        if inferred is None:
            inferred = {v.name: v for v in shapes(model)}
        missing = [y for y in nodes[index].output if y and y not in inferred]
        outputs = [inferred[y] for y in nodes[index].output if y in inferred]
        del nodes[index]
        used = {x for node in nodes for x in node.input} | {v.name for v in model.graph.output}
        if used & set(missing):
            break  # of unknown type: the rest cannot be tried without it
        model.graph.input.extend(v for v in outputs if v.name in used)
        declared = {v.name for v in model.graph.input}
        kept = [v for v in model.graph.output if v.name not in declared]
        del model.graph.output[:]
        model.graph.output.extend(kept)
        if not kept:
            break
    return found


def shapes(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Type and shape of every tensor that has one, as far as inference knows."""
    try:
        model = onnx.shape_inference.infer_shapes(model)
    except Exception:  # it refuses operators that it does not know
        return []
    return [*model.graph.value_info, *model.graph.output]


def reason(text: str) -> str:
    """The parser's own words, less the node's name and what is said about an absent GPU."""
    lines = [line for line in text.splitlines() if "Cuda Runtime" not in line]
    lines = [line for line in lines if not line.startswith("Invalid Node")] or lines
    said = " ".join(lines).strip().removeprefix("Assertion failed: ")
    if said == "false" or "plugin" in said.lower():
        return f"TensorRT has no such operator ({said})"
    return said


def engines(path: str, logger: Any) -> int:
    """How many engines ONNX Runtime's TensorRT provider would make of the graph.

    It has the parser cut it at what is refused, by this very call: an engine for each part.
    """
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    parser.supports_model_v2(Path(path).read_bytes(), path)
    return int(parser.num_subgraphs)


def build(path: str, logger: Any, batch: int, classes: int) -> dict[str, Any]:
    """Build an engine with a profile (smallest, tuned for, largest) for every dynamic length.

    The first axis is the batch, the second of an integer input the classes (Backlit's
    ``class_index``), tuned for one; every other axis is taken to be pixels, ``OTHER`` of them.
    """
    images, explained, pixels = (1, min(TUNED, batch), batch), (1, 1, classes), (OTHER,) * 3
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(Path(path).read_bytes(), path):
        return {"engine_bytes": None, "profile": {}}
    profile, lengths = builder.create_optimization_profile(), {}
    for i in range(network.num_inputs):
        tensor = network.get_input(i)
        dims, whole = list(tensor.shape), tensor.dtype in (trt.int32, trt.int64)
        if -1 not in dims:
            continue
        ranges = [
            (d,) * 3 if d >= 0 else images if axis == 0 else explained if whole else pixels
            for axis, d in enumerate(dims)
        ]
        lengths[tensor.name] = [list(shape) for shape in zip(*ranges, strict=True)]
        profile.set_shape(tensor.name, *lengths[tensor.name])
    config = builder.create_builder_config()
    if lengths:
        config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    return {"engine_bytes": None if engine is None else engine.nbytes, "profile": lengths}


class LastMessage(trt.ILogger):  # type: ignore[misc]
    """A logger that keeps the last error and prints nothing."""

    last = ""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)

    def log(self, severity: Any, message: str) -> None:
        """Called by the libraries."""
        worst = severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR)
        if worst and "Cuda Runtime" not in message:
            self.last = message


def main(path: str, how: str, report: str, batch: str = "32", classes: str = "5") -> None:
    """Write what the parser says to the file ``report``."""
    logger = LastMessage()
    result: dict[str, Any] = {
        "version": trt.__version__,
        "refused": refused(path, logger),
        "engines": engines(path, logger),
    }
    if how == "build" and not result["refused"]:
        result |= build(path, logger, int(batch), int(classes))
        if result["engine_bytes"] is None:
            result["error"] = logger.last or "the builder gives no reason"
    Path(report).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:6])
