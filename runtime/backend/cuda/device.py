"""The graph of a Backlit file on a GPU: fixed shapes, and copies beside the computing.

Images are padded or split to a few batch sizes. Pixels go up, runs are computed and maps come down
on a stream of their own each; events between the streams keep the order.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
import numpy.typing as npt

from ...contract import Contract
from ...errors import OptionError
from ..interface import Shape, tensors
from ..ort import onnxruntime
from .buffers import GATE, BufferPool, Buffers, Streams
from .driver import Driver

# A run costs about as much as so many images more: launches, and a device that is not full.
_RUN = 8


@functools.lru_cache(maxsize=256)
def split(images: int, buckets: tuple[int, ...]) -> tuple[int, ...]:
    """The runs that images are made in: batch sizes, largest first; the last one may be padded.

    Args:
        images: 1 or more.
        buckets: batch sizes there are, ascending.
    """
    largest = buckets[-1]
    full = max(0, images - 1) // largest - 1
    if full > 0:  # what follows looks at every number of images up to this one
        return (largest,) * full + split(images - full * largest, buckets)
    best: list[tuple[int, tuple[int, ...]]] = [(0, ())]
    for count in range(1, images + 1):
        rest = [(best[max(0, count - size)], size) for size in buckets]
        best.append(min((cost + size + _RUN, (*runs, size)) for (cost, runs), size in rest))
    return tuple(sorted(best[images][1], reverse=True))


class DeviceArray:
    """A result on the device, for whoever takes DLPack (torch, CuPy, JAX); nothing is copied.

    Attributes:
        shape, dtype: as NumPy has them.
    """

    def __init__(self, value: Any, dtype: npt.DTypeLike, done: Any, driver: Driver) -> None:
        self._value, self._done, self._driver = value, done, driver
        self.shape: tuple[int, ...] = tuple(value.shape())
        self.dtype: np.dtype[Any] = np.dtype(dtype)

    def __repr__(self) -> str:
        return f"DeviceArray({self.dtype} {list(self.shape)}, {self._driver.name})"

    def __dlpack__(self, *, stream: int | None = None, **_: Any) -> Any:
        """A capsule; what the consumer's stream does from now on waits for the result.

        Args:
            stream: of the consumer, as the array API standard has it for CUDA: an address, 1 for
                the legacy default stream, 2 for the per-thread one, -1: nobody waits. None: this
                thread waits.
        """
        if stream is None:
            with GATE.using():
                self._driver.synchronize(self._done)
        elif stream != -1:
            self._driver.wait(stream, self._done)
        return self._value.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._driver.dlpack, self._driver.device_id

    def numpy(self) -> npt.NDArray[Any]:
        """A copy on the host."""
        with GATE.using():
            self._driver.synchronize(self._done)
            return np.array(self._value.numpy())


@dataclasses.dataclass(frozen=True, eq=False)
class _Run:
    """A run under way: its buffers and shape, the images it is of, the launch."""

    buffers: Buffers
    shape: Shape
    rows: slice
    launched: Future[None]


class DeviceBindings:
    """A file's graph on a device, run in any shape, by any number of threads at once."""

    def __init__(
        self,
        contract: Contract,
        session: Any,
        driver: Driver,
        streams: Streams,
        buckets: Sequence[int],
        graphs: bool = False,
        classes: int | None = None,
    ) -> None:
        """Take no memory yet.

        Args:
            contract: the file's metadata.
            session: of ONNX Runtime, computing on ``streams.compute``.
            driver: of the device.
            streams: on it, used by nobody else.
            buckets: batch sizes, ascending.
            graphs: the session captures CUDA graphs.
            classes: the most that it takes in a run; None: any number.
        """
        self._contract, self._driver = contract, driver
        self._streams, self._buckets, self._classes = streams, tuple(buckets), classes
        self.graphs = graphs
        self._pool = BufferPool(contract, session, driver, streams, graphs)

    def fresh(self) -> DeviceBindings:
        """The same: its buffers serve many threads."""
        return self

    def run(self, images: npt.NDArray[Any], index: npt.NDArray[np.int64]) -> list[Any]:
        """Scores, classes, score and the maps for class_index [N,K]; the caller's own."""
        most = self._classes or index.shape[1]
        if index.shape[1] > most:
            starts = range(0, index.shape[1], most)
            parts = [self.run(images, index[:, start : start + most]) for start in starts]
            scores, *others = zip(*parts, strict=True)
            return [scores[0], *(np.concatenate(one, axis=1) for one in others)]
        shapes = tensors(self._contract, (index.shape[0], index.shape[1])).outputs
        made = {name: np.empty(dims, dtype) for name, (dims, dtype) in shapes.items()}
        pending: deque[_Run] = deque()
        try:
            for shape, rows in self._parts(index):
                while (buffers := self._pool.free(shape)) is None and pending:
                    self._finish(pending, made)  # it may be our own run that holds it
                buffers = buffers or self._pool.take(shape)
                try:
                    launched = self._begin(buffers, images[rows], index[rows])
                except BaseException:
                    self._pool.give(buffers, shape)
                    raise
                pending.append(_Run(buffers, shape, rows, launched))
            while pending:
                self._finish(pending, made)
        finally:
            while pending:  # after an error, which is the one to tell
                with contextlib.suppress(Exception):
                    self._finish(pending, None)
        return list(made.values())

    def run_dlpack(self, images: Any, index: npt.NDArray[np.int64]) -> list[DeviceArray]:
        """``run`` of images on the device; the results stay there, and may not be computed yet.

        Args:
            images: has ``__dlpack__``; contiguous, of the graph's type and shape.
            index: int64 [N,K], on the host.

        Raises:
            OptionError: they are elsewhere, or of another type or shape; or K is too large for the
                session.
        """
        if self._classes and index.shape[1] > self._classes:
            raise OptionError(
                f"{index.shape[1]} classes are more than the engine takes at a time: "
                f"{self._classes}.",
                "ask for fewer, or set trt_profile_max_shapes (class_index:NxK) to more.",
            )
        wanted = tensors(self._contract, (index.shape[0], index.shape[1]))
        driver, place = self._driver, (self._driver.dlpack, self._driver.device_id)
        if tuple(images.__dlpack_device__()) != place:
            raise OptionError(
                f"the images are on the DLPack device {tuple(images.__dlpack_device__())}, the "
                f"file on {place}.",
                "move them there, or give host arrays to Session.run.",
            )
        # Whoever made the images lets our stream wait until they are made.
        value = onnxruntime().OrtValue
        source = value.from_dlpack(images.__dlpack__(stream=self._streams.up))
        dims, dtype = wanted.inputs["image"]
        kind = "tensor(uint8)" if dtype is np.uint8 else "tensor(float)"
        if (tuple(source.shape()), source.data_type()) != (dims, kind):
            raise OptionError(
                f"the images are {source.data_type()} {source.shape()}.",
                f"give {kind} {list(dims)}.",
            )
        made = self._pool.allocate(wanted.outputs)
        for shape, rows in self._parts(index):
            buffers = self._pool.take(shape)
            try:
                self._begin(buffers, source, index[rows], rows.start, made).result()
            finally:
                self._pool.give(buffers, shape)
        # Where the launcher is, the device is the current one, as a new event wants it.
        done = self._pool.launcher.submit(self._mark).result()
        kinds = {name: dtype for name, (_, dtype) in wanted.outputs.items()}
        return [DeviceArray(made[name], kinds[name], done, driver) for name in made]

    def _mark(self) -> Any:
        """An event after all copies so far."""
        done = self._driver.event()
        self._driver.record(done, self._streams.down)
        return done

    def _parts(self, index: npt.NDArray[np.int64]) -> list[tuple[Shape, slice]]:
        """The shapes to run in, and the images of each."""
        parts, start = [], 0
        for size in split(len(index), self._buckets):
            stop = min(len(index), start + size)
            parts.append(((size, index.shape[1]), slice(start, stop)))
            start = stop
        return parts

    def _begin(
        self,
        buffers: Buffers,
        images: Any,
        index: npt.NDArray[np.int64],
        first: int = 0,
        targets: Mapping[str, Any] | None = None,
    ) -> Future[None]:
        """Fill a set of buffers and have it run.

        Args:
            buffers: free; images after the last one given are those of an earlier run.
            images: array on the host, or an OrtValue on the device.
            index: int64 [n,K].
            first: place of the first image in ``images`` and ``targets``, if they are OrtValues.
            targets: OrtValues by name that get the outputs; None: their own on the host.
        """
        driver, streams, count = self._driver, self._streams, len(index)
        driver.synchronize(buffers.uploaded)  # what the host holds may still be read
        if buffers.targets is not None:
            driver.synchronize(buffers.downloaded)
        buffers.host["class_index"][:count] = index
        image = buffers.host["image"].ctypes.data
        if isinstance(images, np.ndarray):
            buffers.host["image"][:count] = images
        else:
            image = images.data_ptr() + first * buffers.row["image"]
        buffers.source, buffers.targets = None if targets is None else images, targets
        driver.wait(streams.up, buffers.computed)
        addresses = {"image": image, "class_index": buffers.host["class_index"].ctypes.data}
        for name, address in addresses.items():
            size = count * buffers.row[name]
            driver.copy(buffers.device[name].data_ptr(), address, size, streams.up)
        driver.record(buffers.uploaded, streams.up)
        outputs = [name for name in buffers.host if name not in addresses]
        to = {name: buffers.host[name].ctypes.data for name in outputs}
        if targets is not None:
            to = {name: targets[name].data_ptr() + first * buffers.row[name] for name in outputs}
        return self._pool.launcher.submit(self._launch, buffers, count, to)

    def _launch(self, buffers: Buffers, count: int, to: Mapping[str, int]) -> None:
        """A run and the copies of its results; in the launcher's thread."""
        driver, streams = self._driver, self._streams
        driver.wait(streams.compute, buffers.uploaded)
        buffers.run()
        driver.record(buffers.computed, streams.compute)
        driver.wait(streams.down, buffers.computed)
        for name, address in to.items():
            size = count * buffers.row[name]
            driver.copy(address, buffers.device[name].data_ptr(), size, streams.down)
        driver.record(buffers.downloaded, streams.down)

    def _finish(self, pending: deque[_Run], made: Mapping[str, npt.NDArray[Any]] | None) -> None:
        """Take the results of the oldest run, and give its buffers back."""
        run = pending.popleft()
        try:
            if made is not None:
                run.launched.result()
            else:
                run.launched.exception()
            self._driver.synchronize(run.buffers.downloaded)
            for name, values in (made or {}).items():
                values[run.rows] = run.buffers.host[name][: run.rows.stop - run.rows.start]
        finally:
            self._pool.give(run.buffers, run.shape)
