"""Would an engine take a file whole? What is known, and what the engines themselves say.

``audit`` in tensorrt.py knows what TensorRT's parser refuses; ``check_tensorrt`` also asks that
parser (and builder), where the extra ``tensorrt-check`` is installed. It is the parser of
TensorRT-RTX, which needs no GPU: its word is strong evidence for TensorRT 10, not proof.
``check_cuda`` asks ONNX Runtime's CUDA provider which nodes it leaves to the CPU.
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

import onnx_ir as ir

from ..runtime import providers
from ..runtime.errors import BacklitError, ModelError
from . import tensorrt
from .tensorrt import Refused

PIP = "pip install 'backlit[tensorrt-check]'"
_PROCESS = Path(__file__).with_name("tensorrt_process.py")


@dataclasses.dataclass(frozen=True)
class TensorrtReport:
    """Whether TensorRT takes a file.

    Attributes:
        nodes: operators in the graph.
        static: nodes known to be refused.
        parser: version of the parser that was asked; None: only the static audit was made.
        refused: nodes that the parser refuses (at most 50), in its own words.
        profile: per dynamic input its smallest, tuned and largest shape; empty if nothing was
            built or nothing is dynamic.
        engine_bytes: size of the engine built; None if none was.
        error: why no engine could be built, in the builder's words.
    """

    nodes: int
    static: tuple[Refused, ...]
    parser: str | None = None
    refused: tuple[Refused, ...] = ()
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
        elsewhere: nodes that the CUDA provider leaves to the CPU (constants and shapes too).
    """

    told: bool
    reason: str = ""
    placed: dict[str, int] = dataclasses.field(default_factory=dict)
    elsewhere: tuple[Refused, ...] = ()


def check_tensorrt(
    path: str | os.PathLike[str], *, parser: bool = False, build: bool = False
) -> TensorrtReport:
    """Say whether TensorRT takes a file whole, and which nodes not.

    Args:
        path: a Backlit file or any ONNX file; external data of any size stays where it is.
        parser: ask NVIDIA's own parser too (seconds; no GPU needed).
        build: also build an engine (seconds to minutes), with an optimisation profile for every
            dynamic length: 1 to 8 images, 1 to 5 classes, and 224 for any other.

    Raises:
        ModelError: the file cannot be read, or the parser crashed on it.
        BacklitError: ``parser`` without the extra that holds it.
    """
    path = Path(path)
    graph = _load(path).graph
    report = TensorrtReport(len(graph), tuple(tensorrt.refused(graph)))
    if not parser:
        return report
    if importlib.util.find_spec("tensorrt_rtx_bindings") is None:
        raise BacklitError("NVIDIA's parser is not installed.", f"{PIP} (Linux and Windows x86-64)")
    said = _ask(path, build)
    return dataclasses.replace(
        report,
        parser=f"TensorRT-RTX {said['version']}",
        refused=tuple(Refused(**node) for node in said["refused"]),
        profile=said.get("profile", {}),
        engine_bytes=said.get("engine_bytes"),
        error=said.get("error", ""),
    )


def check_cuda(path: str | os.PathLike[str]) -> CudaReport:
    """Say which nodes of a file the CUDA provider takes, where that provider loads.

    Raises:
        ModelError: ONNX Runtime does not take the file.
    """
    path = Path(path)
    _load(path)
    tried = providers.probe("cuda")
    if not tried.loads:
        return CudaReport(told=False, reason=f"the CUDA provider does not load: {tried.reason}")
    ort = providers.onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    wanted = [providers.PROVIDERS["cuda"], providers.PROVIDERS["cpu"]]
    try:
        session = ort.InferenceSession(os.fspath(path), options, providers=wanted)
        if session.get_providers()[0] != wanted[0]:
            return CudaReport(told=False, reason="ONNX Runtime fell back to the CPU")
        groups = session.get_provider_graph_assignment_info()
    except AttributeError:
        text = f"onnxruntime {ort.__version__} does not tell; a newer one does"
        return CudaReport(told=False, reason=text)
    except Exception as error:  # pybind exception classes share no base but Exception
        raise providers.model_error(os.fspath(path), error, ("cuda",)) from error
    return placement([(group.ep_name, list(group.get_nodes())) for group in groups])


def placement(groups: list[tuple[str, list[Any]]]) -> CudaReport:
    """The report on (provider, its nodes) as ONNX Runtime assigned them."""
    placed: collections.Counter[str] = collections.Counter()
    elsewhere = []
    for provider, nodes in groups:
        placed[provider] += len(nodes)
        if provider != providers.PROVIDERS["cuda"]:
            elsewhere += [Refused(n.name, n.op_type, f"placed on {provider}") for n in nodes]
    return CudaReport(True, "", dict(placed), tuple(elsewhere))


def _load(path: Path) -> ir.Model:
    """The model, its external data unread."""
    if not path.is_file():
        raise ModelError(f"{path} does not exist.", "check the path.")
    try:
        model = ir.load(path)
        if not len(model.graph):
            raise ValueError("it holds no graph")
    except Exception as error:  # protobuf and onnx-ir raise types of their own
        raise ModelError(
            f"{path} is not a readable ONNX model: {str(error).strip().splitlines()[0]}",
            "check that the file is complete and really ONNX (not a .pt, a link page, a part).",
        ) from error
    return model


def _ask(path: Path, build: bool) -> dict[str, Any]:
    """What the parser says, from a process of its own: the libraries print, and may crash."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        how = "build" if build else "parse"
        command = [sys.executable, "-P", str(_PROCESS), str(path.resolve()), how, str(report)]
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


__all__ = ["CudaReport", "Refused", "TensorrtReport", "check_cuda", "check_tensorrt", "placement"]
