"""A file on a GPU: the device, its streams, and the bindings that use them."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from ...contract import Contract
from ...errors import BacklitError
from ..provider import Opened, Running
from .buffers import Streams
from .device import DeviceBindings
from .driver import Cuda, Driver


@dataclasses.dataclass(frozen=True, eq=False)
class Device:
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
def device(options: Mapping[str, str]) -> Iterator[Device]:
    """The GPU that a provider's options name; its streams go back after an error."""
    driver = Cuda(int(options.get("device_id", "0")))
    pooled = _STREAMS.take(driver)
    own = int(options.get("user_compute_stream", "0"))
    streams = dataclasses.replace(pooled, compute=own) if own else pooled
    try:
        yield Device(driver, streams, pooled)
    except BaseException:
        _STREAMS.give(driver.device_id, pooled)
        raise


def on_device(
    provider: str,
    contract: Contract,
    opened: Opened,
    device: Device,
    buckets: Sequence[int],
    graphs: bool = False,
    classes: int | None = None,
) -> Running:
    """Bindings to a session that computes on the device; its streams go back with them."""
    bindings = DeviceBindings(
        contract, opened.session, device.driver, device.streams, buckets, graphs, classes
    )
    weakref.finalize(bindings, _retire, device).atexit = False
    return Running(provider, contract, bindings, opened)


def _retire(device: Device) -> None:
    """Before its buffers go, which somebody else may be given: nothing writes to them any more."""
    for stream in dataclasses.astuple(device.streams):
        with contextlib.suppress(BacklitError):
            device.driver.drain(stream)
    _STREAMS.give(device.driver.device_id, device.pooled)


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
