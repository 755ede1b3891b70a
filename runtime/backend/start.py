"""A Backlit file open on a provider: where it runs, and the buffers that it runs with."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import threading
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from ..contract import ENGINE_KEY, KEY, Contract
from ..errors import BacklitError, ModelError, OptionError, ProviderError
from .cpu import Bindings
from .cuda.device import BUCKETS, DeviceBindings
from .cuda.driver import Cuda, Driver
from .cuda.lanes import GATE, Streams
from .interface import read_metadata
from .options import Options, on
from .protobuf import metadata, without_outputs
from .providers import Opened, candidates, onnxruntime, open_session, read_file

Maps = Collection[str] | Callable[[Contract], Collection[str]] | None

# Bytes. On a CPU, images one by one take 2 to 7 % less time than four at once (mobilenet_v2,
# resnet50) and a quarter of the memory; but the weights are read for each (vgg16: 4 % more time).
_LIGHT = 256 << 20


@dataclasses.dataclass(frozen=True, eq=False)
class Running:
    """A file that can be run.

    Attributes:
        provider: short name of the execution provider that it really runs on.
        contract: its metadata, with the maps that were left in.
        bindings: what runs it.
        opened: as ``open_session`` gives it; on OpenVINO, which compiles each shape later, the file
            on the CPU.
    """

    provider: str
    contract: Contract
    bindings: Bindings | DeviceBindings
    opened: Opened


@dataclasses.dataclass(frozen=True)
class _File:
    """A file as it is to be opened."""

    path: str
    model: str | bytes
    kept: frozenset[str] | None
    threads: int | None
    options: Options

    def own(self, provider: str) -> dict[str, str]:
        """The user's options of a provider."""
        return dict(self.options.get(provider, {}))


def start(
    path: str,
    providers: str | Sequence[str] | None = None,
    threads: int | None = None,
    maps: Maps = None,
    options: Options | None = None,
) -> Running:
    """Open a file on the providers asked for, or on the best that takes it.

    Arguments and errors are those of ``Session``.
    """
    tried = candidates(providers)
    model, kept = (path, None) if maps is None else _reduced(path, maps)
    file = _File(path, model, kept, threads, options or {})
    problem: ModelError | None = None
    for names in tried:
        # No session is opened on a GPU, and takes memory, while another captures a CUDA graph.
        gate = GATE.using() if names[0] in BUCKETS else contextlib.nullcontext()
        try:
            with gate:
                return _ON.get(names[0], _on_cpu)(file, names)
        except ModelError as error:
            problem = error
    raise problem or ProviderError("No execution provider loads.", "run `backlit doctor`.")


def _on_cpu(file: _File, names: tuple[str, ...]) -> Running:
    opened = _open(file, names)
    contract = read_metadata(opened.session, file.path, file.kept)
    alone = _size(file.path) < _LIGHT
    return Running(
        "cpu", contract, Bindings(contract, lambda _: opened.session, alone=alone), opened
    )


def _on_openvino(file: _File, names: tuple[str, ...]) -> Running:
    """It is much faster in fixed shapes, and compiles for each: not before one is known."""
    plain = dataclasses.replace(file, options={})
    opened = _open(plain, ("cpu",), optimise=False)
    contract = read_metadata(opened.session, file.path, file.kept)
    bindings = Bindings(
        contract, lambda shape: _open(file, names, shape=shape).session, compiles=True
    )
    return Running("openvino", contract, bindings, opened)


def _on_cuda(file: _File, names: tuple[str, ...]) -> Running:
    own = file.own("cuda")
    if any(name.startswith("gpu_external_") for name in own):
        raise OptionError(
            "cuda.gpu_external_alloc and its kin: ONNX Runtime takes no allocator from outside "
            "beside a stream, and a session computes on one of its own.",
            "leave them out; cuda.gpu_mem_limit bounds the memory.",
        )
    # Whether all of the graph is on the device ONNX Runtime knows when it has placed the nodes.
    wishes = [own["enable_cuda_graph"]] if "enable_cuda_graph" in own else _GRAPHS[_old() :]
    with _device(own) as device:
        for wish in wishes:
            extra = {**device.options, "enable_cuda_graph": wish}
            try:
                opened = _open(file, names, {"cuda": {**own, **extra}})
                break
            except ModelError as error:
                if wish == wishes[-1] or "graph capture" not in error.problem:
                    raise
        contract = read_metadata(opened.session, file.path, file.kept)
        return _on_device("cuda", contract, opened, device, BUCKETS["cuda"], graphs=on(wish))


def _on_tensorrt(file: _File, names: tuple[str, ...]) -> Running:
    from .tensorrt.engines import open_tensorrt

    own = file.own("tensorrt")
    if on(own.get("trt_cuda_graph_enable", "0")):
        raise OptionError(
            "tensorrt.trt_cuda_graph_enable: ONNX Runtime's TensorRT provider keeps one CUDA graph "
            "and replays it whatever is bound, and a file is run in several shapes.",
            "leave it out; on cuda each shape has a CUDA graph.",
        )
    data = file.model if isinstance(file.model, bytes) else read_file(file.model)
    contract = Contract.from_json(metadata(data).get(KEY), file.path)
    if file.kept is not None:
        contract = contract.keeping(file.kept)
    with _device(own) as device:
        shared = {name: {**file.own(name), **device.options} for name in names if name in BUCKETS}
        engine = open_tensorrt(
            data, contract, {**file.options, **shared},
            providers=names, threads=file.threads, path=file.path,
        )  # fmt: skip
        contract = read_metadata(engine.session, file.path, file.kept)
        most, classes = engine.shapes.max_images, engine.shapes.max_classes
        buckets = sorted({size for size in BUCKETS["tensorrt"] if size < most} | {most})
        return _on_device("tensorrt", contract, engine, device, buckets, classes=classes)


_ON = {"cuda": _on_cuda, "tensorrt": _on_tensorrt, "openvino": _on_openvino}


def _open(
    file: _File,
    names: tuple[str, ...],
    options: Mapping[str, Mapping[str, str]] | None = None,
    optimise: bool = True,
    shape: tuple[int, int] | None = None,
) -> Opened:
    return open_session(
        file.model, names, file.threads, optimise, shape=shape, path=file.path,
        options={**file.options, **(options or {})},
    )  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class _Device:
    """A GPU, and streams of it.

    Attributes:
        driver: of it.
        streams: to use.
        pooled: those of them that go back; the caller may have a stream of its own to compute on.
    """

    driver: Driver
    streams: Streams
    pooled: Streams

    @property
    def options(self) -> dict[str, str]:
        """Of a provider that is to compute there."""
        return {
            "device_id": str(self.driver.device_id),
            "has_user_compute_stream": "1",
            "user_compute_stream": str(self.streams.compute),
        }


@contextlib.contextmanager
def _device(options: Mapping[str, str]) -> Iterator[_Device]:
    """The GPU that a provider's options name; its streams go back after an error."""
    driver = Cuda(int(options.get("device_id", "0")))
    pooled = _STREAMS.take(driver)
    own = int(options.get("user_compute_stream", "0"))
    streams = dataclasses.replace(pooled, compute=own) if own else pooled
    try:
        yield _Device(driver, streams, pooled)
    except BaseException:
        _STREAMS.give(driver.device_id, pooled)
        raise


def _on_device(
    provider: str,
    contract: Contract,
    opened: Opened,
    device: _Device,
    buckets: Sequence[int],
    graphs: bool = False,
    classes: int | None = None,
) -> Running:
    bindings = DeviceBindings(
        contract, opened.session, device.driver, device.streams, buckets, graphs, classes
    )
    weakref.finalize(bindings, _retire, device).atexit = False
    return Running(provider, contract, bindings, opened)


def _retire(device: _Device) -> None:
    """Before its buffers go, which somebody else may be given: nothing writes to them any more."""
    for stream in dataclasses.astuple(device.streams):
        with contextlib.suppress(BacklitError):
            device.driver.drain(stream)
    _STREAMS.give(device.driver.device_id, device.pooled)


def _old() -> bool:
    """An ONNX Runtime whose CUDA graphs read host memory that is no longer theirs.

    Concat, Split and others of a replayed graph then give other shapes' results (pull requests
    32120 and 32121).
    """
    return tuple(map(int, re.findall(r"\d+", onnxruntime().__version__)[:3])) < (1, 31, 1)


class _Pool:
    """Streams that no session uses any more: ONNX Runtime may still look at one that is gone."""

    def __init__(self) -> None:
        self._free: dict[int, list[Streams]] = {}
        self._lock = threading.RLock()  # a session may be collected, and give, within take

    def take(self, driver: Driver) -> Streams:
        with self._lock:
            if free := self._free.get(driver.device_id):
                return free.pop()

        def make() -> Streams:
            driver.use()  # in a thread of its own: the caller's device stays what it is
            return Streams(driver.stream(), driver.stream(), driver.stream())

        with ThreadPoolExecutor(1) as pool:
            return pool.submit(make).result()

    def give(self, device_id: int, streams: Streams) -> None:
        with self._lock:
            self._free.setdefault(device_id, []).append(streams)


_STREAMS = _Pool()
_GRAPHS = ["1", "0"]


def _reduced(path: str, maps: Maps) -> tuple[str | bytes, frozenset[str] | None]:
    """The model without the maps that nobody wants, and the names of those that stay."""
    model = read_file(path)
    try:
        entries = metadata(model)
    except ModelError:  # ONNX Runtime says so better
        return path, None
    contract = Contract.from_json(entries.get(KEY), path)
    kept = frozenset((maps(contract) if callable(maps) else maps) or ())
    left = contract.keeping(kept)
    if ENGINE_KEY in entries:  # one node makes all maps
        return path, None
    dropped = {made.name for made in contract.maps}.difference(made.name for made in left.maps)
    return (without_outputs(model, dropped), kept) if dropped else (path, None)


def _size(path: str) -> int:
    """Bytes of a file and of the weights beside it."""
    files = (path, f"{path}.data")
    return sum(os.path.getsize(file) for file in files if os.path.exists(file))
