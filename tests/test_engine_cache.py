"""The cache of TensorRT engines survives being killed, raced, damaged, and a full disk."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from backlit.runtime.backend.tensorrt.cache import CacheWarning, EngineCache, default_root
from backlit.runtime.errors import ModelError, OutputError
from support.engine_builder import KEY, OTHER, SIZE, names, state, write
from support.hardship import largest_file, open_folder, read_only

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX locks and signals")
__all__ = ["open_folder"]  # a fixture
BUILDER = [sys.executable, str(Path(__file__).parent / "support" / "engine_builder.py")]
ENGINE, PROFILE = "backlit_1_0_sm90.engine", "backlit_1_0_sm90.profile"
WHOLE = sorted([KEY.digest(), KEY.timing()])


def build(root, pause=0.0, log=None, other=False):
    """A process that builds, and has begun."""
    arguments = [str(root), str(pause), *([str(log)] if log else []), *(["other"] * other)]
    process = subprocess.Popen([*BUILDER, "build", *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "begin\n"
    return process


# Killed


@pytest.mark.parametrize("before", ["nothing", "damaged"])
def test_killed_at_every_step(tmp_path, before):
    done = subprocess.run(
        [*BUILDER, "kill", str(tmp_path / "cache"), before],
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    steps = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(steps) > 30
    assert [step["killed"] for step in steps] == [True] * (len(steps) - 1) + [False]
    allowed = {"absent", "whole"}
    if before == "damaged":
        allowed.add(
            f"{ENGINE.replace('engine', 'profile', 1)[:0]}backlit_1_0_sm90.profile was changed"
        )
    assert {step["state"] for step in steps} == allowed
    for step in steps:
        assert step["then"] == "whole"
        assert set(step["names"]) <= set(WHOLE)
        assert KEY.digest() in step["names"]
        assert step["builds"] == (step["state"] != "whole")
    # each kind of left-over was there to be swept
    left = {name.rsplit(".", 1)[-1] for step in steps for name in step["left"]}
    assert {"part", "lock"} < left


def test_killed_at_any_moment(tmp_path):
    rng = random.Random(8)
    start = time.monotonic()
    process = build(tmp_path / "unbroken", 0.005)
    process.communicate()
    whole = time.monotonic() - start
    found = set()
    for number in range(20):
        root = tmp_path / str(number)
        process = build(root, 0.005)
        time.sleep(rng.random() * min(whole, 0.1))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        found.add(state(root))
        builds = []
        EngineCache(root).folder(KEY, lambda folder, b=builds: (b.append(1), write(folder)))
        assert state(root) == "whole"
        assert set(names(root)) <= set(WHOLE)
        assert len(builds) <= 1
    assert found <= {"absent", "whole"}
    assert "absent" in found


# Raced


def test_the_second_waits_for_the_first(tmp_path):
    root, log = tmp_path / "cache", tmp_path / "log"
    processes = [build(root, 0.05, log) for _ in range(4)]
    printed = {process.communicate()[0] for process in processes}
    assert printed == {f"{root / KEY.digest()}\n"}
    assert log.read_text() == "begun\nended\n"
    assert names(root) == WHOLE


def test_two_models_are_built_side_by_side_and_neither_is_swept(tmp_path):
    root, log = tmp_path / "cache", tmp_path / "log"
    processes = [build(root, 0.1, log), build(root, 0.1, log, other=True)]
    assert all(process.communicate()[0] and not process.returncode for process in processes)
    assert log.read_text() == "begun\nbegun\nended\nended\n"
    assert (state(root), state(root, OTHER)) == ("whole", "whole")
    assert names(root) == sorted([*WHOLE, OTHER.digest()])


def test_threads_race_too(tmp_path):
    builds, found = [], []
    cache = EngineCache(tmp_path)

    def slow(folder):
        builds.append(1)
        write(folder, pause=0.01)

    threads = [
        threading.Thread(target=lambda: found.append(cache.folder(KEY, slow))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(builds) == 1
    assert found == [tmp_path / KEY.digest()] * 6


def test_when_the_first_is_killed_the_second_builds(tmp_path):
    root, log = tmp_path / "cache", tmp_path / "log"
    first = build(root, 10, log)
    while not log.exists():
        time.sleep(0.01)
    second = build(root, 0, log)
    time.sleep(0.1)
    assert second.poll() is None
    first.kill()
    first.communicate()
    second.communicate()
    assert log.read_text() == "begun\nbegun\nended\n"
    assert names(root) == WHOLE


# Damaged


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << (at % 8)
    path.write_bytes(data)


def foreign_manifest(folder):
    other = folder.parent / OTHER.digest()
    EngineCache(folder.parent).folder(OTHER, lambda made: write(made, SIZE // 2))
    (folder / "manifest.json").write_bytes((other / "manifest.json").read_bytes())


def link(folder):
    (folder / ENGINE).rename(folder.parent / "elsewhere")
    (folder / ENGINE).symlink_to(folder.parent / "elsewhere")


def as_file(folder):
    folder.rename(folder.parent / "moved")
    folder.write_text("no folder")


def as_folder(folder):
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").mkdir()


def another_whole_entry(folder):
    other = EngineCache(folder.parent).folder(OTHER, lambda made: write(made, SIZE // 2))
    shutil.rmtree(folder)
    other.rename(folder)


DAMAGES = {
    "another whole entry": another_whole_entry,
    "truncated": lambda f: os.truncate(f / ENGINE, SIZE - 1),
    "empty": lambda f: os.truncate(f / ENGINE, 0),
    "longer": lambda f: (f / ENGINE).write_bytes((f / ENGINE).read_bytes() + b"\0"),
    "missing": lambda f: (f / ENGINE).unlink(),
    "other missing": lambda f: (f / PROFILE).unlink(),
    "extra": lambda f: (f / "extra.engine").write_text("foreign"),
    "extra folder": lambda f: (f / "extra").mkdir(),
    "renamed": lambda f: (f / ENGINE).rename(f / "backlit_2_0_sm90.engine"),
    "a link": link,
    "no manifest": lambda f: (f / "manifest.json").unlink(),
    "empty manifest": lambda f: os.truncate(f / "manifest.json", 0),
    "foreign manifest": foreign_manifest,
    "no JSON": lambda f: (f / "manifest.json").write_text("[]\n[]\n"),
    "manifest is a folder": lambda f: (
        (f / "manifest.json").unlink(),
        (f / "manifest.json").mkdir(),
    ),
    "emptied": lambda f: [path.unlink() for path in f.iterdir()],
    "a file": as_file,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_and_mended(tmp_path, damage):
    cache = EngineCache(tmp_path)
    folder = cache.folder(KEY, write)
    DAMAGES[damage](folder)
    assert cache.find(KEY) is None
    builds = []
    with pytest.warns(CacheWarning, match="damaged"):
        assert cache.folder(KEY, lambda made: (builds.append(1), write(made))) == folder
    assert builds == [1]
    assert state(tmp_path) == "whole"
    assert sorted(names(folder)) == sorted(["manifest.json", ENGINE, PROFILE])
    assert cache.folder(KEY, pytest.fail) == folder  # and no warning


def test_any_flipped_byte_is_found(tmp_path):
    cache = EngineCache(tmp_path)
    folder = cache.folder(KEY, lambda made: write(made, 3000))
    rng = np.random.default_rng(0)
    manifest = folder / "manifest.json"
    places = [(manifest, at) for at in range(0, manifest.stat().st_size, 3)]
    places += [(folder / ENGINE, int(at)) for at in rng.integers(0, 3000, 50)]
    for path, at in places:
        before = path.read_bytes()
        flip(path, at)
        assert cache.find(KEY) is None, (path.name, at)
        path.write_bytes(before)
        assert cache.find(KEY) == folder
    assert cache.find(KEY) == folder


def test_damaged_timings_begin_anew(tmp_path):
    cache = EngineCache(tmp_path)
    cache.folder(KEY, write)
    timing = tmp_path / KEY.timing() / "TensorrtExecutionProvider_cache_sm90.timing"
    cache.folder(OTHER, write)
    assert timing.read_bytes() == b"timedtimed"  # shared by the models of a GPU
    flip(timing, 3)
    cache.discard(KEY)
    with pytest.warns(CacheWarning, match=r"timing cache .* was changed"):
        cache.folder(KEY, write)
    assert timing.read_bytes() == b"timed"


@pytest.mark.parametrize("size", [0, 10, 1000, SIZE - 1])
def test_full_disk(tmp_path, size):
    cache = EngineCache(tmp_path / "cache")
    with largest_file(size), pytest.raises(OutputError, match="cannot be written"):
        cache.folder(KEY, write)
    assert names(cache.root) == []
    cache.folder(KEY, write)
    assert state(cache.root) == "whole"


def test_a_builder_that_fails_leaves_nothing(tmp_path):
    def fails(folder):
        write(folder)
        raise ModelError("refused", "none")

    cache = EngineCache(tmp_path)
    with pytest.raises(ModelError, match="refused"):
        cache.folder(KEY, fails)
    assert KEY.digest() not in names(tmp_path)
    assert not [name for name in names(tmp_path) if name.startswith(".")]


def test_a_warm_cache_may_be_read_only(open_folder):
    cache = EngineCache(open_folder / "cache")
    folder = cache.folder(KEY, write)
    (cache.root / f".{OTHER.digest()}.1.part").mkdir()  # which cannot be swept
    with read_only(cache.root):
        assert cache.folder(KEY, pytest.fail) == folder
        with pytest.raises(OutputError, match="cannot be written"):
            cache.folder(OTHER, write)
        with pytest.raises(OutputError):
            cache.clear()
    assert cache.find(KEY) == folder


def test_left_overs_are_swept_by_lock_not_by_age(tmp_path):
    cache, log = EngineCache(tmp_path / "cache"), tmp_path / "log"
    process = build(cache.root, 0.1, log)
    while not log.exists():
        time.sleep(0.01)
    dead = cache.root / f".{OTHER.digest()}.99999.part"
    dead.mkdir()
    (dead / "engine").write_text("half")
    (cache.root / "notes.txt").write_text("a user's")
    with contextlib.closing(process.stdout):
        assert cache.clear() == []
        left = [name for name in names(cache.root) if name.endswith(".part")]
        assert left == [f".{KEY.digest()}.{process.pid}.part"]
        process.wait()
    assert state(cache.root) == "whole"
    assert [entry.name for entry in cache.entries()] == WHOLE
    assert [entry.damage for entry in cache.entries()] == ["", ""]
    removed = cache.clear()
    assert sum(entry.bytes for entry in removed) > SIZE
    assert names(cache.root) == ["notes.txt"]


def test_where_the_cache_is(monkeypatch, tmp_path):
    for variable in ("BACKLIT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_root() == tmp_path / ".cache" / "backlit"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_root() == tmp_path / ".cache" / "backlit"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_root() == tmp_path / "xdg" / "backlit"
    monkeypatch.setenv("BACKLIT_CACHE", "~/mine")
    assert default_root() == tmp_path / "mine"
    assert EngineCache().root == tmp_path / "mine" / "tensorrt"
