"""A real MLServer of a folder, as a process; ``make servers`` has it."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.triton_server import free_ports
from support.waiting import until

INSTALLED = importlib.util.find_spec("mlserver") is not None


@dataclasses.dataclass(frozen=True)
class Reply:
    status: int
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def outputs(self) -> dict[str, Any]:
        assert self.status == 200, self.body
        return {one["name"]: one for one in self.json()["outputs"]}


@dataclasses.dataclass(frozen=True)
class Server:
    http: int
    grpc: int
    metrics: int
    log: Path

    def ask(self, path: str, body: Any = None) -> Reply:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http}{path}", data, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return Reply(answer.status, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Reply(error.code, error.read())


@contextmanager
def served(folder: Path, log: Path) -> Iterator[Server]:
    """A server of a folder, until the block is left.

    Raises:
        RuntimeError: it ends before it is ready; with what it said.
    """
    http, grpc, metrics = free_ports(3)
    server = Server(http, grpc, metrics, log)
    own = {
        **os.environ,
        "MLSERVER_HOST": "127.0.0.1",
        "MLSERVER_HTTP_PORT": str(server.http),
        "MLSERVER_GRPC_PORT": str(server.grpc),
        "MLSERVER_METRICS_PORT": str(server.metrics),
        "OMP_NUM_THREADS": "1",
    }
    code = "import sys; from mlserver.cli import main; sys.argv[0] = 'mlserver'; main()"
    command = [sys.executable, "-c", code, "start", str(folder)]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=own, cwd=log.parent)

    def ready() -> bool:
        try:
            return server.ask("/v2/health/ready").status == 200
        except OSError:
            return False

    try:
        until(lambda: process.poll() is not None or ready(), "the server")
        if process.poll() is not None:
            raise RuntimeError(log.read_text())
        yield server
    finally:
        process.terminate()
        process.wait()
