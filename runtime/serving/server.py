"""A service's process, or its processes: uvicorn around the application."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from uvicorn import Config, Server
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors.multiprocess import Multiprocess

from ..errors import BacklitError, OptionError
from . import logs
from .app import application
from .metrics import FOLDER_VARIABLE, Metrics
from .opening import open_engine
from .protocol import BoundedProtocol

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from .engine import Engine
    from .settings import Limits, Settings

BACKLOG = 2048
"""Connections that wait to be accepted."""

_BEGINNING = 20
"""Seconds in which a process must have loaded what it needs, or it is taken for hung."""

_CONNECTIONS = 1024
"""Connections of a process at once; one more is answered 503."""


def bound(host: str, port: int) -> socket.socket:
    """A socket of an address, which does not listen yet.

    Raises:
        OptionError: the address is none of this machine, or taken.
    """
    made = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        made = socket.socket(family, kind, protocol)
        if os.name == "posix":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
    except OSError as error:
        if made is not None:
            made.close()
        raise OptionError(
            f"{host} port {port} cannot be listened on: {error.strerror}.",
            "choose another --port or --host.",
        ) from error
    made.set_inheritable(True)
    return made


def serve_here(settings: Settings, sock: socket.socket, engine: Engine, metrics: Metrics) -> None:
    """Answer requests in this process until SIGTERM or SIGINT; then finish what was taken."""
    with _signals_end_the_server():
        Server(configured(settings, application(settings, engine, metrics))).run([sock])


def serve_in_processes(settings: Settings, sock: socket.socket) -> None:
    """The same in ``settings.workers`` processes, each with the file open.

    Raises:
        BacklitError: a process could not begin; its log says why.
    """
    with tempfile.TemporaryDirectory(prefix="backlit-metrics-") as folder:
        os.environ[FOLDER_VARIABLE] = folder  # the processes have the environment of this one
        try:
            config = configured(settings, partial(worker_application, settings), factory=True)
            supervisor = Multiprocess(config, [sock])
            supervisor.run()
        finally:
            del os.environ[FOLDER_VARIABLE]
    if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
        raise BacklitError("a process could not begin.", "see the log above.")


def worker_application(settings: Settings) -> Starlette:
    """The application of one process of several; it ends the process where it cannot begin."""
    logs.begin()
    _bound(settings.limits)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    try:
        metrics = Metrics()
        engine = open_engine(settings, metrics.ran)
    except BacklitError as error:
        logs.LOG.error(error.problem, extra={"fields": {"fix": error.fix}})
        sys.exit(STARTUP_FAILURE)
    return application(settings, engine, metrics)


def configured(settings: Settings, app: object, factory: bool = False) -> Config:
    """Uvicorn's configuration of a service, or of each of its processes.

    Args:
        settings: of the service.
        app: the application; with ``factory``, what makes it.
        factory: of each process.
    """
    _bound(settings.limits)
    return Config(
        app,  # type: ignore[arg-type]
        factory=factory,
        workers=settings.workers,
        backlog=BACKLOG,
        http=BoundedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_worker_healthcheck=_BEGINNING,
        timeout_graceful_shutdown=round(settings.limits.seconds) + 5,
    )


def _bound(limits: Limits) -> None:
    BoundedProtocol.head_seconds = limits.head_seconds
    # The body and the boxes have one bound together; to be read, the answer has as much again.
    BoundedProtocol.exchange_seconds = 2 * limits.seconds + 5


def _end_with_the_parent() -> None:
    """Nobody would end the process of a service whose first process is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def _signals_end_the_server() -> Iterator[None]:
    """Ended by a signal, the server has done what it was told; uvicorn raises it once more then."""
    before = {one: signal.signal(one, _ignore) for one in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _ignore(*_: object) -> None:
    pass
