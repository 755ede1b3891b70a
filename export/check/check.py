"""Would an engine take a file whole? What is known, and what the engines themselves say.

``audit`` in tensorrt.py knows what TensorRT's parser refuses; ``check_tensorrt`` also asks that
parser (and builder), where the extra ``tensorrt-check`` is installed. It is the parser of
TensorRT-RTX, which needs no GPU: its word is strong evidence for TensorRT 10, not proof.
``check_cuda`` asks ONNX Runtime's CUDA provider which nodes it leaves to the CPU, and whether it
would hold the file in a CUDA graph.
"""

from __future__ import annotations

import collections
import dataclasses
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from ...runtime.backend import creation, libraries, placement, probing
from ...runtime.backend.models import model_error
from ...runtime.backend.ort import build_name, onnxruntime
from ...runtime.backend.providers.table import PROVIDERS
from ...runtime.errors import BacklitError, ModelError
from ..graph.protos import as_text
from ..graph.sound import checked, quiet, readable, unreadable, unsound
from . import tensorrt_rules as tensorrt
from .tensorrt_rules import Refused

PIP = "pip install 'backlit[tensorrt-check]'"
# ONNX Runtime 1.31, inference_session.cc: it refuses a session that asked for CUDA graphs where a
# node that computes is on the CPU (which it sees by the copies between) or control flow is there.
_REFUSAL = "This session cannot use the graph capture feature"
_PROCESS = Path(__file__).with_name("tensorrt_process.py")


@dataclasses.dataclass(frozen=True)
class TensorrtReport:
    """Whether TensorRT takes a file.

    Attributes:
        nodes: operators in the graph.
        static: nodes known to be refused.
        parser: version of the parser that was asked; None: only the static audit was made.
        refused: nodes that the parser refuses (at most 50), in its own words.
        engines: how many engines ONNX Runtime would have made of the graph: 1 is the whole graph in
            one; None: the parser was not asked.
        profile: per dynamic input its smallest, tuned and largest shape; empty if nothing was
            built or nothing is dynamic.
        engine_bytes: size of the engine built; None if none was.
        error: why no engine could be built, in the builder's words.
    """

    nodes: int
    static: tuple[Refused, ...]
    parser: str | None = None
    refused: tuple[Refused, ...] = ()
    engines: int | None = None
    profile: dict[str, list[list[int]]] = dataclasses.field(default_factory=dict)
    engine_bytes: int | None = None
    error: str = ""

    @property
    def taken(self) -> bool:
        """Nothing is refused.

        Some refusals come only when an engine is built, so what is known counts until one was.
        """
        return self.engine_bytes is not None or not (self.static or self.refused or self.error)


@dataclasses.dataclass(frozen=True)
class CudaReport:
    """Where ONNX Runtime's CUDA provider places a file's nodes, after its own optimisation.

    Attributes:
        told: False where the CUDA provider does not load on this machine; then ``reason`` says why.
        placed: nodes per provider.
        elsewhere: nodes that the CUDA provider has no kernel for: each costs copies in every run.
        shapes: computations of shapes, a few integers on their way to Reshape and its like, which
            it leaves to the CPU on purpose: nothing is copied for them.
        graph: a CUDA graph may hold the file, so that one launch starts all of it.
        refusal: why not, in ONNX Runtime's words.
    """

    told: bool
    reason: str = ""
    placed: dict[str, int] = dataclasses.field(default_factory=dict)
    elsewhere: tuple[Refused, ...] = ()
    shapes: tuple[Refused, ...] = ()
    graph: bool | None = None
    refusal: str = ""

    @property
    def whole(self) -> bool:
        """All of it runs on the GPU, in a CUDA graph."""
        return self.told and not self.elsewhere and bool(self.graph)


def check_tensorrt(
    path: str | os.PathLike[str],
    *,
    parser: bool = False,
    build: bool = False,
    batch: int = 32,
    classes: int = 5,
) -> TensorrtReport:
    """Say whether TensorRT takes a file whole, and which nodes not.

    Args:
        path: a Backlit file or any ONNX file; external data of any size stays where it is.
        parser: ask NVIDIA's own parser too (seconds; no GPU needed).
        build: also build an engine (seconds to minutes), with an optimisation profile for every
            dynamic length: from 1 to ``batch`` images, tuned for 8 if there are so many, from 1 to
            ``classes`` classes, tuned for one, and 224 for any other.
        batch, classes: the largest that the engine is to take; as the runtime's by default.

    Raises:
        ModelError: the file cannot be read, or the parser crashed on it.
        BacklitError: ``parser`` without the extra that holds it.
    """
    path = Path(path)
    graph = _load(path).graph
    with readable(path, checked(path)):
        report = TensorrtReport(len(graph), tuple(tensorrt.refused(graph)))
    if not parser:
        return report
    if importlib.util.find_spec("tensorrt_rtx_bindings") is None:
        raise BacklitError(
            "NVIDIA's parser is not installed.", f"{PIP} (Linux and Windows x86-64)."
        )
    said = _ask(path, build, batch, classes)
    return dataclasses.replace(
        report,
        parser=f"TensorRT-RTX {said['version']}",
        refused=tuple(Refused(**node) for node in said["refused"]),
        engines=said["engines"],
        profile=said.get("profile", {}),
        engine_bytes=said.get("engine_bytes"),
        error=said.get("error", ""),
    )


def check_cuda(path: str | os.PathLike[str], *, shape: tuple[int, int] | None = None) -> CudaReport:
    """Say which nodes of a file the CUDA provider takes, where that provider loads.

    Nothing is computed, so cuDNN need not be there.

    Args:
        path: a Backlit file or any ONNX file.
        shape: fixes the dimensions N and K of a Backlit file; None leaves them open.

    Raises:
        ModelError: ONNX Runtime does not take the file.
    """
    path = Path(path)
    _load(path)
    ort, cuda = onnxruntime(), PROVIDERS["cuda"].full
    if cuda not in ort.get_available_providers():
        reason = f"this ONNX Runtime ({build_name(ort)}) is built without it"
        return CudaReport(told=False, reason=reason)
    libraries.preload(ort)
    refusal = ""
    try:
        with creation.quiet(ort):
            try:
                session = _open(ort, path, shape, graph=True)
            except Exception as error:  # pybind exception classes share no base but Exception
                if _REFUSAL not in str(error):
                    raise
                refusal = str(error)[str(error).index(_REFUSAL) :].strip()
                session = _open(ort, path, shape, graph=False)
    except Exception as error:
        raise model_error(os.fspath(path), error, ("cuda",)) from error
    if session.get_providers()[0] != cuda:
        reason = probing.probe("cuda").reason or "ONNX Runtime fell back to the CPU"
        return CudaReport(told=False, reason=f"it does not load: {reason}")
    if not hasattr(session, "get_provider_graph_assignment_info"):
        text = f"onnxruntime {ort.__version__} does not tell; 1.24 and newer do"
        return CudaReport(told=False, reason=text)
    report = placed(session, path)
    return dataclasses.replace(report, graph=not refusal, refusal=refusal)


def placed(session: Any, path: Path) -> CudaReport:
    """The report on the nodes of a session of ONNX Runtime, as it assigned them.

    Args:
        session: opened with ``placement.RECORD``; its first provider is the one reported on.
        path: the file that it was opened on.
    """
    first = session.get_providers()[0]
    computing = {node.name for node in placement.placed(session, path, {})[0]}
    counts: collections.Counter[str] = collections.Counter()
    elsewhere: list[Refused] = []
    shapes: list[Refused] = []
    for group in session.get_provider_graph_assignment_info():
        nodes = group.get_nodes()
        counts[group.ep_name] += len(nodes)
        if group.ep_name == first:
            continue
        for node in nodes:
            left = Refused(node.name, node.op_type, f"placed on {group.ep_name}")
            (elsewhere if node.name in computing else shapes).append(left)
    return CudaReport(True, "", dict(counts), tuple(elsewhere), tuple(shapes))


def _open(ort: Any, path: Path, shape: tuple[int, int] | None, graph: bool) -> Any:
    cuda = PROVIDERS["cuda"]
    options = cuda.settings({"enable_cuda_graph": str(int(graph))}, None)
    return creation.create(ort, path, {cuda: options}, threads=None, shape=shape)


def _load(path: Path) -> ir.Model:
    """The model, its external data unread."""
    if not path.is_file():
        raise ModelError(f"{path} does not exist, or is no file.", "check the path.")
    with readable(path), quiet():
        proto = onnx.load(path, load_external_data=False)
        as_text(proto)
        if not proto.graph.node:
            raise unreadable(path, "it holds no graph")
        if (wrong := unsound(proto)) is not None:
            raise unreadable(path, wrong)
        model = ir.serde.deserialize_model(proto)
        for graph in model.graphs():
            ir.external_data.set_base_dir(graph, path.parent)
    return model


def _ask(path: Path, build: bool, batch: int, classes: int) -> dict[str, Any]:
    """What the parser says, from a process of its own: the libraries print, and may crash."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        how = "build" if build else "parse"
        command = [sys.executable, "-P", str(_PROCESS), str(path.resolve()), how, str(report)]
        command += [str(batch), str(classes)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")  # noqa: S603
        if done.returncode == 0 and report.is_file():
            return dict(json.loads(report.read_text(encoding="utf-8")))
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    why = lines[-1].strip() if lines else ""
    if done.returncode < 0:
        why = f"crashed ({signal.Signals(-done.returncode).name})"
    raise ModelError(
        f"NVIDIA's parser gave no answer about {path}: {why or f'exit {done.returncode}'}.",
        "without --tensorrt the static audit says what is known; where a library is said to be "
        f"missing: {PIP}.",
    )


__all__ = ["CudaReport", "Refused", "TensorrtReport", "check_cuda", "check_tensorrt", "placed"]
