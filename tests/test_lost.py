"""Bad pictures, kills, full disks and two runs at once: nothing is lost."""

from __future__ import annotations

import json
import os
import random
import signal
import struct
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backlit.runtime import Session, files, located
from backlit.runtime.cli import group as cli
from backlit.runtime.cli.pictures import Pictures
from backlit.runtime.errors import BacklitError, ImageError, OutputError
from backlit.runtime.images import load as loading
from backlit.runtime.images import prepare as preparing
from backlit.runtime.images.load import load
from backlit.runtime.images.sources import sources
from backlit.runtime.locks import alone
from backlit.runtime.output.run_log import RunLog
from click.testing import CliRunner, Result
from PIL import Image
from support import many
from support.bad_pictures import awkward, mutant
from support.hardship import largest_file
from support.labelled import write_classifier, write_wsolevaluation
from support.linear_file import write_linear_file

POSIX = pytest.mark.skipif(os.name != "posix", reason="POSIX alone")
EXCEPTIONS = (
    ValueError, RuntimeError, NotImplementedError, MemoryError, SyntaxError, PermissionError,
    struct.error, OverflowError, IndexError, KeyError, EOFError, TypeError, RecursionError,
    ZeroDivisionError, AssertionError, OSError, UnicodeError, AttributeError,
    Image.DecompressionBombError, Image.DecompressionBombWarning, Image.UnidentifiedImageError,
)  # fmt: skip


def run(*args: object, stdin: str | None = None) -> Result:
    return CliRunner().invoke(cli.main, [str(arg) for arg in args], input=stdin)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    write_linear_file(folder / "m.onnx", height=16, width=16, classes=3)
    write_linear_file(folder / "crop.onnx", height=16, width=16, classes=3, resize="crop")
    write_classifier(folder / "e.onnx")
    (folder / "photos").mkdir()
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{number}.png")
    return folder


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A picture of 7 x 7 pixels, and what Pillow raises of such: set by a call."""
    raised: list[type[Exception]] = []
    own = Image.open

    def opened(*args: Any, **options: Any) -> Image.Image:
        image = own(*args, **options)
        if image.size == (7, 7) and raised:
            raise raised[-1]("no <object at 0x7fffdeadbeef>\nsuch")
        return image

    monkeypatch.setattr(loading.Image, "open", opened)
    Image.new("RGB", (7, 7)).save(tmp_path / "bad.png")
    return raised.append


@pytest.mark.parametrize("kind", EXCEPTIONS, ids=lambda kind: kind.__name__)
def test_whatever_is_raised_is_the_error_of_one_image(
    work: Path, tmp_path: Path, failing: Any, kind: type[Exception]
) -> None:
    failing(kind)
    bad, good = tmp_path / "bad.png", work / "photos" / "0.png"
    session = Session(work / "m.onnx")
    one, other = session.saliency([bad, good])
    assert isinstance(one.error, ImageError)
    assert str(bad) in one.error.problem
    assert "0x" not in one.error.problem
    assert "\n" not in one.error.problem
    assert other.error is None
    with pytest.raises(ImageError):
        session.localize([good, bad], errors="raise", map="saliency")
    found = [one.error is None for one in session.stream_localize([bad, good], map="saliency")]
    assert found == [False, True]
    done = run("localize", work / "m.onnx", bad, good, "-o", tmp_path / "out", "--no-pictures")
    assert done.exit_code == 1
    assert ["error" in json.loads(line) for line in done.stdout.splitlines()] == [True, False]
    again = run(
        "localize", work / "m.onnx", bad, good, "-o", tmp_path / "out", "--no-pictures", "--resume"
    )
    assert again.exit_code == 1
    assert again.stdout == ""


def test_an_evaluation_goes_on_past_it(work: Path, tmp_path: Path, failing: Any) -> None:
    failing(RuntimeError)
    write_wsolevaluation(tmp_path / "data", 4)
    Image.new("RGB", (7, 7)).save(tmp_path / "data" / "val" / "002.png")
    done = run("evaluate", work / "e.onnx", tmp_path / "data", "-o", tmp_path / "out",
               "--gallery", 0, "--baselines", "none")  # fmt: skip
    assert done.exit_code == 1
    assert json.loads(done.stdout)["images"] == 3


@POSIX
def test_paths_that_are_no_pictures(work: Path, tmp_path: Path) -> None:
    paths = awkward(tmp_path)
    results = Session(work / "m.onnx").saliency(paths)
    assert len(results) == len(paths)
    assert [one.image for one in results.failed] == paths
    done = run("saliency", work / "m.onnx", *paths, work / "photos" / "0.png")
    assert done.exit_code == 1
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["image"] for line in lines if "error" in line] == paths
    assert len(lines) == len(paths) + 1
    os.mkfifo(tmp_path / "pipe.mp4")
    for place in (str(tmp_path / "pipe.mp4"), (tmp_path / "pipe.jpg").as_uri()):
        (one,) = Session(work / "m.onnx").saliency(place)
        assert one.error is not None
        assert "is a pipe or a device" in one.error.problem


def test_damaged_pictures_are_read_or_refused_in_words() -> None:
    spec = write_spec()
    refused = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, about headers
        for seed in range(400):
            data = mutant(random.Random(seed))
            try:
                preparing.prepare(load(data), spec)
            except ImageError as error:
                refused.append(error.problem)
    assert 200 < len(refused) < 350
    assert not [text for text in refused if "\n" in text or len(text) > 400]


def write_spec() -> Any:
    from backlit.runtime.contract import ImageInput

    return ImageInput("uint8", "NHWC", 3, 16, 16, "RGB", "crop", 0.875, "bilinear")


@pytest.mark.parametrize("size", [(60_000, 1), (1, 60_000), (30_000, 7)])
def test_long_images_take_no_gigabytes(work: Path, size: tuple[int, int]) -> None:
    resource = pytest.importorskip("resource")
    session = Session(work / "crop.onnx")
    picture = Image.new("RGB", size, "red")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (found,) = session.localize(picture, map="saliency")
    assert found.error is None
    assert (found.width, found.height) == size
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


def test_a_picture_is_not_read_through_a_map_of_its_file(tmp_path: Path) -> None:
    """Of a mapped file that is cut while it is decoded the process dies."""
    path = tmp_path / "a.bmp"
    Image.new("L", (300, 300), 7).save(path)
    with loading.content(path, "a") as file, Image.open(file) as image:
        os.truncate(path, 100)
        image.load()
        assert image.getpixel((299, 299)) == 7
        assert image.readonly == 0


def test_masks_that_do_not_fit_are_the_error_of_one_image(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(located, "boxes_of", full)
    (found,) = Session(work / "m.onnx").localize(work / "photos" / "0.png", map="saliency")
    assert isinstance(found.error, ImageError)
    assert "cannot be found (MemoryError)" in found.error.problem


def test_an_image_that_goes_before_its_picture_is_drawn(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = [tmp_path / f"{number}.png" for number in range(3)]
    for photo in photos:
        Image.open(work / "photos" / photo.name).save(photo)
    own = Pictures._draw_all

    def draw_all(*args: Any) -> None:
        photos[0].unlink()
        Image.new("RGB", (3, 3)).save(photos[1])
        own(*args)

    monkeypatch.setattr(Pictures, "_draw_all", draw_all)
    done = run("localize", work / "m.onnx", *photos, "-o", tmp_path / "out", "--scale", "run",
               "--sheet", tmp_path / "all.png")  # fmt: skip
    assert done.exit_code == 1
    assert "0.png does not exist" in done.stderr
    assert "1.png has changed" in done.stderr
    drawn = [path.name for path in (tmp_path / "out").glob("*.png")]
    assert drawn == ["2.backlit.png"]
    assert (tmp_path / "all.png").exists()
    assert len((tmp_path / "out" / "boxes.jsonl").read_text().splitlines()) == 3


@POSIX
def test_many_pictures_and_many_bad_ones(tmp_path: Path) -> None:
    """A small part of ``make many``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert many.prepare(tmp_path, good=40, bad=40) > 30
    counts = many.run(tmp_path, kills=2)
    assert (counts.results, counts.errors, counts.code) == (40, 40, 1)
    assert counts.kills == 2
    assert counts.same


# Full disks


@POSIX
@pytest.mark.parametrize("size", [1500, 2300])
def test_results_that_could_not_be_written_are_not_done(
    work: Path, tmp_path: Path, size: int
) -> None:
    args = ("localize", work / "m.onnx", work / "photos", "--top", 3, "--no-pictures", "-o")
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert run(*args, whole).exit_code == 0
    with largest_file(size):
        done = run(*args, out)
    assert done.exit_code == 1
    assert "cannot be written: File too large" in done.stderr
    assert "Traceback" not in done.output
    lines = (out / "boxes.jsonl").read_bytes().splitlines(True)
    assert len(done.stdout.splitlines()) <= len(lines) < 6
    assert run(*args, out, "--resume").exit_code == 0
    assert many.contents(out) == many.contents(whole)


@POSIX
def test_a_picture_that_cannot_be_written_stops_the_run(work: Path, tmp_path: Path) -> None:
    args = ("localize", work / "m.onnx", work / "photos", "-o", tmp_path / "out")
    (tmp_path / "out" / "3.backlit.png").mkdir(parents=True)
    done = run("localize", work / "m.onnx", "-", "-o", tmp_path / "out",
               stdin=str(work / "photos" / "3.png"))  # fmt: skip
    assert done.exit_code == 0  # of another name
    (tmp_path / "out" / "boxes.jsonl").unlink()
    done = run(*args)
    assert done.exit_code == 1
    assert "3.backlit.png cannot be written: it is a folder" in done.stderr
    assert not (tmp_path / "out" / "boxes.jsonl").exists()
    (tmp_path / "out" / "3.backlit.png").rmdir()
    assert run(*args).exit_code == 0


def test_a_log_on_a_full_disk_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    log = RunLog(tmp_path, {}, resume=False)
    monkeypatch.setattr(log, "_begin", lambda: open("/dev/full", "wb", buffering=0))  # noqa: SIM115
    with log, pytest.raises(OutputError, match="No space left on device"):
        log.add({"image": "a"})
    assert log.done == 0


# Two runs


@pytest.mark.skipif(sys.platform == "win32", reason="no locks there")
def test_a_second_run_is_refused_and_a_killed_one_leaves_no_lock(
    work: Path, tmp_path: Path
) -> None:
    photo, out = work / "photos" / "0.png", tmp_path / "out"
    process = subprocess.Popen(
        [*many.PROGRAM, "localize", str(work / "m.onnx"), "-", "-o", str(out)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{photo}\n")
    process.stdin.flush()
    process.stdout.readline()
    before = many.contents(out)
    for words in (
        ["localize"],
        ["localize", "--resume"],
        ["saliency"],
        ["localize", "--overwrite"],
    ):
        done = run(words[0], work / "m.onnx", photo, "-o", out, *words[1:])
        assert done.exit_code == 1
        assert "another run is writing into" in done.stderr
        assert done.stdout == ""
    assert many.contents(out) == before
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = run("localize", work / "m.onnx", "-", "-o", out, "--resume", stdin=f"{photo}\n")
    assert done.exit_code == 0, done.output
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


@pytest.mark.skipif(sys.platform == "win32", reason="no locks there")
@pytest.mark.parametrize("place", ["out", "maps"])
def test_evaluations_and_demos_keep_out_too(work: Path, tmp_path: Path, place: str) -> None:
    write_wsolevaluation(tmp_path / "data", 2)
    (tmp_path / place).mkdir()
    with alone(tmp_path / place):
        done = run("evaluate", work / "e.onnx", tmp_path / "data", "-o", tmp_path / "out",
                   "--heatmaps", tmp_path / "maps")  # fmt: skip
        assert done.exit_code == 1
        assert "another run is writing into" in done.stderr
        if place == "out":
            assert run("demo", "-o", tmp_path / place).exit_code == 1
    assert not list((tmp_path / place).iterdir())
    done = run("evaluate", work / "e.onnx", tmp_path / "data", "-o", tmp_path / "maps",
               "--heatmaps", tmp_path / "maps", "--baselines", "none", "--gallery", 0)  # fmt: skip
    assert done.exit_code == 0, done.output  # one folder for both is one lock


@pytest.mark.skipif(sys.platform == "win32", reason="no locks there")
def test_of_many_that_come_at_once_one_writes(tmp_path: Path) -> None:
    inside, most, refused = [0], [0], [0]
    ready = threading.Barrier(8)

    def enter() -> None:
        ready.wait()
        for _ in range(50):
            try:
                with alone(tmp_path):
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    inside[0] -= 1
            except OutputError:
                refused[0] += 1

    threads = [threading.Thread(target=enter) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert refused[0] < 400
    assert not list(tmp_path.iterdir())


@POSIX
def test_what_a_running_process_writes_is_not_swept(tmp_path: Path) -> None:
    names = [f".a.npy.{os.getpid()}.7.backlit.part", ".b.npy.4194305.7.backlit.part", ".mine.part"]
    for name in names:
        (tmp_path / name).touch()
    files.sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [names[0], names[2]]


def test_the_error_of_an_unreadable_thing_is_kept() -> None:
    class Broken:
        def read(self) -> bytes:
            raise BacklitError("gone.", "find it.")

    (one,) = sources(Broken())
    assert "cannot be read" in str(one.error)  # type: ignore[union-attr]
