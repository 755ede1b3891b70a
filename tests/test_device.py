"""Buckets, buffers, copies and threads of a device, against the closed form of a linear file."""

import dataclasses
import gc
import itertools
import threading
import time
import types
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from backlit.runtime.backend import provider, sessions
from backlit.runtime.backend.cuda import on_device as gpu
from backlit.runtime.backend.cuda.buffers import GATE
from backlit.runtime.backend.cuda.device import DeviceBindings, split
from backlit.runtime.backend.providers import cuda as cuda_row
from backlit.runtime.backend.providers import tensorrt as tensorrt_row
from backlit.runtime.backend.providers.table import PROVIDERS
from backlit.runtime.backend.sessions import open_session
from backlit.runtime.errors import BacklitWarning, OptionError
from support import simulated
from support.linear_file import write_linear_file

RNG = np.random.default_rng(3)
SMALL = (1, 2, 4)


def pixels(n):
    return RNG.integers(0, 256, (n, 8, 6, 3), dtype=np.uint8)


def indices(n, k):
    return RNG.integers(-5, 5, (n, k))


@pytest.fixture(scope="module")
def linear(tmp_path_factory):
    return write_linear_file(tmp_path_factory.mktemp("file") / "linear.onnx")


@pytest.fixture(scope="module")
def opened(linear):
    return open_session(linear.path, "cpu", threads=1).session


class Device:
    """Bindings on a simulated device, with what the test looks at."""

    def __init__(self, linear, opened, buckets=SMALL, graphs=True, seed=0, delay=0.002):
        self.driver = simulated.Simulated(seed, delay)
        streams = self.driver.three()
        self.session = simulated.Session(opened, self.driver, streams.compute)
        self.bindings = DeviceBindings(
            linear.contract, self.session, self.driver, streams, buckets, graphs
        )
        self.linear = linear

    def right(self, images, index, results):
        scores, classes, score, saliency = (np.asarray(one) for one in results)
        expected = self.linear.scores(images)
        order = np.argsort(-expected, axis=1)
        resolved = np.where(
            index < 0, np.take_along_axis(order, np.maximum(-1 - index, 0), 1), index
        )
        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-3)
        np.testing.assert_array_equal(classes, resolved)
        np.testing.assert_array_equal(score, np.take_along_axis(scores, classes, 1))
        np.testing.assert_allclose(saliency, self.linear.saliency()[resolved], rtol=1e-6)
        self.driver.check()

    def run(self, n, k):
        images, index = pixels(n), indices(n, k)
        self.right(images, index, self.bindings.run(images, index))


def test_split_is_the_cheapest_cover():
    for buckets in (PROVIDERS["cuda"].buckets, PROVIDERS["tensorrt"].buckets, SMALL, (3, 5), (4,)):
        for n in range(1, 2 * buckets[-1] + 2):
            parts = split(n, buckets)
            assert set(parts) <= set(buckets)
            assert list(parts) == sorted(parts, reverse=True)
            assert sum(parts[:-1]) < n <= sum(parts)
    for n in range(1, 14):  # every way there is
        ways = (
            way
            for r in range(1, n + 1)
            for way in itertools.combinations_with_replacement(SMALL, r)
        )
        least = min(sum(way) + 8 * len(way) for way in ways if sum(way) >= n)
        assert sum(split(n, SMALL)) + 8 * len(split(n, SMALL)) == least
    assert split(1, PROVIDERS["cuda"].buckets) == (1,)
    assert split(3, PROVIDERS["cuda"].buckets) == (8,)
    assert split(9, PROVIDERS["cuda"].buckets) == (8, 1)
    assert split(30, PROVIDERS["cuda"].buckets) == (32,)
    assert split(1000, PROVIDERS["cuda"].buckets) == (*[128] * 7, 32, 32, 32, 8)
    assert len(split(100_000, PROVIDERS["cuda"].buckets)) == 782


@pytest.mark.parametrize("graphs", [True, False])
def test_every_number_of_images_and_classes(linear, opened, graphs):
    device = Device(linear, opened, graphs=graphs)
    for n, k in [(1, 1), (3, 2), (9, 1), (4, 5), (17, 2), (1, 1), (2, 3), (3, 2), (11, 1)]:
        device.run(n, k)


def test_a_second_lane_is_filled_while_the_first_computes(linear, opened):
    """A gate in the compute stream holds the first run; the second's pixels go up meanwhile."""
    device = Device(linear, opened, buckets=(2,), delay=0)
    device.run(2, 1)
    gate, driver = threading.Event(), device.driver
    driver.give(2, lambda: gate.wait(simulated.WAIT))
    driver.copied.clear()
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(device.run, 2, 1) for _ in range(2)]
        deadline = threading.Event()
        while driver.copied.count(2 * 8 * 6 * 3) < 2 and not deadline.wait(0.01):
            pass
        assert not any(run.done() for run in runs)
        gate.set()
        for run in runs:
            run.result()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("graphs", [True, False])
def test_threads(linear, opened, seed, graphs):
    device = Device(linear, opened, graphs=graphs, seed=seed, delay=0.001)
    jobs = [(n, k) for n in (1, 2, 3, 5, 9) for k in (1, 2)] * 3
    order = np.random.default_rng(seed).permutation(len(jobs))
    given = [(pixels(n), indices(n, k)) for n, k in (jobs[i] for i in order)]
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda one: device.bindings.run(*one), given))
    for (images, index), result in zip(given, results, strict=True):
        device.right(images, index, result)
    assert len(device.session.threads) == 1
    assert device.session.threads != {threading.get_ident()}
    assert device.driver.used == 1


def test_pixels_of_padding_are_not_copied(linear, opened):
    device = Device(linear, opened, buckets=(4,), delay=0)
    device.run(3, 2)
    row = {"image": 8 * 6 * 3, "index": 16, "scores": 20, "class": 16, "score": 8, "map": 2 * 192}
    whole = [4 * row["image"], 4 * row["index"]] * 2  # once for each lane: zeros
    assert sorted(device.driver.copied) == sorted([*whole, *(3 * size for size in row.values())])


def test_a_graph_for_each_lane_in_one_thread(linear, opened):
    device = Device(linear, opened)
    for n, k in [(1, 1), (4, 1), (1, 1), (4, 1), (4, 2)]:
        device.run(n, k)
    captured = device.session.graphs
    assert len(captured) == len({number for _, number in captured}) == 6  # 3 shapes, twice
    assert "0" not in {number for _, number in captured}  # of runs that name none
    assert len(device.session.numbers) == 6 + 5


def test_no_more_graphs_than_are_worth_their_memory(linear, opened):
    device = Device(linear, opened, delay=0)
    for k in range(1, 15):
        device.run(1, k)
        device.run(1, k)
    assert len(device.session.graphs) == 16
    assert device.session.numbers.count("-1") == 2 * (14 - 8)
    assert len(device.bindings._pool._free) == 8 + 4
    device.run(1, 1)  # one that is kept
    assert len(device.session.graphs) == 16


def test_more_classes_than_an_engine_takes(linear, opened):
    device = Device(linear, opened, delay=0)
    device.bindings._classes = 2
    device.run(5, 5)
    assert {shape[1] for shape in device.bindings._pool._free} == {1, 2}
    frames = simulated.Frames(device.driver, pixels(1))
    with pytest.raises(OptionError, match="5 classes are more than the engine takes"):
        device.bindings.run_dlpack(frames, indices(1, 5))


def test_without_graphs_no_number(linear, opened):
    device = Device(linear, opened, graphs=False, delay=0)
    for k in range(1, 8):
        device.run(2, k)
    assert device.session.numbers == [None] * 7
    assert len(device.bindings._pool._free) == 4


def test_an_error_gives_every_lane_back(linear, opened, monkeypatch):
    device = Device(linear, opened)
    device.run(4, 1)
    run, count = device.session.run_with_iobinding, itertools.count()

    def fails(io, options):
        if next(count) == 1:
            raise RuntimeError("out of memory")
        run(io, options)

    monkeypatch.setattr(device.session, "run_with_iobinding", fails)
    with pytest.raises(RuntimeError, match="out of memory"):
        device.run(17, 1)
    assert {len(sets) for sets in device.bindings._pool._free.values()} == {2}
    device.run(17, 1)
    for _ in range(3):
        with pytest.raises(ValueError, match="could not broadcast"):
            device.bindings.run(np.zeros((4, 8, 5, 3), np.uint8), indices(4, 1))
    device.run(4, 1)


def test_buffers_that_cannot_be_made_are_an_error_and_no_deadlock(linear, opened, monkeypatch):
    device = Device(linear, opened, delay=0)
    pinned = device.driver.pinned

    def full(shape, dtype):
        raise MemoryError("no memory")

    monkeypatch.setattr(device.driver, "pinned", full)
    for _ in range(2):
        with pytest.raises(MemoryError):
            device.run(1, 1)
    monkeypatch.setattr(device.driver, "pinned", pinned)
    device.run(1, 1)


@pytest.mark.parametrize("graphs", [True, False])
def test_dlpack(linear, opened, graphs):
    device = Device(linear, opened, graphs=graphs)
    given, results = [], []
    for n, k in [(3, 1), (3, 1), (9, 2), (1, 1), (3, 1), (9, 2)]:
        images, index = pixels(n), indices(n, k)
        frames = simulated.Frames(device.driver, images)
        results.append(device.bindings.run_dlpack(frames, index))
        assert frames.asked == 1  # the stream that copies up: it waits until they are made
        frames.values = None  # whoever made them may let them go
        given.append((images, index))
        device.run(2, 1)
    for (images, index), found in zip(given, results, strict=True):
        device.right(images, index, [one.numpy() for one in found])
        assert found[3].shape == (*index.shape, 8, 6)
        assert found[3].dtype == np.float32
        assert found[3].__dlpack_device__() == (1, 0)
        np.testing.assert_array_equal(np.from_dlpack(found[1]), found[1].numpy())


def test_the_stream_that_takes_a_result_waits_for_it(linear, opened):
    device = Device(linear, opened, delay=0)
    device.run(2, 1)
    gate = threading.Event()
    device.driver.give(2, lambda: gate.wait(simulated.WAIT))
    images, index = pixels(2), indices(2, 1)
    found = device.bindings.run_dlpack(simulated.Frames(device.driver, images), index)
    consumer, done = device.driver.stream(), threading.Event()
    capsules = [one.__dlpack__(stream=consumer) for one in found]  # returns before it is computed
    device.driver.give(consumer, done.set)
    assert not done.wait(0.05)
    gate.set()
    assert done.wait(simulated.WAIT)
    assert len(capsules) == 4
    device.right(images, index, [one.numpy() for one in found])


def test_two_results_may_wait_for_their_copies_and_none_is_overwritten(linear, opened):
    device = Device(linear, opened, delay=0)
    device.run(2, 1)
    gate, given, results, passed = threading.Event(), [], [], []
    device.driver.give(3, lambda: passed.append(gate.wait(simulated.WAIT)))
    for number in range(8):
        if number == 2:  # the buffers are in turns: nobody has waited for a copy
            assert passed == []
            gate.set()
        if number >= 2:
            device.driver.give(3, lambda: time.sleep(0.02))
        given.append((pixels(2), indices(2, 1)))
        frames = simulated.Frames(device.driver, given[-1][0])
        results.append(device.bindings.run_dlpack(frames, given[-1][1]))
    for (images, index), found in zip(given, results, strict=True):
        device.right(images, index, [one.numpy() for one in found])
    assert passed == [True]


def test_a_lane_is_not_let_go_before_its_results_are_copied(linear, opened):
    device = Device(linear, opened, graphs=False, delay=0)
    gate = threading.Event()
    images, index = pixels(2), indices(2, 1)
    device.run(2, 1)
    device.driver.give(3, lambda: gate.wait(simulated.WAIT))
    found = device.bindings.run_dlpack(simulated.Frames(device.driver, images), index)
    lane = weakref.ref(device.bindings._pool._free[2, 1][-1])
    held = device.bindings._pool

    def more():
        for k in range(2, 6):
            held.give(held.take((1, k)), (1, k))

    with ThreadPoolExecutor(1) as pool:
        others = pool.submit(more)
        with pytest.raises(TimeoutError):
            others.result(0.1)
        assert lane() is not None
        gate.set()
        others.result(simulated.WAIT)
    assert lane() is None
    device.right(images, index, [one.numpy() for one in found])


def test_the_shape_that_was_run_longest_ago_goes(linear, opened):
    device = Device(linear, opened, graphs=False, delay=0)
    for k in (1, 2, 3, 4, 1, 5):
        device.run(1, k)
    assert list(device.bindings._pool._free) == [(1, 3), (1, 4), (1, 1), (1, 5)]


def test_nobody_else_uses_the_device_while_a_graph_is_captured(linear, opened, monkeypatch):
    """Other sessions of the process neither run nor are opened."""
    first, second = (Device(linear, opened, seed=seed) for seed in (1, 2))
    second.run(1, 1)
    capturing, go_on, used = threading.Event(), threading.Event(), []
    run = first.session.run_with_iobinding

    def captures(io, options):
        capturing.set()
        assert go_on.wait(simulated.WAIT)
        run(io, options)

    def opens():
        with GATE.using():
            used.append("opened")

    monkeypatch.setattr(first.session, "run_with_iobinding", captures)
    with ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(first.run, 4, 1)]
        assert capturing.wait(simulated.WAIT)
        before = len(second.driver.copied)
        runs += [pool.submit(second.run, 1, 1), pool.submit(opens)]
        with pytest.raises(TimeoutError):
            runs[1].result(0.1)
        assert len(second.driver.copied) == before
        assert used == []
        go_on.set()
        for one in runs:
            one.result(simulated.WAIT)
    assert used == ["opened"]
    assert GATE.busy == 0


def test_streams_of_a_session_that_is_gone_are_used_again(linear, opened, monkeypatch):
    driver, pool = simulated.Simulated(), gpu._Pool()
    monkeypatch.setattr(gpu, "_STREAMS", pool)
    first, second = pool.take(driver), pool.take(driver)
    assert len({*dataclasses.astuple(first), *dataclasses.astuple(second)}) == 6
    # The caller's own stream does not become ours.
    streams = dataclasses.replace(first, compute=driver.stream())
    session = provider.Opened(simulated.Session(opened, driver, streams.compute), "cuda")
    device = gpu.Device(driver, streams, first)
    running = gpu.on_device("cuda", linear.contract, session, device, SMALL)
    gate, done = threading.Event(), []
    running.bindings.run(pixels(3), indices(3, 1))
    assert pool.take(driver) not in (first, second)
    driver.give(streams.compute, lambda: (gate.wait(simulated.WAIT), done.append("computed")))
    threading.Timer(0.05, gate.set).start()
    del running, session
    gc.collect()
    assert done == ["computed"]  # before anybody may have its memory
    assert pool.take(driver) is first


def test_streams_go_back_where_a_file_does_not_open(monkeypatch):
    driver, pool = simulated.Simulated(), gpu._Pool()
    monkeypatch.setattr(gpu, "_STREAMS", pool)
    monkeypatch.setattr(gpu, "Cuda", lambda device_id: driver)
    kept = []

    def fails():
        with gpu.device({"user_compute_stream": "77"}) as device:
            kept.append(device)
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert kept[0].options["user_compute_stream"] == "77"
    assert pool.take(driver) is kept[0].pooled


def test_a_graph_that_cannot_be_captured_is_done_without(linear, opened, monkeypatch):
    device = Device(linear, opened, delay=0)
    run = device.session.run_with_iobinding

    def fails(io, options):
        if options.get_run_config_entry("gpu_graph_id") != "-1":
            raise RuntimeError("operation not permitted when stream is capturing")
        run(io, options)

    monkeypatch.setattr(device.session, "run_with_iobinding", fails)
    with pytest.warns(BacklitWarning, match="operation not permitted"):
        device.run(2, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is said once
        device.run(4, 1)
    assert set(device.session.numbers) == {"-1"}


def test_graphs_need_an_onnx_runtime_that_keeps_their_memory(monkeypatch):
    for version, old in {
        "1.30.2": True,
        "1.31.0": True,
        "1.31.1": False,
        "2.0.0.dev1": False,
    }.items():
        module = types.SimpleNamespace(__version__=version)
        monkeypatch.setattr(cuda_row, "onnxruntime", lambda module=module: module)
        assert cuda_row._old() is old


def test_tensorrts_own_graph_is_refused(linear):
    options = {"tensorrt": {"trt_cuda_graph_enable": "True"}}
    file = provider.File(str(linear.path), str(linear.path), None, None, options, sessions.open_on)
    with pytest.raises(OptionError, match="keeps one CUDA graph"):
        tensorrt_row.start(file, ("tensorrt",))


def test_an_allocator_from_outside_is_refused(linear):
    options = {"cuda": {"gpu_external_alloc": "12345"}}
    file = provider.File(str(linear.path), str(linear.path), None, None, options, sessions.open_on)
    with pytest.raises(OptionError, match="no allocator from outside"):
        cuda_row.start(file, ("cuda",))


def test_memory_of_results_is_kept_until_they_are_copied(linear, opened):
    """Whoever drops them unread must not have somebody else's memory written."""
    device = Device(linear, opened, delay=0)
    device.run(2, 1)
    gate = threading.Event()
    device.driver.give(3, lambda: gate.wait(simulated.WAIT))
    frames = simulated.Frames(device.driver, pixels(2))
    value = weakref.ref(device.bindings.run_dlpack(frames, indices(2, 1))[3]._value)
    gc.collect()
    assert value() is not None
    gate.set()
    for _ in range(2):  # each lane once
        device.run(2, 1)
    gc.collect()
    assert value() is None


def test_results_by_dlpack_outlive_everything(linear, opened):
    device = Device(linear, opened, delay=0)
    images, index = pixels(4), indices(4, 1)
    found = device.bindings.run_dlpack(simulated.Frames(device.driver, images), index)
    arrays = [np.from_dlpack(one) for one in found]
    del found
    for _ in range(5):
        device.run(4, 1)
    device.right(images, index, arrays)


def test_dlpack_of_another_device_type_or_shape(linear, opened):
    device = Device(linear, opened, delay=0)
    good = pixels(2)
    frames = simulated.Frames(device.driver, good, place=(2, 1))
    with pytest.raises(OptionError, match=r"DLPack device \(2, 1\), the file on \(1, 0\)"):
        device.bindings.run_dlpack(frames, indices(2, 1))
    for bad in (good[:, :, :5], good.astype(np.float32), good[:1], good.astype(np.int8)):
        with pytest.raises(OptionError, match="the images are"):
            device.bindings.run_dlpack(simulated.Frames(device.driver, bad), indices(2, 1))
    device.run(1, 1)
