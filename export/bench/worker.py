"""One contender of the benchmark, in a process of its own: run by path, not as a module.

It reads a job as one line of JSON, opens the contender, and then does one run for every line
``run`` that it is asked for. Importing ``backlit.export`` would bring onnx and its memory into the
process that measures Backlit's; so nothing here does, and the runtime comes in only where it runs.
"""

from __future__ import annotations

import dataclasses
import gc
import importlib
import importlib.util
import json
import os
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Answer = tuple[Array, Array | None]
"""float32 scores [N, classes] and saliency [N, K, H, W]; None from a forward pass alone."""
Run = Callable[[], Answer]


@dataclasses.dataclass(frozen=True)
class Job:
    """What a worker is to run; travels as JSON.

    Attributes:
        contender: a name of ``CONTENDERS``, ``backlit-PROVIDER`` (and ``-singly``), or
            ``package.module:callable``, called with the job, which returns a ``Run``.
        threads: that may compute at a time.
        images: .npy, as the Backlit file takes them: uint8 [N,H,W,C] or float32 [N,C,H,W].
        index: .npy, int64 [N,K], classes to explain.
        classes: number of scores.
        backlit: the Backlit file; forward: the part of it that makes the scores.
        classifier: the source as ONNX, float32 [N,C,H,W], untouched; None where it is not known.
        module: the source as a pickled torch module; None where it is none, or cannot be pickled.
        scale, shift: per channel, what the classifier takes of a pixel; None for a float32 file.
        bgr: the classifier takes BGR.
        version: of Backlit.
    """

    contender: str
    threads: int
    images: str
    index: str
    classes: int
    backlit: str
    forward: str
    classifier: str | None = None
    module: str | None = None
    scale: list[float] | None = None
    shift: list[float] | None = None
    bgr: bool = False
    version: str | None = None

    def prepared(self) -> Array:
        """The images as the classifier takes them, float32 [N,C,H,W]."""
        images = np.load(self.images)
        if self.scale is None or self.shift is None:
            return images
        ordered = images[..., ::-1] if self.bgr else images
        values = ordered * np.array(self.scale, np.float32) + np.array(self.shift, np.float32)
        return np.ascontiguousarray(values.transpose(0, 3, 1, 2), dtype=np.float32)

    def seeds(self) -> Array:
        """One-hot seeds of the backward passes, float32 [K, N, classes]."""
        return np.eye(self.classes, dtype=np.float32)[np.load(self.index).T]


def forward(job: Job) -> Run:
    """ONNX Runtime's CPU provider on the part of the Backlit file that makes the scores."""
    images = np.load(job.images)
    run = _bound(job.forward, job, {"image": images}, {"scores": (len(images), job.classes)})
    return lambda: (run()[0], None)


def classifier(job: Job) -> Run:
    """ONNX Runtime's CPU provider on the source as it was, without Backlit's prologue."""
    if job.classifier is None:
        raise ValueError("the classifier that the file was made of is not known")
    session = _session(job.classifier, job)
    (image, *_), (scores, *_) = session.get_inputs(), session.get_outputs()
    images = job.prepared()

    def run() -> Answer:
        (found,) = session.run([scores.name], {image.name: images})
        return found.reshape(len(images), -1), None

    return run


def backlit(job: Job) -> Run:
    """Backlit's own runtime on the provider of the contender's name; ``-singly``: K runs."""
    from backlit.runtime.session import Session

    provider = job.contender.split("-")[1]
    session = Session(job.backlit, provider, job.threads)
    images, index = np.load(job.images), np.load(job.index)

    def run() -> Answer:
        found = session.run(images, index)
        return found.scores, found.saliency

    def singly() -> Answer:
        found = [session.run(images, index[:, k : k + 1]) for k in range(index.shape[1])]
        return found[0].scores, np.concatenate([each.saliency for each in found], axis=1)

    return singly if job.contender.endswith("-singly") else run


def onnx_ad(job: Job) -> Run:
    """The package onnx-ad: its reverse graph of the same forward part, all K seeds in one run."""
    import onnx

    reverse = importlib.import_module("onnx_ad").reverse
    model = onnx.load(job.forward)
    graph, images = model.graph, np.load(job.images)
    (pixels,) = graph.input
    if images.dtype == np.uint8:  # it differentiates by floating-point inputs: past the Cast
        (cast,) = (node for node in graph.node if pixels.name in node.input)
        if cast.op_type != "Cast":
            raise ValueError(f"the image goes into a {cast.op_type}, not a Cast")
        pixels.name = cast.output[0]
        pixels.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
        graph.node.remove(cast)
    del graph.value_info[:]  # it asks for every shape in numbers, the batch's too
    for value in (pixels, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = len(images)
    model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    made = reverse(model, inputs=[pixels.name], outputs=["scores"], layout="onnx")
    seeds = np.ascontiguousarray(job.seeds().transpose(1, 2, 0))  # [N, classes, K]
    feed = {pixels.name: images.astype(np.float32), made.graph.input[-1].name: seeds}
    shapes: dict[str, tuple[int, ...]] = {
        "scores": seeds.shape[:2],
        made.graph.output[-1].name: (*images.shape, seeds.shape[2]),
    }
    runner = _bound(made.SerializeToString(), job, feed, shapes)
    axis = 3 if images.dtype == np.uint8 else 1

    def run() -> Answer:
        feed[pixels.name][...] = images  # from the same pixels as the others
        scores, gradient = runner()
        saliency = np.abs(gradient).max(axis=axis)
        return scores, np.ascontiguousarray(saliency.transpose(0, 3, 1, 2))

    return run


@dataclasses.dataclass(frozen=True)
class Contender:
    """How a contender is opened: a function here or in torch_peers.py, and what it imports."""

    function: str
    imports: tuple[str, ...]


CONTENDERS = {
    "forward": Contender("forward", ("onnxruntime",)),
    "classifier": Contender("classifier", ("onnxruntime",)),
    "torch": Contender("eager", ("torch",)),
    "torch-channels-last": Contender("channels_last", ("torch",)),
    "torch-batched": Contender("batched", ("torch",)),
    "torch-compile": Contender("compiled", ("torch", "torch._dynamo", "torch._inductor")),
    "captum": Contender("captum", ("torch", "captum.attr")),
    "onnx-ad": Contender("onnx_ad", ("onnx", "onnx_ad", "onnxruntime")),
}


def find(name: str) -> tuple[Callable[[Job], Run], tuple[str, ...]]:
    """The function that opens a contender, and the modules to import before it is timed."""
    if name.startswith("backlit-"):
        # The runtime beside this file, whatever this interpreter has installed or not. The module
        # backlit is a namespace, so there is nothing in it to import.
        package = types.ModuleType("backlit")
        package.__path__ = [str(Path(__file__).parents[2])]
        sys.modules[package.__name__] = package
        return backlit, ("onnxruntime", "backlit.runtime.session")
    if ":" in name:
        module, _, attribute = name.partition(":")
        return getattr(importlib.import_module(module), attribute), ()
    kind = CONTENDERS[name]
    if kind.function in globals():
        return globals()[kind.function], kind.imports
    # By path: as backlit.export.bench.torch_peers it would bring the whole package with it.
    file = Path(__file__).with_name("torch_peers.py")
    spec = importlib.util.spec_from_file_location("torch_peers", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} cannot be loaded")
    module_ = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module_)
    return getattr(module_, kind.function), kind.imports


def _session(model: str | bytes, job: Job) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads, options.inter_op_num_threads = job.threads, 1
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _bound(
    model: str | bytes, job: Job, feed: dict[str, Array], shapes: dict[str, tuple[int, ...]]
) -> Callable[[], list[Array]]:
    """Runs with preallocated buffers as backlit.runtime's do: copy in, run, copy out."""
    import onnxruntime as ort

    session = _session(model, job)
    binding, make = session.io_binding(), ort.OrtValue.ortvalue_from_shape_and_type
    inputs = {name: make(x.shape, x.dtype.type, "cpu", 0) for name, x in feed.items()}
    outputs = {name: make(shape, np.float32, "cpu", 0) for name, shape in shapes.items()}
    for name, value in inputs.items():
        binding.bind_ortvalue_input(name, value)
    for name, value in outputs.items():
        binding.bind_ortvalue_output(name, value)

    def run() -> list[Array]:
        for name, value in inputs.items():
            value.update_inplace(feed[name])
        session.run_with_iobinding(binding)
        return [np.array(value.numpy()) for value in outputs.values()]

    return run


def memory() -> dict[str, int]:
    """Bytes resident now (VmRSS) and at most since the last ``reset_peak`` (VmHWM); Linux.

    Not ru_maxrss, which on Linux also holds the size of the process that started this one.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    fields = dict(line.split(":", 1) for line in lines)
    return {key: int(fields[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM")}


def reset_peak() -> None:
    """Give back what is free, and let VmHWM start again from what is resident."""
    import ctypes

    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except (OSError, AttributeError, TypeError):
        return  # not Linux, or not glibc: then the peak is that of the whole life


def main() -> None:
    """Answer the parent until it closes the pipe."""
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries print; the pipe is for answers alone

    def answer(**values: Any) -> None:
        pipe.write(json.dumps(values) + "\n")
        pipe.flush()

    try:
        job = Job(**json.loads(sys.stdin.readline()))
        if hasattr(os, "sched_setaffinity"):  # some libraries keep pools that no variable bounds
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-job.threads :])
        started = time.perf_counter()
        opener, imports = find(job.contender)
        for name in imports:
            importlib.import_module(name)
        imported = time.perf_counter()
        run = opener(job)
        opened = time.perf_counter()
        opening = memory().get("VmHWM")
        reset_peak()
        before, first = memory().get("VmRSS"), None
        versions = {}
        for name in imports:
            package = name.partition(".")[0]
            if package not in versions:
                versions[package] = getattr(sys.modules[package], "__version__", None)
        if "backlit" in versions:
            versions["backlit"] = job.version
        answer(import_seconds=imported - started, open_seconds=opened - imported, versions=versions)
        for line in sys.stdin:
            if line.strip() == "run":
                wall, cpu = time.perf_counter(), time.process_time()
                found = run()
                cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
                if first is None:
                    first = found
                answer(seconds=wall, cpu_seconds=cpu)
            elif first is not None:  # the path for the first answer
                scores, saliency = first
                given = {"scores": scores} if saliency is None else {
                    "scores": scores, "saliency": saliency
                }  # fmt: skip
                running = memory().get("VmHWM")
                np.savez(line.strip(), allow_pickle=False, **given)
                answer(opening_bytes=opening, before_bytes=before, running_bytes=running)
    except Exception as error:  # whatever a library raises is the reason that is reported
        lines = [text.strip() for text in str(error).splitlines() if text.strip()]
        answer(error=f"{type(error).__name__}: {' '.join(lines)}"[:400])


if __name__ == "__main__":
    main()
