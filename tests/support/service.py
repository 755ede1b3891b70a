"""A service in this process, on a free port, with a network that can be held."""

from __future__ import annotations

import dataclasses
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy.typing as npt
from backlit.export import export
from backlit.runtime import Session
from backlit.runtime.backend.outputs import Outputs
from backlit.runtime.boxes.recipes import RECIPES
from backlit.runtime.serving.app import application
from backlit.runtime.serving.engine import Engine
from backlit.runtime.serving.metrics import Metrics
from backlit.runtime.serving.server import bound, configured
from backlit.runtime.serving.settings import Limits, Settings
from uvicorn import Server

from backlit import models


def export_embedded(file: Path) -> Path:
    """The embedded classifier, with its labels, as a Backlit file."""
    how = models.PREPROCESSING
    labels = models.labels().read_text(encoding="utf-8").splitlines()
    export(models.tiny_convnet(), file, mean=how.mean, std=how.std, range="0-1", labels=labels)
    return file


class HeldSession(Session):
    """A session whose runs wait while it is held; it remembers how many images each had."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "cpu", threads=1, maps=["features"])
        self.free, self.begun = threading.Event(), threading.Semaphore(0)
        self.free.set()
        self.runs: list[int] = []

    def run(self, images: npt.NDArray[Any], class_index: npt.NDArray[Any]) -> Outputs:
        self.runs.append(len(images))
        self.begun.release()
        if not self.free.wait(60):
            raise TimeoutError
        return super().run(images, class_index)


@dataclasses.dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclasses.dataclass(frozen=True)
class Service:
    port: int
    session: HeldSession
    engine: Engine
    metrics: Metrics

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Reply:
        """One request on a connection of its own."""
        connection = self.connect()
        try:
            connection.request(method, path, body, headers or {})
            return reply(connection)
        finally:
            connection.close()

    def post(self, body: Any, path: str = "/localize", kind: str = "image/jpeg") -> Reply:
        return self.ask("POST", path, body, {"Content-Type": kind})

    def socket(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def number(self, name: str) -> float:
        """A number of the metrics, by its name with its labels."""
        for line in self.ask("GET", "/metrics").body.decode().splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[-1])
        return 0.0


def reply(connection: http.client.HTTPConnection) -> Reply:
    response = connection.getresponse()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Reply(response.status, headers, response.read())


def form(data: bytes, **fields: str) -> tuple[bytes, str]:
    """A form as curl -F sends it, and its type."""
    parts = [f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
             for name, value in fields.items()]  # fmt: skip
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
    return b"".join([*parts, head, data, b"\r\n--x--\r\n"]), "multipart/form-data; boundary=x"


@contextmanager
def served(
    file: Path, *, limits: dict[str, Any] | None = None, **settings: Any
) -> Iterator[Service]:
    """A service of a file, until the block is left."""
    recipe = RECIPES["default"]
    asked = Settings(str(file), recipe, limits=Limits(**(limits or {})), **settings)
    session, metrics = HeldSession(file), Metrics()
    engine = Engine(
        [session], recipe, batch=asked.batch, delay=asked.delay, queue=asked.limits.queue,
        ran=metrics.ran,
    )  # fmt: skip
    sock = bound("127.0.0.1", 0)
    server = Server(configured(asked, application(asked, engine, metrics)))
    thread = threading.Thread(target=server.run, args=([sock],))
    sock.listen(128)
    thread.start()
    try:
        yield Service(sock.getsockname()[1], session, engine, metrics)
    finally:
        session.free.set()
        server.should_exit = True
        thread.join(60)
        sock.close()
