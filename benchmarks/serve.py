"""`backlit serve` under load, beside the bare session; and ten thousand requests, some of them bad.

    python -m benchmarks.serve [--clients 1,8,64] [--images N] [--rounds R] [--soak REQUESTS]

A real process serves on loopback; its clients, each with one connection, send the next photo when
the last is answered. Beside it `Session.localize` gets the same photos as bytes, in batches, in
this process; and `backlit localize`'s pipeline, with as many batches in the network at once as the
service has. All take turns, round by round, on the same machine, which the clients load as well.
Said are images per second, each round's ratio to both (median, quartiles), the processor's time,
which a busy machine changes least (server + clients), and how long requests took. `--soak` sends so
many requests by 64 clients, a tenth junk and a hundredth of them hung up on, compares every answer
with the session's, and looks at the server's memory and log.

The classifier is SqueezeNet 1.1 of the shared data (see `benchmarks.boxes`), else the embedded one.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import itertools
import json
import os
import platform
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from backlit.export import export
from backlit.runtime import Session, pipeline
from backlit.runtime.backend.plan import plan
from backlit.runtime.boxes.recipes import fitted, needed
from backlit.runtime.maps.classes import ranks
from backlit.runtime.stages import cores
from support.service import export_embedded

from backlit import models
from benchmarks.boxes import shared_data

REAL = "models/squeezenet1_1_logits_fp32.onnx"


@dataclasses.dataclass(frozen=True)
class Server:
    process: subprocess.Popen[str]
    port: int
    log: Path

    def memory(self) -> tuple[float, float]:
        """MiB that it has now, and had at most."""
        said = Path(f"/proc/{self.process.pid}/status").read_text()
        now, peak = (re.search(rf"{name}:\s+(\d+) kB", said) for name in ("VmRSS", "VmHWM"))
        return (int(now[1]) / 1024, int(peak[1]) / 1024) if now and peak else (0.0, 0.0)

    def cpu(self) -> float:
        """Seconds of processors that it has used."""
        said = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(said[11]) + int(said[12])) / os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass(frozen=True)
class Turn:
    """Images per second, seconds of each request, CPU ms an image of the server and of this."""

    rate: float
    seconds: list[float]
    served: float
    own: float


@contextmanager
def serving(file: Path, folder: Path, *options: str) -> Iterator[Server]:
    log = folder / "log"
    words = [sys.executable, "-m", "backlit.runtime", "serve", str(file), "--port", "0", *options]
    with log.open("w") as err:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=err, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(log.read_text())
        yield Server(process, int(json.loads(line)["url"].rsplit(":", 1)[1]), log)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def request(body: bytes, path: str = "/localize", kind: str = "image/jpeg") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    assert length is not None
    return int(head[9:12]), await reader.readexactly(int(length[1]))


async def load(port: int, bodies: list[bytes], clients: int) -> tuple[float, list[float]]:
    """Images per second, and seconds of each request."""
    todo, seconds = iter(bodies), []

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for body in todo:
            started = time.perf_counter()
            writer.write(request(body))
            status, said = await answer(reader)
            seconds.append(time.perf_counter() - started)
            if status != 200:
                raise RuntimeError(f"{status}: {said!r}")
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return len(bodies) / (time.perf_counter() - started), seconds


def compare(server: Server, session: Session, photos: list[bytes], arguments: Any) -> None:
    clients = [int(text) for text in arguments.clients.split(",")]
    bodies = list(itertools.islice(itertools.cycle(photos), arguments.images))
    threads, runs = plan("cpu", None, None)
    shared = Session(session.path, "cpu", threads, partial(needed, "default"))
    recipe, best = fitted("default", session.contract), ranks(1, session.contract.score.classes)

    def bare() -> tuple[float, list[float]]:
        started = time.perf_counter()
        for start in range(0, len(bodies), arguments.feed):
            assert not session.localize(bodies[start : start + arguments.feed]).failed
        return len(bodies) / (time.perf_counter() - started), []

    def side_by_side() -> tuple[float, list[float]]:
        started = time.perf_counter()
        found = pipeline.localize_results(shared, bodies, best, recipe, runs=runs)
        assert all(one.error is None for one in found)
        return len(bodies) / (time.perf_counter() - started), []

    ways: dict[str, Any] = {"Session.localize": bare, f"{runs} batches at once": side_by_side}
    bases = list(ways)
    for count in clients:
        ways[f"{count} clients"] = lambda n=count: asyncio.run(load(server.port, bodies, n))
    turns: dict[str, list[Turn]] = {name: [] for name in ways}
    for number in range(-1, arguments.rounds):  # the first round is not counted
        for name in list(ways)[:: 1 if number % 2 else -1]:
            before = server.cpu(), time.process_time()
            rate, seconds = ways[name]()
            spent = [1e3 * (now - then) / len(bodies) for now, then in
                     zip((server.cpu(), time.process_time()), before, strict=True)]  # fmt: skip
            if number >= 0:
                turns[name].append(Turn(rate, seconds, *spent))
    print(
        f"  {len(bodies)} images a turn, {arguments.rounds} rounds; load {os.getloadavg()[0]:.1f}"
    )
    print("  way                img/s " + "".join(f" {'of ' + name:<26}" for name in bases)
          + "CPU ms an image      p50 ms   p95 ms   p99 ms")  # fmt: skip
    for name, found in turns.items():
        line = f"  {name:<18}{statistics.median(turn.rate for turn in found):>6.1f} "
        for base in bases:
            ratios = [a.rate / b.rate for a, b in zip(found, turns[base], strict=True)]
            low, middle, high = 100 * np.quantile(ratios, [0.25, 0.5, 0.75])
            line += f" {f'{middle:.0f} % ({low:.0f} to {high:.0f})':<26}"
        served, own = (statistics.median(getattr(turn, part) for turn in found)
                       for part in ("served", "own"))  # fmt: skip
        line += f"{f'{own:.1f}' if name in bases else f'{served:.1f} + {own:.1f}':<18}"
        if seconds := [one for turn in found for one in turn.seconds]:
            line += "".join(f"{1e3 * t:>9.1f}" for t in np.quantile(seconds, [0.5, 0.95, 0.99]))
        print(line, flush=True)


def junk(rng: random.Random, photos: list[bytes]) -> tuple[bytes, int]:
    """A request that must be refused, and how."""
    photo = rng.choice(photos)
    damaged = bytearray(photo[: len(photo) // 2])
    return rng.choice([
        (request(rng.randbytes(rng.randint(1, 5000))), 422),
        (request(bytes(damaged)), 422),
        (request(b"", kind="image/png"), 400),
        (request(b"<html>" * 100, kind="multipart/form-data; boundary=x"), 400),
        (request(b'{"image": "%%%"}', kind="application/json"), 400),
        (request(b"[" * 100_000, kind="application/json"), 400),
        (request(photo, "/localize?top=99"), 400),
        (request(photo, "/localize?class=no-such-thing"), 422),
        (request(bomb(), kind="image/png"), 422),
        (request(photo, "/elsewhere"), 404),
    ])  # fmt: skip


def bomb() -> bytes:
    """The head of a PNG of 100000 x 100000 pixels."""
    import struct
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    size = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"\0" * 999))


async def soak(server: Server, session: Session, photos: list[bytes], count: int) -> None:
    wanted = [found.to_dict()["results"] for found in session.localize(photos)]
    rng, left, done = random.Random(0), iter(range(count)), Counter[str]()
    memory = []

    async def good(reader: Any, writer: Any, which: int) -> None:
        writer.write(request(photos[which]))
        status, said = await answer(reader)
        found = json.loads(said).get("results")
        right = status == 200 and [same(a, b) for a, b in zip(found, wanted[which], strict=True)]
        done["right" if right and all(right) else f"wrong {status}"] += 1

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for number in left:
            if number % max(1, count // 10) == 0:
                memory.append(server.memory()[0])
            chance = rng.random()
            if chance < 0.01:
                whole = request(rng.choice(photos))
                writer.write(whole[: rng.choice([10, len(whole) // 2, len(whole)])])
                await writer.drain()
                writer.close()
                done["hung up"] += 1
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            elif chance < 0.11:
                sent, status = junk(rng, photos)
                writer.write(sent)
                got, _ = await answer(reader)
                done["refused" if got == status else f"junk {got}, not {status}"] += 1
            else:
                await good(reader, writer, rng.randrange(len(photos)))
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(64)))
    print(f"{count} requests by 64 clients in {time.perf_counter() - started:.0f} s: {dict(done)}")
    print(f"  MiB at each tenth: {', '.join(f'{one:.0f}' for one in memory)}; now and peak: "
          f"{server.memory()[0]:.0f}, {server.memory()[1]:.0f}")  # fmt: skip
    log = server.log.read_text()
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    for other in [line for line in log.splitlines() if not line.startswith("{")][:5]:
        print(f"  a line that is no JSON: {other}")
    events = Counter(f"{line['level']} {line['event']}" for line in lines)
    print(f"  the log: {dict(events)}; tracebacks: {log.count('Traceback')}")


def same(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """The same object; scores of a batch may differ in the last digits."""
    close = abs(found["score"] - wanted["score"]) <= 1e-4 * max(1.0, abs(wanted["score"]))
    return close and all(found[name] == wanted[name] for name in ("class", "label", "box"))


def main() -> int:
    parser = argparse.ArgumentParser(description="`backlit serve` under load.")
    parser.add_argument("--clients", default="1,8,64")
    parser.add_argument("--images", type=int, default=128, help="of a turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--feed", type=int, default=64, help="images of a call of the session")
    parser.add_argument("--soak", type=int, default=0, metavar="REQUESTS")
    parser.add_argument("--embedded", action="store_true", help="the embedded classifier")
    arguments = parser.parse_args()
    data = shared_data()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "model.backlit.onnx"
        if (data / REAL).exists() and not arguments.embedded:
            entries = json.loads((data / "manifest.json").read_text())["models"]
            how = next(one for one in entries if one["file"] == REAL)["preprocess"]
            colour = {"bgr": how["colour"] == "BGR", "range": how["range"]}
            export(data / REAL, file, mean=how["mean"], std=how["std"], verify=False, **colour)
            photos = sorted((data / "images" / "ilsvrc_val_227").glob("*.[jJ]*"))[:64]
        else:
            export_embedded(file)
            photos = sorted(models.samples().glob("*.jpg"))
        bodies = [photo.read_bytes() for photo in photos]
        print(
            f"{len(bodies)} photos, {platform.machine()}, {os.cpu_count()} processors, {cores()} "
            f"usable, load {os.getloadavg()[0]:.1f}, onnxruntime {onnxruntime.__version__}"
        )
        session = Session(file, "cpu", maps=partial(needed, "default"))  # as the service opens it
        with serving(file, folder, "--providers", "cpu") as server:
            if arguments.rounds:
                compare(server, session, bodies, arguments)
            if arguments.soak:
                asyncio.run(soak(server, session, bodies, arguments.soak))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
