"""A real Triton server, from the wheel of nvidia-pytriton: on the CPU, the Python backend alone."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import cv2

import backlit
from support.waiting import until


def found() -> Path | None:
    """The folder of the server; None where it is not installed."""
    spec = importlib.util.find_spec("pytriton")
    if spec is None or spec.origin is None:
        return None
    server = Path(spec.origin).parent / "tritonserver"
    return server if (server / "bin/tritonserver").is_file() else None


def backends(server: Path, folder: Path) -> Path:
    """The server's backends: the Python one, for this version of Python."""
    version, stub = (
        f"{sys.version_info.major}.{sys.version_info.minor}",
        "triton_python_backend_stub",
    )
    shutil.copytree(server / "backends/python", folder / "python")
    shutil.copy(server / "python_backend_stubs" / version / stub, folder / "python" / stub)
    return folder


def packages(folder: Path) -> Path:
    """A folder with the packages of this process, and Backlit.

    The wheel's Python backend reads no PYTHONPATH, but imports first what lies where it is started.
    """
    (folder / "backlit").mkdir(parents=True)
    (folder / "backlit/__init__.py").symlink_to(str(backlit.__file__))
    for part in ("runtime", "export", "models"):
        module = importlib.import_module(f"backlit.{part}")
        (folder / "backlit" / part).symlink_to(Path(str(module.__file__)).parent)
    (folder / "cv2").mkdir()  # which imports itself again, from where its __init__.py really is
    for entry in Path(str(cv2.__file__)).parent.iterdir():
        put = shutil.copy if entry.suffix == ".py" else os.symlink
        put(entry.absolute(), folder / "cv2" / entry.name)
    for place in map(Path, sys.path):
        if any(place.glob("*.dist-info")):
            for entry in place.iterdir():
                if not (folder / entry.name).exists():
                    (folder / entry.name).symlink_to(entry.absolute())
    return folder


def start(repository: Path, folder: Path) -> tuple[subprocess.Popen[bytes], Path, int, int]:
    """Begin to serve a repository.

    Args:
        repository: of models.
        folder: an empty one, for the server.

    Returns:
        The process, its log, and its ports for HTTP and gRPC.

    Raises:
        RuntimeError: no server is installed.
    """
    server = found()
    if server is None:
        raise RuntimeError("no Triton server is installed")
    http, grpc = free_ports(2)
    words = [
        str(server / "bin/tritonserver"), f"--model-repository={repository}",
        f"--backend-directory={backends(server, folder / 'backends')}", "--allow-metrics=false",
        "--http-address=127.0.0.1", "--grpc-address=127.0.0.1", f"--http-port={http}",
        f"--grpc-port={grpc}", "--disable-auto-complete-config",
    ]  # fmt: skip
    libraries = [server.parents[1] / "nvidia_pytriton.libs", sysconfig.get_config_var("LIBDIR")]
    own = {**os.environ, "LD_LIBRARY_PATH": ":".join(map(str, libraries)), "OMP_NUM_THREADS": "1"}
    log = folder / "log.txt"
    with log.open("wb") as file:
        process = subprocess.Popen(
            words, stdout=file, stderr=file, env=own, cwd=packages(folder / "packages")
        )
    return process, log, http, grpc


@contextmanager
def served(repository: Path, folder: Path) -> Iterator[tuple[int, int]]:
    """A server of a repository that is ready: its ports for HTTP and gRPC; arguments of ``start``.

    Raises:
        RuntimeError: it does not load the repository; with what it said.
    """
    process, log, http, grpc = start(repository, folder)
    try:
        until(lambda: process.poll() is not None or _ready(http), "the server")
        if process.poll() is not None:
            raise RuntimeError(log.read_text())
        yield http, grpc
    finally:
        process.terminate()
        process.wait()


def refused(repository: Path, folder: Path) -> str:
    """What a server says of a repository that it does not load; arguments of ``start``.

    Raises:
        RuntimeError: it loads it.
    """
    process, log, http, _ = start(repository, folder)
    try:
        until(lambda: process.poll() is not None or _ready(http), "the server")
        if process.poll() is None:
            raise RuntimeError("the server loads it")
        return log.read_text()
    finally:
        process.terminate()
        process.wait()


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready") as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        socks = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in socks:
            sock.bind(("127.0.0.1", 0))
        return [int(sock.getsockname()[1]) for sock in socks]
