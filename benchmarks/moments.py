"""What is to take a moment, in milliseconds: to start, to refuse, to weigh a map.

    python -m benchmarks.moments [--rounds N]

Commands in processes of their own, in turns with an interpreter that does nothing; the ratio is the
median over the rounds of a command over the interpreter of the same round. Then functions in this
process, in turns. What is done in that time is held by the tests; how long it takes is seen here.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from backlit.runtime.backend.probing import probe
from backlit.runtime.backend.sessions import open_session
from backlit.runtime.errors import ModelError
from backlit.runtime.evaluation import sweep
from PIL import Image
from support.linear_file import write_linear_file

IDLE = "an interpreter that does nothing"


def commands(folder: Path) -> dict[str, tuple[int, list[str]]]:
    """Title -> exit status, arguments of the interpreter."""
    model, image = folder / "linear.onnx", folder / "a.png"
    write_linear_file(model)
    Image.new("RGB", (64, 48)).save(image)
    backlit = ["-m", "backlit.runtime"]
    found = {
        IDLE: (0, ["-c", ""]),
        "import backlit.runtime": (0, ["-c", "import backlit.runtime"]),
        "backlit --help": (0, [*backlit, "--help"]),
        "backlit localize --help": (0, [*backlit, "localize", "--help"]),
        "backlit saliency of one image": (0, [*backlit, "saliency", str(model), str(image)]),
    }
    for name in ("cuda", "tensorrt"):
        if not probe(name).loads:
            asked = [*backlit, "saliency", str(model), str(image), "--providers", name]
            found[f"{name}, which does not load, refused"] = (1, asked)
    return found


def functions(folder: Path) -> dict[str, Callable[[], object]]:
    """Title -> what is done."""
    noise = np.random.default_rng(0).standard_normal((224, 224))
    smooth = np.asarray(cv2.GaussianBlur(noise, (0, 0), 10), np.float64)
    boxes = [(20.0, 30.0, 150.0, 200.0)]
    cut = folder / "cut.onnx"
    cut.write_bytes((folder / "linear.onnx").read_bytes()[:-1])

    def refused() -> None:
        try:
            open_session(cut, "cpu")
        except ModelError:
            return
        raise RuntimeError("a truncated file was opened")

    return {
        "box_sweep of a smooth map, 224 x 224": partial(sweep.box_sweep, smooth, boxes),
        "box_sweep of specks, 224 x 224": partial(sweep.box_sweep, noise, boxes),
        "a truncated file refused": refused,
    }


def run(status: int, arguments: list[str]) -> None:
    """Run an interpreter.

    Raises:
        RuntimeError: it ended with another exit status.
    """
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    if done.returncode != status:
        raise RuntimeError(f"exit status {done.returncode}: {done.stderr}")


def in_turns(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each, of every round but the first."""
    times: dict[str, list[float]] = {title: [] for title in ways}
    for number in range(rounds + 1):
        for title, way in ways.items():
            started = time.perf_counter()
            way()
            if number:
                times[title].append(1e3 * (time.perf_counter() - started))
    return times


def show(times: dict[str, list[float]], yardstick: str | None) -> None:
    print(f"\n{'':<42}      ms (quartiles)" + ("       ratio" if yardstick else ""))
    for title, values in times.items():
        low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
        line = f"{title:<42} {middle:>7.1f} ({low:.1f} to {high:.1f})"
        if yardstick:
            ratios = [mine / own for mine, own in zip(values, times[yardstick], strict=True)]
            line = f"{line:<70} {np.median(ratios):>5.2f}"
        print(line, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="What is to take a moment, in milliseconds.")
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started: dict[str, Callable[[], object]] = {
            title: partial(run, *given) for title, given in commands(folder).items()
        }
        show(in_turns(started, rounds), IDLE)
        show(in_turns(functions(folder), rounds), None)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
