"""A run over many pictures of which some are bad, killed at random moments and gone on with."""

import dataclasses
import json
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from backlit.runtime.errors import ImageError
from backlit.runtime.images.load import load
from PIL import Image

from .bad_pictures import awkward, mutant
from .linear_file import write_linear_file

PROGRAM = [sys.executable, "-m", "backlit.runtime"]


@dataclasses.dataclass(frozen=True)
class Counts:
    """What a run of many ended with.

    Attributes:
        results: lines with boxes.
        errors: lines with an error.
        code: exit code.
        kills: how often the other run was killed before it was done.
        same: that run's files are those of the unbroken run, byte by byte.
        seconds: of the unbroken run.
    """

    results: int
    errors: int
    code: int
    kills: int
    same: bool
    seconds: float


def prepare(folder: Path, good: int, bad: int, seed: int = 0) -> int:
    """Make the file ``m.onnx``, the pictures, and ``list.txt`` of them in a random order.

    Bad ones that fail as many others do are mostly passed over.

    Returns:
        In how many ways the bad ones fail: different exceptions, and different beginnings of texts.
    """
    rng = random.Random(seed)
    write_linear_file(folder / "m.onnx", height=16, width=16, classes=3)
    (folder / "good").mkdir()
    (folder / "bad").mkdir()
    paths = awkward(folder / "bad")[:bad]
    ways = Counter(paths)
    while len(paths) < bad:
        data = mutant(rng)
        try:
            load(data)
            continue
        except ImageError as error:
            cause = error.__cause__ or error
        way = f"{type(cause).__name__}: {re.sub('[0-9]+', '0', str(cause))[:30]}"
        if ways[way] and rng.random() < 0.97:
            continue
        ways[way] += 1
        path = folder / "bad" / f"{len(paths):05d}.{rng.choice(('jpg', 'png', 'tif', 'x'))}"
        path.write_bytes(data)
        paths.append(str(path))
    for number in range(good):
        size = rng.randrange(9, 60), rng.randrange(9, 60)
        picture = Image.frombytes("RGB", size, rng.randbytes(3 * size[0] * size[1]))
        path = folder / "good" / f"{number:05d}.{rng.choice(('jpg', 'png', 'bmp'))}"
        picture.save(path)
        paths.append(str(path))
    rng.shuffle(paths)
    (folder / "list.txt").write_text("".join(f"{path}\n" for path in paths))
    return len(ways)


def command(folder: Path, out: str) -> list[str]:
    """The run, which takes the list from stdin."""
    words = ["localize", "m.onnx", "-", "--masks", "--no-pictures", "--format", "csv", "--resume"]
    return [*PROGRAM, *words, "--format", "voc", "-o", str(folder / out)]


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def run(folder: Path, kills: int, seed: int = 0) -> Counts:
    """Run what `prepare` made, once unbroken and once killed again and again; compare the two."""
    rng, listed = random.Random(seed), folder / "list.txt"
    started = time.monotonic()
    with listed.open() as stdin:
        whole = subprocess.run(
            command(folder, "whole"), stdin=stdin, capture_output=True, cwd=folder
        )
    seconds = time.monotonic() - started
    if b"Traceback" in whole.stderr:
        raise AssertionError(whole.stderr.decode()[-3000:])
    total, killed = len(listed.read_text().splitlines()), 0
    for _ in range(kills):
        with listed.open() as stdin:
            process = subprocess.Popen(
                command(folder, "broken"), stdin=stdin, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, cwd=folder,
            )  # fmt: skip
            if process.stdout is None:
                raise ValueError("no stdout")
            for _ in range(rng.randrange(1, max(2, total // (kills + 1)))):
                process.stdout.readline()
            time.sleep(rng.random() * 0.02)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            killed += process.returncode == -signal.SIGKILL
    with listed.open() as stdin:
        last = subprocess.run(
            command(folder, "broken"), stdin=stdin, capture_output=True, cwd=folder
        )
    lines = [json.loads(line) for line in (folder / "whole/boxes.jsonl").read_bytes().splitlines()]
    errors = sum("error" in line for line in lines)
    same = contents(folder / "whole") == contents(folder / "broken")
    if whole.returncode != last.returncode:
        raise AssertionError(f"exit codes {whole.returncode} and {last.returncode}")
    return Counts(len(lines) - errors, errors, whole.returncode, killed, same, seconds)
