"""Execution providers: ask for them by short name, and prove what was got.

ONNX Runtime falls back to the CPU without an error when a provider's libraries do not load, and
``get_available_providers()`` only tells what was compiled in. So a provider is first tried on a
network of one node (milliseconds, and no second load of a large file), and what the real session
got is compared with what was asked.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import BacklitError, ModelError, OptionError, ProviderError
from . import creation, placement
from . import options as provider_options
from .libraries import FIX_BUILD, SWAP, build_name, explain, last_line, preload, preload_tensorrt
from .options import Options

PROVIDERS = {
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
"""Short name -> ONNX Runtime's name, in the order in which they are tried.

TensorRT builds an engine for minutes before its first result, so it is taken before CUDA only where
it is named.
"""
_GPU = ("cuda", "tensorrt")

# y = 2 x as a convolution of float32 [1,1,1,1], opset 13, IR 8: the smallest network to try a
# provider on. A convolution, because the CUDA provider loads cuDNN only when the first one runs.
_TINY = (
    b"\x08\x08:c\n\x0f\n\x01x\n\x01w\x12\x01y\"\x04Conv\x12\x01g*\x13\x08\x01\x08\x01\x08\x01"
    b"\x08\x01\x10\x01\"\x04\x00\x00\x00@B\x01wZ\x1b\n\x01x\x12\x16\n\x14\x08\x01\x12\x10\n"
    b"\x02\x08\x01\n\x02\x08\x01\n\x02\x08\x01\n\x02\x08\x01b\x1b\n\x01y\x12\x16\n\x14\x08\x01"
    b"\x12\x10\n\x02\x08\x01\n\x02\x08\x01\n\x02\x08\x01\n\x02\x08\x01B\x04\n\x00\x10\r"
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Probe:
    """Whether a provider works in this process.

    Attributes:
        name: short name.
        compiled: this build of ONNX Runtime contains it.
        loads: a network of one node ran on it.
        reason: why it does not load; empty if it does.
        fix: what mends that; empty if it loads.
    """

    name: str
    compiled: bool
    loads: bool
    reason: str = ""
    fix: str = ""


@dataclasses.dataclass(frozen=True)
class Opened:
    """A session of ONNX Runtime, and what it really runs on.

    Attributes:
        session: of ONNX Runtime.
        provider: short name of the first provider.
        elsewhere: of CUDA and TensorRT, the nodes that it left to another provider; computations of
            shapes, which it leaves to the CPU on purpose, are not among them.
        engines: of CUDA and TensorRT, how many groups of nodes it took: 1 is one TensorRT engine.
    """

    session: Any
    provider: str
    elsewhere: tuple[placement.Node, ...] = ()
    engines: int = 0


def onnxruntime() -> Any:
    """The onnxruntime module.

    Raises:
        ProviderError: it is not installed, or two builds have overwritten each other.
    """
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise ProviderError(
            f"ONNX Runtime cannot be imported ({error}).",
            "pip install 'backlit[cpu]' (or 'backlit[gpu]' on a machine with an NVIDIA GPU, or "
            "'backlit[openvino]').",
        ) from error
    if not hasattr(ort, "InferenceSession"):
        raise ProviderError(
            "The onnxruntime package is an empty shell: two of its builds were installed over "
            "each other and one was removed.",
            SWAP + "'backlit[cpu]' (or 'backlit[gpu]', 'backlit[openvino]').",
        )
    return ort


def parse(providers: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """Short names as a tuple; ``"cuda,cpu"`` is split at the commas.

    Raises:
        OptionError: an unknown or missing name.
    """
    if providers is None:
        return None
    names = providers.split(",") if isinstance(providers, str) else list(providers)
    names = [name.strip().lower() for name in names]
    unknown = [name for name in names if name not in PROVIDERS]
    if unknown or not names:
        listed = ", ".join(repr(name) for name in unknown) or "an empty list"
        raise OptionError(
            f"There is no execution provider {listed}.", f"choose among {', '.join(PROVIDERS)}."
        )
    return tuple(dict.fromkeys(names))


@functools.cache
def probe(name: str) -> Probe:
    """Try a provider (short name) on a network of one node. The answer is kept for the process."""
    ort = onnxruntime()
    if PROVIDERS[name] not in ort.get_available_providers():
        reason = f"this ONNX Runtime ({build_name(ort)}) is built without it"
        return Probe(name, compiled=False, loads=False, reason=reason, fix=FIX_BUILD[name])
    problem = preload(ort) if name in _GPU else ""
    # An engine takes seconds, even of one node: that its libraries load and make a builder is
    # enough, and the node stays with ONNX Runtime.
    options = {"tensorrt": {"trt_min_subgraph_size": "1000"}}
    if name == "tensorrt":
        preload_tensorrt(ort)
    try:
        with creation.quiet(ort):
            session = creation.create(ort, _TINY, _settings((name,), options, 1), threads=1)
            got = session.get_providers()[0]
            if got == PROVIDERS[name]:
                import numpy as np

                session.run(None, {"x": np.ones((1, 1, 1, 1), np.float32)})
                return Probe(name, compiled=True, loads=True)
    except Exception as error:  # each provider raises its own kinds
        problem = last_line(error)
    reason, fix = explain(name, ort)
    reason = reason or problem or "ONNX Runtime fell back to the CPU"
    return Probe(name, compiled=True, loads=False, reason=reason, fix=fix)


def candidates(providers: str | Sequence[str] | None) -> list[tuple[str, ...]]:
    """What is tried in turn: the providers that are named, or each that loads.

    Raises:
        ProviderError: one that was named does not load, or none does.
        OptionError: an unknown provider name.
    """
    named = parse(providers)
    if named is None:
        loading = [name for name in PROVIDERS if probe(name).loads]
        if not loading:
            tried = probe("cpu")
            raise ProviderError(f"No execution provider loads: {tried.reason}.", tried.fix)
        return [(name,) for name in loading]
    for name in named:
        tried = probe(name)
        if not tried.loads:
            raise ProviderError(
                f"The execution provider {name!r} does not load: {tried.reason}.", tried.fix
            )
    return [named]


def open_session(
    model: str | os.PathLike[str] | bytes,
    providers: str | Sequence[str] | None = None,
    threads: int | None = None,
    optimise: bool = True,
    shape: tuple[int, int] | None = None,
    path: str | None = None,
    options: Options | None = None,
) -> Opened:
    """Open an ONNX file on the providers asked for, or on the best that loads.

    Args:
        model: path of an ONNX file, or its bytes.
        providers: short names in order of preference; every one must load. None: the first of
            ``PROVIDERS`` that loads.
        threads: threads within an operator; None: one per physical core.
        optimise: False skips ONNX Runtime's graph optimisation (to look into a file, not to run).
        shape: fixes the dimensions N and K of a Backlit file; None leaves them open.
        path: of the file that bytes were read from, which may have weights beside it.
        options: of providers, by short name, over ``provider_options.defaults``.

    Raises:
        ProviderError: a provider that was named does not load; says why and what mends it.
        ModelError: not an ONNX file, truncated, or not taken by this ONNX Runtime.
        OptionError: an unknown provider name, fewer than one thread, an option that no provider
            reads or that the provider refuses.
    """
    if threads is not None and threads < 1:
        raise OptionError(f"{threads} threads are too few.", "give 1 or more.")
    ort = onnxruntime()
    where = (path or "the model") if isinstance(model, bytes) else os.fspath(model)
    named = parse(providers)
    if not isinstance(model, bytes):
        check_file(Path(model))
    problem: Exception | None = None
    tried = candidates(named)
    if options:  # made for one provider, so there is no next one to try
        tried = tried[:1]
        provider_options.check_names(options, tried[0])
    for names in tried:
        try:
            with creation.quiet(ort) if names != ("cpu",) else contextlib.nullcontext():
                settings = _settings(names, options, threads)
                session = creation.create(ort, model, settings, threads, optimise, shape, path)
        except Exception as error:  # pybind exception classes share no base but Exception
            problem = provider_options.refused(last_line(error), options) or error
            continue
        got = session.get_providers()
        if got[: len(names)] == [PROVIDERS[name] for name in names]:
            short = {full: name for name, full in PROVIDERS.items()}
            left = placement.placed(session, model, short) if names[0] in _GPU else ((), 0)
            return Opened(session, names[0], *left)
        problem = _fell_back(where, names, got, options)
    if isinstance(problem, BacklitError):
        raise problem
    raise model_error(where, problem or RuntimeError(""), named) from problem


def _settings(
    names: tuple[str, ...], options: Options | None, threads: int | None
) -> dict[str, dict[str, str]]:
    return {PROVIDERS[name]: provider_options.merged(name, options, threads) for name in names}


def _fell_back(
    where: str, names: tuple[str, ...], got: list[str], options: Options | None
) -> BacklitError:
    """The error where a provider that loads was not made: OpenVINO refuses a value like that."""
    text = f"ONNX Runtime was asked for {', '.join(names)} and took {', '.join(got)} for {where}"
    if options:
        given = [
            f"{name}.{key}={value}" for name, own in options.items() for key, value in own.items()
        ]
        return OptionError(
            f"{text}: the provider refuses {' or '.join(given)}.",
            "correct the value, or leave the option out.",
        )
    return ProviderError(f"{text}.", "run `backlit doctor`, or leave the provider out.")


def model_error(
    where: str, error: Exception, providers: tuple[str, ...] | None = None
) -> ModelError:
    """ONNX Runtime's exception about a file, as an error with a fix."""
    text = last_line(error)
    if "INVALID_PROTOBUF" in text or "No graph was found" in text:
        return ModelError(
            f"{where} is not an ONNX file, or it is damaged or truncated.",
            "check the path and its size, copy the file again, or export the model again.",
        )
    if "opset" in text.lower() or "ir_version" in text.lower() or "IR version" in text:
        return ModelError(
            f"This ONNX Runtime is too old for {where}: {text}", "pip install -U onnxruntime."
        )
    names = providers or ("cpu",)
    if "EPContext" in text:
        return ModelError(
            f"{where} is a TensorRT engine, and no graph for {', '.join(names)}.",
            "use --providers tensorrt where it was built for, or the file it was built from.",
        )
    fix = "the file may be damaged: export the model again."
    if "alloc" in text or "out of memory" in text.lower():
        fix = "the memory is full: use a smaller batch (--batch 1) or fewer classes."
    elif names != ("cpu",):
        fix = "try --providers cpu; `backlit doctor` shows what this machine has."
    return ModelError(f"ONNX Runtime cannot run {where} on {', '.join(names)}: {text}.", fix)


def read_file(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a file, or a ModelError if there is none to read."""
    check_file(Path(path))
    return Path(path).read_bytes()


def check_file(path: Path) -> None:
    """Raise a ModelError if there is no file to read."""
    if path.is_dir():
        raise ModelError(f"{path} is a folder.", "give the .onnx file inside it.")
    if not path.exists():
        raise ModelError(f"{path} does not exist.", "check the path.")
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error.strerror}.", "check its rights."
        ) from error
    if empty:
        raise ModelError(f"{path} is empty.", "copy the file again, or export the model again.")
