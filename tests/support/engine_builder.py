"""A stand-in for the minutes that TensorRT builds, to be raced and killed: engines of noise.

``python engine_builder.py build ROOT`` builds the entry of ``KEY`` and prints when it begins;
``python engine_builder.py kill ROOT DAMAGED`` forks a child for every step of a build, in which the
child kills itself, and prints what each left and what the next start made of it, as JSON.
"""

import json
import os
import shutil
import signal
import sys
import time
import warnings
from pathlib import Path

from backlit.runtime.backend.machine import Gpu
from backlit.runtime.backend.tensorrt.cache import TIMING, EngineCache, Key, Shapes
from backlit.runtime.backend.tensorrt.folders import Damaged, check

GPU = Gpu("NVIDIA H100 80GB HBM3", "9.0", "13.0", 85_000_000_000, 132)
KEY = Key(
    model="0" * 64, maps=("saliency",), onnxruntime="1.31.1", tensorrt="10.13.3", gpu=GPU,
    options=(("trt_builder_optimization_level", "3"),), shapes=Shapes(), system="test",
)  # fmt: skip
OTHER = Key(**{**KEY.__dict__, "model": "1" * 64})
SIZE = 300_000


def write(
    folder: Path, size: int = SIZE, pause: float = 0.0, log: str | Path | None = None
) -> None:
    """Engine, profile and timing cache, piece by piece, as they come."""
    if log is not None:
        with open(log, "a") as file:
            file.write("begun\n")
    noise = (bytes(range(256)) * (size // 256 + 1))[:size]
    with (folder / "backlit_1_0_sm90.engine").open("wb") as file:
        for start in range(0, size, size // 6):
            file.write(noise[start : start + size // 6])
            file.flush()
            time.sleep(pause)
    (folder / "backlit_1_0_sm90.profile").write_bytes(b"profile")
    timing = folder.parent / TIMING / "TensorrtExecutionProvider_cache_sm90.timing"
    old = timing.read_bytes() if timing.exists() else b""
    timing.write_bytes(old + b"timed")
    if log is not None:
        with open(log, "a") as file:
            file.write("ended\n")


def state(root: Path, key: Key = KEY) -> str:
    """``whole``, ``absent``, or what is wrong with the entry."""
    try:
        check(root / key.digest())
    except FileNotFoundError:
        return "absent"
    except Damaged as damage:
        return str(damage)
    return "whole"


def names(root: Path) -> list[str]:
    """What is in a folder."""
    return sorted(path.name for path in root.iterdir())


def spoil(root: Path) -> None:
    """An entry that was there before, with one byte changed."""
    EngineCache(root).folder(KEY, write)
    path = root / KEY.digest() / "backlit_1_0_sm90.profile"
    path.write_bytes(b"prefile")


class Steps:
    """Counts what is done to files below a folder, and kills the process at one step."""

    def __init__(self, root: Path, last: int) -> None:
        self.root, self.last, self.count = str(root), last, 0
        self.on = True
        sys.addaudithook(self.hook)

    def hook(self, event: str, args: tuple[object, ...]) -> None:
        if self.on and event.split(".")[0] in ("open", "os", "fcntl", "shutil"):
            if event not in ("fcntl.flock",) and self.root not in " ".join(map(str, args)):
                return
            self.count += 1
            if self.count == self.last:
                os.kill(os.getpid(), signal.SIGKILL)


def killed_at(root: Path, step: int) -> bool:
    """Build in a child that is killed at a step; whether it was, and how many steps there are."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        steps = Steps(root, step)
        EngineCache(root).folder(KEY, write)
        steps.on = False
        os.write(writing, b"done")
        os._exit(0)
    os.close(writing)
    done = os.read(reading, 10)
    os.close(reading)
    os.waitpid(child, 0)
    return done != b"done"


def rebuilt(root: Path) -> int:
    """Ask the cache for the entry; how many builds that took."""
    folders: list[Path] = []

    def build(folder: Path) -> None:
        folders.append(folder)
        write(folder)

    EngineCache(root).folder(KEY, build)
    return len(folders)


def main() -> None:
    warnings.simplefilter("ignore")
    command, root = sys.argv[1], Path(sys.argv[2])
    if command == "build":
        pause, log = float(sys.argv[3]), sys.argv[4] if len(sys.argv) > 4 else None
        key = OTHER if len(sys.argv) > 5 else KEY
        print("begin", flush=True)
        print(EngineCache(root).folder(key, lambda folder: write(folder, pause=pause, log=log)))
        return
    step, again, before = 0, True, root.with_name("before")
    before.mkdir()
    if sys.argv[3] == "damaged":
        spoil(before)
    while again:
        step += 1
        shutil.copytree(before, root)
        again = killed_at(root, step)
        left = names(root)
        found = {"step": step, "killed": again, "state": state(root), "left": left}
        builds = rebuilt(root)
        print(json.dumps({**found, "then": state(root), "names": names(root), "builds": builds}))
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
