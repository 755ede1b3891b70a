"""HTTP as uvicorn speaks it, on connections that end when a request or an answer takes too long.

uvicorn bounds how long a connection may be idle, not how long the head of a request may dribble in
nor how long an answer may wait for a client that does not read it.
"""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

_LINGER = 2.0
"""Seconds in which the rest of a body that was refused is read and thrown away.

Closed at once, a connection would be reset, and the client might never see why.
"""


class BoundedProtocol(H11Protocol):
    """A connection. Its bounds are class attributes, because uvicorn makes the objects.

    Attributes:
        head_seconds: for the head of a request.
        exchange_seconds: from there to the end of the answer.
    """

    head_seconds = 10.0
    exchange_seconds = 60.0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first head is waited for."""
        super().connection_made(transport)
        self._wait(self.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for."""
        self._wait(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """After an answer the first byte begins the next head."""
        if self._timer is None:
            self._wait(self.head_seconds)
        super().data_received(data)

    def handle_events(self) -> None:
        """Where a head is complete, its answer is waited for."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before and self.cycle and not self.cycle.response_complete:
            self._wait(self.exchange_seconds)

    def on_response_complete(self) -> None:
        """Idle, or reading what is left of a body that nobody wants."""
        self._wait(_LINGER if self.conn.their_state is h11.SEND_BODY else None)
        super().on_response_complete()

    def _wait(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._end)

    def _end(self) -> None:
        self._timer = None
        self.transport.abort()
