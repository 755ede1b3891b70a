"""Many images: order, steps side by side, lazy lists, bounded memory."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from backlit.runtime import Session, located, pipeline
from backlit.runtime.backend import plan as planning
from backlit.runtime.boxes.recipes import RECIPES
from backlit.runtime.errors import OptionError
from backlit.runtime.images.listing import Inputs
from backlit.runtime.output.names import Names
from backlit.runtime.stages import PAUSE
from PIL import Image
from support.linear_file import write_linear_file

PROGRAM = [sys.executable, "-m", "backlit.runtime"]
BEST = np.array([[-1]])
WAIT = 20
"""Seconds after which a step that should have come has not."""


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    write_linear_file(folder / "m.onnx", height=32, width=32)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    return folder


@pytest.fixture(scope="module")
def session(work):
    return Session(work / "m.onnx", ["cpu"], 1)


def pictures(count):
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (9 + i % 5, 12, 3), dtype=np.uint8) for i in range(count)]


@pytest.mark.parametrize(("runs", "batch", "workers"), [(1, 4, 1), (3, 2, 4), (2, 1, 2)])
def test_any_number_of_threads_gives_the_same_in_order(session, tmp_path, runs, batch, workers):
    images = pictures(23)
    images[7] = tmp_path / "missing.png"
    recipe = RECIPES["pixels"]
    found = list(
        pipeline.localize_results(
            session, iter(images), BEST, recipe, batch=batch, workers=workers, runs=runs
        )
    )
    assert [one.index for one in found] == list(range(23))
    assert [one.index for one in found if one.error] == [7]
    del images[7], found[7]
    for image, one in zip(images, found, strict=True):
        (alone,) = session.localize(image)
        assert one.value.boxes == alone.boxes
        np.testing.assert_array_equal(one.value.scores, alone.scores)
        np.testing.assert_array_equal(one.value.masks, alone.masks)


def test_batches_are_in_the_network_side_by_side(session, monkeypatch):
    meet, own = threading.Barrier(3), pipeline.explain
    sessions = set()

    def explain(session, *others):
        sessions.add(id(session))
        meet.wait(WAIT)  # breaks unless three are here at once
        return own(session, *others)

    monkeypatch.setattr(pipeline, "explain", explain)
    flow = pipeline.saliency_results(session, pictures(12), BEST, batch=1, workers=1, runs=3)
    assert len([one for one in flow if one.value is not None]) == 12
    assert len(sessions) == 3


def test_the_network_runs_while_boxes_are_found(session, monkeypatch):
    second, own = threading.Event(), pipeline.explain

    def explain(session, images, *others):
        if images[0].frame[0, 0, 0] == 200:
            second.set()
        return own(session, images, *others)

    monkeypatch.setattr(pipeline, "explain", explain)
    images = [np.full((8, 8, 3), value, np.uint8) for value in (100, 200)]
    flow = pipeline.saliency_results(session, images, BEST, batch=1, workers=1)
    assert list(pipeline.after(flow, lambda one: second.wait(WAIT), 1)) == [True, True]


def test_siblings_share_weights_and_nothing_that_a_run_writes(session):
    other = session.sibling()
    assert other._bindings._session((1, 1)) is session._bindings._session((1, 1))
    images = np.random.default_rng(2).integers(0, 256, (40, 1, 32, 32, 3), dtype=np.uint8)
    index = np.array([[0, 1]])
    right = [session.run(image, index).scores for image in images]
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(lambda one=one: [one.run(image, index).scores for image in images])
                for one in (session, other)]  # fmt: skip
        for one in both:
            np.testing.assert_array_equal(one.result(), right)


def test_a_list_that_pauses_gets_its_results_before_it_goes_on(session):
    taken = []

    def sources():
        for image in pictures(3):
            yield image
            yield PAUSE
            taken.append(len(given))

    given = []
    flow = pipeline.saliency_flow(session, sources(), BEST, batch=4, workers=2, runs=2)
    given.extend(pipeline.after(flow, lambda one: one, 2))
    assert taken == [1, 2, 3]
    assert [result.index for result in given] == [0, 1, 2]


def test_an_endless_list_of_bad_images(session, tmp_path):
    def sources():
        while True:
            yield tmp_path / "missing.png"

    flow = pipeline.localize_results(session, sources(), BEST, RECIPES["pixels"], workers=2)
    assert [next(flow).error is None for _ in range(50)] == [False] * 50
    flow.close()
    assert not [one for one in threading.enumerate() if one.name.startswith("backlit")]


def test_a_list_is_read_a_bounded_number_ahead_of_the_results(session):
    taken = 0

    def sources():
        nonlocal taken
        for image in pictures(400):
            taken += 1
            yield image

    ahead = []
    flow = pipeline.localize_results(
        session, sources(), BEST, RECIPES["pixels-threshold"], 1, batch=4, workers=2, runs=2
    )
    for number, _ in enumerate(flow, 1):
        ahead.append(taken - number)
    # Batches: two in the network, one before it, one being handed on and one being filled; what is
    # decoded; what is in the hands of the threads that find boxes.
    assert max(ahead) <= 5 * 4 + (4 + 2) + 2 * 2
    assert number == taken == 400


def test_masks_are_made_when_asked_for(session):
    (found,) = pipeline.saliency_results(session, [pictures(1)[0]], np.array([[0, 1]]))
    recipe = RECIPES["pixels"]
    full, bare = (located.boxes(found, recipe, masks=masks).value for masks in (True, False))
    assert full.boxes == bare.boxes
    assert full.masks.shape == (2, 9, 12)
    assert full.masks.any(axis=(1, 2)).all()
    assert bare.masks.shape == (0, 9, 12)


@pytest.mark.parametrize(
    ("usable", "threads", "images", "plan"),
    [
        (2, None, None, (1, 2)),
        (2, None, 1, (None, 1)),
        (2, None, 2, (1, 2)),
        (1, None, 50, (1, 1)),
        (16, None, 5000, (2, 8)),
        (16, None, 3, (5, 3)),
        (16, 4, None, (4, 4)),
        (2, 4, 100, (4, 1)),
        (4, 1, 100, (1, 4)),
    ],
)
def test_cores_are_shared_out(monkeypatch, usable, threads, images, plan):
    monkeypatch.setattr(planning, "cores", lambda: usable)
    assert planning.plan("cpu", threads, images) == plan


def test_gpus_compute_one_batch_and_copy_another(monkeypatch):
    monkeypatch.setattr(planning, "candidates", lambda providers: [("cuda", "cpu")])
    assert planning.plan(None, None, 5000) == (None, 2)
    assert planning.plan(None, None, 1) == (None, 1)
    monkeypatch.setattr(planning, "candidates", lambda providers: [("openvino",)])
    assert planning.plan(None, None, 5000) == (None, 1)


# The images of a command line


def test_inputs_are_files_and_sorted_folders(tmp_path):
    for name in ("b.jpg", "a.PNG", "c.txt", "d.jpeg.md"):
        (tmp_path / name).touch()
    (tmp_path / "none").mkdir()
    inputs = Inputs(["x.jpg", str(tmp_path), "x.jpg"])
    assert (inputs.total, inputs.streamed) == (4, False)
    inside = [str(tmp_path / name) for name in ("a.PNG", "b.jpg")]
    assert list(inputs) == ["x.jpg", *inside, "x.jpg"]
    assert list(inputs) == list(inputs)
    with pytest.raises(OptionError, match="without images"):
        Inputs([str(tmp_path / "none")])


def test_names_do_not_collide_and_are_the_same_in_every_run():
    images = ["a/cat.jpg", "b/cat.png", "cat_2.jpg", "Cat.jpg", "a/.jpg", "x" * 300 + ".jpg"]
    for numbered in (False, True):
        first, second = Names(numbered), Names(numbered)
        names = [first.take(image) for image in images]
        assert names == [second.take(image) for image in images]
        assert len({name.lower() for name in names}) == len(images)
        assert max(len(name) for name in names) <= 160
    assert names[:2] == ["000001_cat", "000002_cat"]
    first = Names()
    assert [first.take(image) for image in images[:3]] == ["cat", "cat_2", "cat_2_2"]


def test_numbered_names_remember_nothing():
    names = Names(numbered=True)
    for _ in range(1000):
        names.take("a/cat.jpg")
    assert not names._used


@pytest.mark.skipif(os.name != "posix", reason="select knows only sockets elsewhere")
def test_stdin_is_answered_line_by_line_and_never_read_to_its_end(work):
    process = subprocess.Popen(
        [*PROGRAM, "localize", str(work / "m.onnx"), "-"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    for _ in range(3):  # a line is answered although no other follows
        process.stdin.write(f"{work / 'a.png'}\n")
        process.stdin.flush()
        assert '"results"' in process.stdout.readline()
    written = 0
    os.set_blocking(process.stdin.fileno(), False)
    line, since = f"{work / 'a.png'}\n".encode(), time.monotonic()
    while time.monotonic() < since + 1:  # nobody reads the results, so the list must not be read
        try:
            written += os.write(process.stdin.fileno(), line * 20)
        except BlockingIOError:
            time.sleep(0.01)
    # What fits into both pipes (64 KiB of paths and of results), one read and what is under way.
    assert 3 < written / len(line) < 3 * (1 << 16) / len(line) + 500
    process.kill()
    process.communicate()


# Not ru_maxrss, which a process has from the one that started it.
PEAK = """
import re, sys
from backlit.runtime.cli import main
sys.stdin = open(sys.argv[1])
sys.stdout = open(sys.argv[2], "w")
try:
    main(["localize", sys.argv[3], "-", "-o", sys.argv[4], "--no-pictures", "--format", "coco"])
finally:
    print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1], file=sys.stderr)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_list(work, tmp_path):
    peaks = []
    for count in (60, 1500):
        listed, out = tmp_path / "list", tmp_path / f"out{count}"
        listed.write_text(f"{work / 'a.png'}\n" * count)
        done = subprocess.run(
            [sys.executable, "-c", PEAK, listed, tmp_path / "lines", work / "m.onnx", out],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        peaks.append(int(done.stderr.split()[-1]))
        assert len((out / "boxes.jsonl").read_bytes().splitlines()) == count
        assert Path(out / "coco.json").exists()
    # 1,440 more images: 2 KiB kept of each would be 2.9 MB.
    assert peaks[1] - peaks[0] < 2500
