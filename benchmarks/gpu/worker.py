"""One contender of the GPU benchmark, in a process of its own: run by path, not as a module.

It reads a job as one line of JSON, then does what it is asked for, one line of JSON each: open a
case in a mode, take a turn, hand out the answer, close, profile. It lives through all cases, so
that the libraries, the device's context and the compilers are started once. Nothing here imports
backlit.export: onnx and its memory have no place in the process that measures the runtime.
"""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Answer = tuple[Array, Array | None]
"""float32 scores [N, classes] and saliency [N, K, H, W]; None from a forward pass alone."""
WARM_UP = 4  # runs; ONNX Runtime captures a CUDA graph in the third, compilers look at the first
MODES = ("host", "device")


@dataclasses.dataclass(frozen=True)
class Job:
    """What a worker runs; travels as JSON.

    Attributes:
        contender: as it is reported.
        kind: a key of ``KINDS``, or ``package.module:callable``.
        provider: short name of an execution provider; ``cpu`` or ``cuda`` for torch.
        precision: ``fp32`` or ``fp16``.
        graph: with CUDA graphs.
        tf32: TF32 allowed in float32 products and convolutions.
        threads: on the CPU.
    """

    contender: str
    kind: str
    provider: str
    precision: str
    graph: bool
    tf32: bool
    threads: int = 1

    @property
    def options(self) -> dict[str, dict[str, str]]:
        """Options of the execution provider."""
        on = str(int(self.graph))
        if self.provider == "cuda":
            return {"cuda": {"use_tf32": str(int(self.tf32)), "enable_cuda_graph": on}}
        return {}


@dataclasses.dataclass(frozen=True)
class Case:
    """A prepared classifier (folder) in one batch size and number of classes."""

    folder: str
    batch: int
    k: int

    def inputs(self) -> tuple[Array, Array]:
        """Images as the file takes them and int64 [N,K]: the prepared ones again and again."""
        with np.load(Path(self.folder, "reference.npz")) as kept:
            rows = np.arange(self.batch) % len(kept["images"])
            return kept["images"][rows], np.ascontiguousarray(kept["index"][rows, : self.k])

    def about(self) -> dict[str, Any]:
        """What the folder's preparation wrote down."""
        found: dict[str, Any] = json.loads(Path(self.folder, "ready.json").read_text())
        return found


def backlit(job: Job, case: Case, mode: str) -> Callable[[], Any]:
    """The Backlit file: through the runtime with copies, or bound on the device without."""
    images, index = case.inputs()
    file = Path(case.folder, f"{job.precision}.backlit.onnx")
    if mode == "device":
        return bound(job, file, {"image": images, "class_index": index})[0]
    from backlit.runtime.session import Session

    session = Session(file, job.provider, job.threads, options=job.options or None)

    def run() -> Answer:
        found = session.run(images, index)
        return found.scores, found.saliency

    run.elsewhere = len(session.elsewhere)  # type: ignore[attr-defined]
    return run


def forward(job: Job, case: Case, mode: str) -> Callable[[], Any]:
    """The part of the Backlit file that makes the scores."""
    images, _ = case.inputs()
    file = Path(case.folder, f"{job.precision}.forward.onnx")
    run, _, inputs, outputs = bound(job, file, {"image": images})

    def with_copies() -> Answer:
        inputs["image"].update_inplace(images)
        run()
        return np.array(outputs["scores"].numpy()), None

    return run if mode == "device" else with_copies


def _open(job: Job, file: Path, profile: str | None = None) -> Any:
    """A session of ONNX Runtime on the job's provider, with Backlit's options for it."""
    import onnxruntime as ort
    from backlit.runtime.backend import probing, sessions
    from backlit.runtime.backend.providers import table

    if profile is None:
        return sessions.open_session(
            file, job.provider, job.threads, options=job.options or None
        ).session
    probing.candidates(job.provider)  # loads its libraries, or says why it cannot
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, job.threads
    options.enable_profiling, options.profile_file_prefix = True, profile
    row = table.PROVIDERS[job.provider]
    chosen = row.settings(job.options.get(job.provider, {}), None)
    return ort.InferenceSession(str(file), options, providers=[(row.full, chosen)])


def bound(
    job: Job, file: Path, feed: dict[str, Array], profile: str | None = None
) -> tuple[Callable[[], None], Any, dict[str, Any], dict[str, Any]]:
    """A run on buffers that lie on the device, over when that is done; session, inputs, outputs."""
    import onnxruntime as ort

    session = _open(job, file, profile)
    device = "cpu" if job.provider == "cpu" else "cuda"
    binding, make = session.io_binding(), ort.OrtValue.ortvalue_from_shape_and_type
    sizes = {"N": len(feed["image"]), "K": feed["class_index"].shape[1] if len(feed) > 1 else 1}
    inputs = {name: make(x.shape, x.dtype.type, device, 0) for name, x in feed.items()}
    outputs = {}
    for value in session.get_outputs():
        dims = [sizes.get(dim, dim) for dim in value.shape]
        kind = np.int64 if value.type == "tensor(int64)" else np.float32
        outputs[value.name] = make(dims, kind, device, 0)
        binding.bind_ortvalue_output(value.name, outputs[value.name])
    for name, value in inputs.items():
        value.update_inplace(np.ascontiguousarray(feed[name]))
        binding.bind_ortvalue_input(name, value)
    binding.synchronize_inputs()

    def run() -> None:
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()

    return run, session, inputs, outputs


KINDS: dict[str, str] = {
    "forward": "benchmarks.gpu.worker:forward",
    "backlit": "benchmarks.gpu.worker:backlit",
    "torch-forward": "benchmarks.gpu.torch_peers:forward",
    "torch": "benchmarks.gpu.torch_peers:eager",
    "torch-half": "benchmarks.gpu.torch_peers:half",
    "torch-compile": "benchmarks.gpu.torch_peers:compiled",
    "captum": "benchmarks.gpu.torch_peers:captum",
}
"""Kind -> what opens it: ``callable(job, case, mode)`` returns a run, over when its work is done.

In mode ``host`` a run is from images in the host's memory to an ``Answer`` there; in mode
``device`` images and results stay on the device.
"""


def opener(kind: str) -> Callable[[Job, Case, str], Callable[[], Any]]:
    """The function that opens a kind."""
    module, _, name = KINDS.get(kind, kind).partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


def used(provider: str) -> int:
    """Bytes in use: of the device, by everybody; on the CPU of this process."""
    if provider == "cpu":
        try:
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        except OSError:
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE")
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    try:
        library = ctypes.CDLL("libcudart.so.13")  # the one that is loaded
    except OSError:
        return 0
    library.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total))
    return total.value - free.value


class Contender:
    """A job and the runs of the case that is open."""

    def __init__(self, job: Job) -> None:
        self.job, self.open_with = job, opener(job.kind)
        self.runs: dict[str, Callable[[], Any]] = {}

    def ready(self) -> dict[str, Any]:
        """Try the provider; the error says what mends it."""
        from backlit.runtime.backend import probing

        getattr(self.open_with, "ready", probing.candidates)(self.job.provider)
        return {}

    def open(self, case: dict[str, Any], mode: str) -> dict[str, Any]:
        """Open a case in a mode; its memory: what was in use more after the first runs."""
        before, started = used(self.job.provider), time.perf_counter()
        run = self.open_with(self.job, Case(**case), mode)
        opened = time.perf_counter()
        run()
        first = time.perf_counter()
        for _ in range(WARM_UP - 1):
            run()
        self.runs[mode] = run
        return {
            "open_seconds": opened - started, "first_seconds": first - opened,
            "memory_bytes": max(0, used(self.job.provider) - before),
            "elsewhere": getattr(run, "elsewhere", 0),
            "versions": versions(),
        }  # fmt: skip

    def turn(self, mode: str, seconds: float, least: int) -> dict[str, Any]:
        """Runs for so many seconds, ``least`` or more; the time of each.

        One before is not counted: the device may have slowed down while others had their turns.
        """
        run = self.runs[mode]
        times: list[float] = []
        run()
        ends = time.perf_counter() + seconds
        while len(times) < least or (time.perf_counter() < ends and len(times) < 1000):
            started = time.perf_counter()
            run()
            times.append(time.perf_counter() - started)
        return {"times": times}

    def answer(self, path: str) -> dict[str, Any]:
        """Write what a run with copies gives."""
        scores, saliency = self.runs["host"]()
        given = {"scores": scores} if saliency is None else {"scores": scores, "saliency": saliency}
        np.savez(path, allow_pickle=False, **given)
        return {}

    def profile(self, case: dict[str, Any], **how: Any) -> dict[str, Any]:
        """Where the time goes, by operator; with ``kernels``, by CUDA kernel."""
        from benchmarks.gpu import profiling as gpu_profile

        if how.pop("kernels", False):
            return gpu_profile.kernels(self.job, Case(**case), **how)
        return gpu_profile.operators(self.job, Case(**case), **how)

    def close(self) -> dict[str, Any]:
        """Let go of the case and its memory."""
        self.runs.clear()
        getattr(self.open_with, "forget", lambda: None)()
        gc.collect()
        torch = sys.modules.get("torch")
        if torch is not None and self.job.provider != "cpu":
            if (
                "torch._inductor.cudagraph_trees" in sys.modules
            ):  # what was compiled, and its graphs
                torch._dynamo.reset()
                torch._inductor.cudagraph_trees.reset_cudagraph_trees()
            gc.collect()
            torch.cuda.empty_cache()
        return {}


def versions() -> dict[str, str]:
    """Of the libraries that are loaded; cuDNN's and CUDA's as torch was built with them."""
    found = {}
    for name in ("onnxruntime", "torch", "captum", "triton", "tensorrt"):
        version = getattr(sys.modules.get(name), "__version__", None)
        if version:
            found[name] = str(version)
    torch, ort = sys.modules.get("torch"), sys.modules.get("onnxruntime")
    if torch is not None and torch.version.cuda:
        found["CUDA (torch)"] = str(torch.version.cuda)
        found["cuDNN (torch)"] = str(torch.backends.cudnn.version())
    if version := getattr(ort, "cuda_version", None):
        found["CUDA (onnxruntime)"] = str(version)
    return found


def main() -> None:
    """Answer the parent until it closes the pipe."""
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries print; the pipe is for answers alone

    def answer(**values: Any) -> None:
        pipe.write(json.dumps(values) + "\n")
        pipe.flush()

    try:
        sys.modules["benchmarks.gpu.worker"] = sys.modules["__main__"]
        sys.path[0] = str(Path(__file__).resolve().parents[2])
        contender = Contender(Job(**json.loads(sys.stdin.readline())))
        answer(process=os.getpid())
        for line in sys.stdin:
            asked = json.loads(line)
            answer(**getattr(contender, asked.pop("do"))(**asked))
    except Exception as error:  # whatever a library raises is the reason that is reported
        lines = [text.strip() for text in str(error).splitlines() if text.strip()]
        answer(error=f"{type(error).__name__}: {' '.join(lines)}"[:600])


if __name__ == "__main__":
    main()
