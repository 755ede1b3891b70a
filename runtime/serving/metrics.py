"""What a service tells Prometheus."""

from __future__ import annotations

import os
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Names the folder where the processes of a service share their numbers (prometheus_client's)."""

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The numbers of one process."""

    def __init__(self) -> None:
        """Begin at zero."""
        own = self._own = CollectorRegistry()
        self._length: Callable[[], int] = lambda: 0
        self._requests = Counter(
            "backlit_requests", "Requests answered.", ["path", "status"], registry=own
        )
        self._errors = Counter(
            "backlit_errors", "Requests refused or failed, by reason.", ["kind"], registry=own
        )
        self._seconds = Histogram(
            "backlit_request_seconds", "From the head of a request to the end of its answer.",
            ["path"], buckets=_SECONDS, registry=own,
        )  # fmt: skip
        self._waited = Histogram(
            "backlit_wait_seconds", "That decoded images waited for the network.",
            buckets=_SECONDS, registry=own,
        )  # fmt: skip
        self._run = Histogram(
            "backlit_run_seconds", "That the network took for a batch.",
            buckets=_SECONDS, registry=own,
        )  # fmt: skip
        self._images = Histogram(
            "backlit_batch_images", "Images in a batch.", buckets=_IMAGES, registry=own
        )
        self._queue = Gauge(
            "backlit_queue", "Requests taken and not answered.", registry=own,
            multiprocess_mode="livesum",
        )  # fmt: skip
        self._info = Gauge(
            "backlit_info", "1; the labels say what is served.", ["version", "file", "provider"],
            registry=own, multiprocess_mode="max",
        )  # fmt: skip

    def serves(self, version: str, file: str, provider: str, queue: Callable[[], int]) -> None:
        """What is served, and what tells how many requests are taken."""
        self._info.labels(version, file, provider).set(1)
        self._length = queue

    def answered(self, path: str, status: int, seconds: float, kind: str | None) -> None:
        """A request is over; ``kind`` is why it failed, or None."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)
        if kind is not None:
            self._errors.labels(kind).inc()
        self._queue.set(self._length())

    def waited(self, seconds: float) -> None:
        """A decoded image waited so long for the network."""
        self._waited.observe(seconds)

    def ran(self, images: int, seconds: float) -> None:
        """The network ran on a batch."""
        self._images.observe(images)
        self._run.observe(seconds)

    def text(self) -> bytes:
        """All numbers, of all processes, as Prometheus reads them."""
        self._queue.set(self._length())
        if FOLDER_VARIABLE not in os.environ:
            return generate_latest(self._own)
        shared = CollectorRegistry()
        MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
        return generate_latest(shared)
