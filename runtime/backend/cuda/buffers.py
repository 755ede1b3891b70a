"""Buffers of a Backlit file on a GPU, for each shape that it runs in.

A CUDA graph replays one shape at fixed addresses. So `Buffers` are those of one shape on the
device, the same in pinned memory of the host, and their binding to the graph; there are two for
each shape, so that one is filled or emptied while the other computes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy.typing as npt

from ...contract import Contract
from ...errors import BacklitWarning
from ..interface import Shape, Spec, Tensors, tensors
from ..ort import onnxruntime
from .driver import Driver

BUFFER_SETS = 2
"""Of each shape: one that is filled or emptied while the other computes."""

# Shapes whose buffers are kept; those with a CUDA graph, which ONNX Runtime keeps for good.
_KEPT, _CAPTURED = 4, 16
_NO_GRAPH = -1
_NOT_CAPTURED = "no CUDA graph could be captured, so runs go without from now on: {}"


@dataclasses.dataclass(frozen=True)
class Streams:
    """What a device does at the same time: copies to it, runs, copies from it."""

    up: int
    compute: int
    down: int


class Buffers:
    """Buffers of one shape (N,K) and their binding to the graph; for one run at a time.

    Attributes:
        host: arrays in pinned memory, zeros at first, by name of input or output.
        device: the OrtValues that the graph is bound to, by name.
        row: bytes of an image's part of each.
        uploaded, computed, downloaded: events, each of the last run's.
        source, targets: what the last run was copied from and to, if that is not ``host``: ONNX
            Runtime may give freed memory of the device to anybody while copies are under way.
        captured: runs are replays of a CUDA graph.
    """

    def __init__(self, session: Any, shape: Tensors, driver: Driver, graph: int | None) -> None:
        """Allocate and bind.

        Args:
            session: of ONNX Runtime.
            shape: of its inputs and outputs.
            driver: of the device.
            graph: number of the CUDA graph that the first run captures and later ones replay; -1
                for none; None where the session captures none.
        """
        self._session, self._io = session, session.io_binding()
        value = onnxruntime().OrtValue.ortvalue_from_shape_and_type
        self.host: dict[str, npt.NDArray[Any]] = {}
        self.device: dict[str, Any] = {}
        self.row: dict[str, int] = {}
        for name, (dims, dtype) in {**shape.inputs, **shape.outputs}.items():
            self.host[name] = driver.pinned(dims, dtype)
            self.device[name] = value(dims, dtype, driver.name, driver.device_id)
            self.row[name] = self.host[name].nbytes // dims[0]
        for name in shape.inputs:
            self._io.bind_ortvalue_input(name, self.device[name])
        for name in shape.outputs:
            self._io.bind_ortvalue_output(name, self.device[name])
        self.uploaded, self.computed, self.downloaded = (driver.event() for _ in range(3))
        self.source: Any = None
        self.targets: Any = None
        self.captured = graph not in (None, _NO_GRAPH)
        self._options = onnxruntime().RunOptions()
        # Events say when a run is done: ONNX Runtime need not wait for the device.
        self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        if graph is not None:
            self._options.add_run_config_entry("gpu_graph_id", str(graph))

    def run(self) -> None:
        """Give the run to the device."""
        self._session.run_with_iobinding(self._io, self._options)


class Gate:
    """Either some threads use the device, or one makes buffers.

    CUDA gives up a graph that is being captured when any thread of the process allocates memory,
    those of other sessions too (``cudaStreamCaptureModeGlobal``, which ONNX Runtime asks for).

    Attributes:
        changed: held to read or write the others.
        busy: buffers in use and sessions being opened.
        making: somebody makes buffers, or waits for that.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.busy, self.making = 0, False

    @contextlib.contextmanager
    def using(self) -> Iterator[None]:
        """Use the device, when nobody makes buffers."""
        with self.changed:
            while self.making:
                self.changed.wait()
            self.busy += 1
        try:
            yield
        finally:
            with self.changed:
                self.busy -= 1
                self.changed.notify_all()


GATE = Gate()
"""Of this process."""


class BufferPool:
    """The buffers of a file: made when a shape is first run, lent to one run at a time."""

    def __init__(
        self, contract: Contract, session: Any, driver: Driver, streams: Streams, graphs: bool
    ) -> None:
        """Take no memory yet; arguments as of ``DeviceBindings``."""
        self._contract, self._session, self._driver = contract, session, driver
        self._stream, self._graphs = streams.compute, graphs
        self._numbers, self._captures = itertools.count(1), True
        self._free: OrderedDict[Shape, list[Buffers]] = OrderedDict()
        # ONNX Runtime keeps CUDA graphs, and handles of cuDNN, for each thread that runs.
        self.launcher = ThreadPoolExecutor(1, "backlit-launch", initializer=driver.use)

    def allocate(self, specs: dict[str, Spec]) -> dict[str, Any]:
        """New OrtValues on the device, by name."""
        make, driver = onnxruntime().OrtValue.ortvalue_from_shape_and_type, self._driver

        def made() -> dict[str, Any]:
            where = driver.name, driver.device_id
            return {name: make(*spec, *where) for name, spec in specs.items()}

        with GATE.using():
            return self.launcher.submit(made).result()

    def free(self, shape: Shape) -> Buffers | None:
        """A free set of buffers of that shape, if there is one."""
        with GATE.changed:
            sets = self._free.get(shape)
            if GATE.making or not sets:
                return None
            GATE.busy += 1
            self._free.move_to_end(shape)
            return sets.pop(0)  # in turns: the other may still be read

    def take(self, shape: Shape) -> Buffers:
        """A set of buffers of that shape, made or waited for; whoever calls holds none."""
        with GATE.changed:
            while (buffers := self.free(shape)) is None:
                if GATE.making or shape in self._free:
                    GATE.changed.wait()
                    continue
                GATE.making = True
                try:
                    # Nothing else may use the device while a CUDA graph is captured.
                    while GATE.busy:
                        GATE.changed.wait()
                    self._drop()
                    self._free[shape] = self.launcher.submit(self._made, shape).result()
                finally:
                    GATE.making = False
                    GATE.changed.notify_all()
            return buffers

    def give(self, buffers: Buffers, shape: Shape) -> None:
        """Take a set of buffers back."""
        with GATE.changed:
            self._free[shape].append(buffers)
            GATE.busy -= 1
            GATE.changed.notify_all()

    def _made(self, shape: Shape) -> list[Buffers]:
        """New buffers; in the launcher's thread."""
        spec, made = tensors(self._contract, shape), list[Buffers]()
        captured = sum(buffers.captured for sets in self._free.values() for buffers in sets)
        for _ in range(BUFFER_SETS):
            graph = None
            if self._graphs:
                more = self._captures and captured < _CAPTURED
                graph = next(self._numbers) if more else _NO_GRAPH
            made.append(self._set(spec, graph))
            captured += made[-1].captured
        return made

    def _set(self, spec: Tensors, graph: int | None) -> Buffers:
        driver, buffers = self._driver, Buffers(self._session, spec, self._driver, graph)
        for name in spec.inputs:  # what stands there by chance is no class
            zeros, target = buffers.host[name], buffers.device[name].data_ptr()
            driver.copy(target, zeros.ctypes.data, zeros.nbytes, self._stream)
        driver.record(buffers.computed, self._stream)
        driver.synchronize(buffers.computed)
        if buffers.captured:
            try:
                buffers.run()
            except Exception as error:  # a kernel that waits; or another library was at work
                warnings.warn(_NOT_CAPTURED.format(error), BacklitWarning, stacklevel=2)
                self._captures = False
                return self._set(spec, _NO_GRAPH)
            driver.record(buffers.computed, self._stream)
            driver.synchronize(buffers.computed)
        return buffers

    def _drop(self) -> None:
        """Let the shape go that was run longest ago, if there are too many."""
        plain = [shape for shape, sets in self._free.items() if not sets[0].captured]
        if len(plain) >= _KEPT:
            for buffers in self._free.pop(plain[0]):
                for event in (buffers.uploaded, buffers.downloaded):
                    self._driver.synchronize(event)
