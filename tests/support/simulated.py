"""A device without a GPU: streams are threads, its memory is the host's, copies take their time.

What it does not keep in order nobody keeps in order: each stream does its own work one after the
other, after random delays, and waits for another stream only where an event says so.
"""

import ctypes
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from backlit.runtime.backend.cuda.buffers import Streams

WAIT = 30


class Event:
    def __init__(self) -> None:
        self.happened = threading.Event()
        self.happened.set()


class Stream(threading.Thread):
    def __init__(self, seed: int, delay: float) -> None:
        super().__init__(daemon=True)
        self.work: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self.random, self.delay = random.Random(seed), delay
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        while (task := self.work.get()) is not None:
            if self.delay:
                time.sleep(self.random.random() * self.delay)
            try:
                task()
            except Exception as error:  # told by the test
                self.error = error


class Simulated:
    """A `backlit.runtime.cuda.Driver`; ``delay``: the longest, in seconds, before anything done."""

    name, device_id, dlpack = "cpu", 0, 1

    def __init__(self, seed: int = 0, delay: float = 0.0) -> None:
        self.seed, self.delay, self.lock = seed, delay, threading.Lock()
        self.streams: list[Stream] = []
        self.used = 0
        self.copied: list[int] = []

    def use(self) -> None:
        self.used += 1

    def stream(self) -> int:
        with self.lock:
            self.streams.append(Stream(self.seed * 100 + len(self.streams), self.delay))
            return len(self.streams)

    def three(self) -> Streams:
        return Streams(self.stream(), self.stream(), self.stream())

    def give(self, stream: int, task: Callable[[], object]) -> None:
        self.streams[stream - 1].work.put(task)

    def event(self) -> Event:
        return Event()

    def record(self, event: Event, stream: int) -> None:
        # A later record replaces what the event stands for; who waits already waits for the old.
        event.happened = mark = threading.Event()
        self.give(stream, mark.set)

    def wait(self, stream: int, event: Event) -> None:
        mark = event.happened
        self.give(stream, lambda: self._await(mark))

    def synchronize(self, event: Event) -> None:
        self._await(event.happened)

    def drain(self, stream: int) -> None:
        mark = threading.Event()
        self.give(stream, mark.set)
        self._await(mark)

    @staticmethod
    def _await(mark: threading.Event) -> None:
        if not mark.wait(WAIT):
            raise TimeoutError("the event never happened")

    def copy(self, target: int, source: int, size: int, stream: int) -> None:
        with self.lock:
            self.copied.append(size)
        self.give(stream, lambda: ctypes.memmove(target, source, size))

    def pinned(self, shape: Sequence[int], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        return np.zeros(shape, dtype)

    def check(self) -> None:
        for stream in self.streams:
            if stream.error is not None:
                raise stream.error


class Session:
    """A session of ONNX Runtime whose runs are work of a stream; remembers graphs.

    As the CUDA provider does, it keeps a graph for each thread and number: the first run of a
    number captures it with its binding's addresses, and later ones replay those.
    """

    def __init__(
        self, session: onnxruntime.InferenceSession, driver: Simulated, stream: int
    ) -> None:
        self.session, self.driver, self.stream = session, driver, stream
        self.graphs: dict[tuple[int, str], onnxruntime.IOBinding] = {}
        self.numbers: list[str | None] = []
        self.running = 0
        self.threads: set[int] = set()

    def io_binding(self) -> onnxruntime.IOBinding:
        return self.session.io_binding()

    def run_with_iobinding(
        self, io: onnxruntime.IOBinding, options: onnxruntime.RunOptions
    ) -> None:
        self.threads.add(threading.get_ident())
        try:
            number: str | None = options.get_run_config_entry("gpu_graph_id")
        except RuntimeError:  # none was set
            number = None
        self.numbers.append(number)
        if number is not None and number != "-1":
            io = self.graphs.setdefault((threading.get_ident(), number), io)
        self.driver.give(self.stream, lambda: self.compute(io))

    def compute(self, io: onnxruntime.IOBinding) -> None:
        self.running += 1
        if self.running != 1:
            raise RuntimeError("two runs at a time on one stream")
        self.session.run_with_iobinding(io)
        self.running -= 1


class Frames:
    """Images on the simulated device that a stream of somebody else is still making."""

    def __init__(
        self, driver: Simulated, values: npt.NDArray[Any], place: tuple[int, int] = (1, 0)
    ) -> None:
        self.values = own = np.zeros_like(values)
        self.driver, self.place, stream = driver, place, driver.stream()
        driver.give(stream, lambda: np.copyto(own, values))
        self.made = driver.event()
        driver.record(self.made, stream)
        self.asked: int | None = None

    def __dlpack__(self, *, stream: int) -> object:
        self.asked = stream
        self.driver.wait(stream, self.made)
        return self.values.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.place
