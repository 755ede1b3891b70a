"""A device without a GPU: streams are threads, its memory is the host's, copies take their time.

What it does not keep in order nobody keeps in order: each stream does its own work one after the
other, after random delays, and waits for another stream only where an event says so.
"""

import ctypes
import queue
import random
import threading
import time

import numpy as np
from backlit.runtime.backend.cuda.buffers import Streams

WAIT = 30


class Event:
    def __init__(self):
        self.happened = threading.Event()
        self.happened.set()


class Stream(threading.Thread):
    def __init__(self, seed, delay):
        super().__init__(daemon=True)
        self.work, self.random, self.delay = queue.SimpleQueue(), random.Random(seed), delay
        self.error = None
        self.start()

    def run(self):
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

    def __init__(self, seed=0, delay=0.0):
        self.seed, self.delay, self.streams, self.lock = seed, delay, [], threading.Lock()
        self.used, self.copied = 0, []

    def use(self):
        self.used += 1

    def stream(self):
        with self.lock:
            self.streams.append(Stream(self.seed * 100 + len(self.streams), self.delay))
            return len(self.streams)

    def three(self):
        return Streams(self.stream(), self.stream(), self.stream())

    def give(self, stream, task):
        self.streams[stream - 1].work.put(task)

    def event(self):
        return Event()

    def record(self, event, stream):
        # A later record replaces what the event stands for; who waits already waits for the old.
        event.happened = mark = threading.Event()
        self.give(stream, mark.set)

    def wait(self, stream, event):
        mark = event.happened
        self.give(stream, lambda: self._await(mark))

    def synchronize(self, event):
        self._await(event.happened)

    def drain(self, stream):
        mark = threading.Event()
        self.give(stream, mark.set)
        self._await(mark)

    @staticmethod
    def _await(mark):
        if not mark.wait(WAIT):
            raise TimeoutError("the event never happened")

    def copy(self, target, source, size, stream):
        with self.lock:
            self.copied.append(size)
        self.give(stream, lambda: ctypes.memmove(target, source, size))

    def pinned(self, shape, dtype):
        return np.zeros(shape, dtype)

    def check(self):
        for stream in self.streams:
            if stream.error is not None:
                raise stream.error


class Session:
    """A session of ONNX Runtime whose runs are work of a stream; remembers graphs.

    As the CUDA provider does, it keeps a graph for each thread and number: the first run of a
    number captures it with its binding's addresses, and later ones replay those.
    """

    def __init__(self, session, driver, stream):
        self.session, self.driver, self.stream = session, driver, stream
        self.graphs, self.numbers, self.running, self.threads = {}, [], 0, set()

    def io_binding(self):
        return self.session.io_binding()

    def run_with_iobinding(self, io, options):
        self.threads.add(threading.get_ident())
        try:
            number = options.get_run_config_entry("gpu_graph_id")
        except RuntimeError:  # none was set
            number = None
        self.numbers.append(number)
        if number not in (None, "-1"):
            io = self.graphs.setdefault((threading.get_ident(), number), io)
        self.driver.give(self.stream, lambda: self.compute(io))

    def compute(self, io):
        self.running += 1
        if self.running != 1:
            raise RuntimeError("two runs at a time on one stream")
        self.session.run_with_iobinding(io)
        self.running -= 1


class Frames:
    """Images on the simulated device that a stream of somebody else is still making."""

    def __init__(self, driver, values, place=(1, 0)):
        self.values = own = np.zeros_like(values)
        self.driver, self.place, stream = driver, place, driver.stream()
        driver.give(stream, lambda: np.copyto(own, values))
        self.made = driver.event()
        driver.record(self.made, stream)
        self.asked = None

    def __dlpack__(self, *, stream=None):
        self.asked = stream
        self.driver.wait(stream, self.made)
        return self.values.__dlpack__()

    def __dlpack_device__(self):
        return self.place
