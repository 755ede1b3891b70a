"""Requests into batches: which wait for which, who is refused, and that none is lost."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backlit.runtime.boxes.recipes import RECIPES
from backlit.runtime.errors import ImageError, ModelError
from backlit.runtime.images.load import Encoded
from backlit.runtime.maps.classes import ranks
from backlit.runtime.serving.engine import Engine, Job
from backlit.runtime.serving.refusals import BusyError, LateError, StoppingError
from support.service import HeldSession, export_embedded
from support.waiting import until

from backlit import models

PHOTOS = [path.read_bytes() for path in sorted(models.samples().glob("*.jpg"))]
SOON = 60.0


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_embedded(tmp_path_factory.mktemp("engine") / "tiny.backlit.onnx")


@pytest.fixture
def session(file: Path) -> HeldSession:
    return HeldSession(file)


@contextmanager
def running(*sessions: HeldSession, **options: Any) -> Iterator[Engine]:
    engine = Engine(sessions, RECIPES["default"], **options)
    engine.start()
    try:
        yield engine
    finally:
        for one in sessions:
            one.free.set()
        engine.stop()


def job(data: bytes = PHOTOS[0], top: int = 1, **options: Any) -> Job:
    return Job(**{
        "load": lambda: Encoded(data),
        "index": ranks(top, 12),
        "answer": lambda result: result.value.to_dict(),
        "expires": time.monotonic() + SOON,
        **options,
    })  # fmt: skip


def held(engine: Engine, session: HeldSession) -> Job:
    """A job that is in the network, which is held with it."""
    session.free.clear()
    first = job()
    engine.submit(first)
    assert session.begun.acquire(timeout=SOON)
    return first


def test_every_answer_is_that_of_its_own_image(session: HeldSession) -> None:
    wanted = {
        (place, top): one.to_dict()["results"]
        for top in (1, 2, 3)
        for place, one in enumerate(session.localize(PHOTOS, top=top))
    }
    rng = random.Random(0)
    asked = [rng.choice(list(wanted)) for _ in range(100)]
    session.runs.clear()
    with running(session, session.sibling(), batch=4) as engine:
        jobs = [job(PHOTOS[place], top) for place, top in asked]
        for one in jobs:
            engine.submit(one)
        found = [one.future.result(SOON)["results"] for one in jobs]
    assert max(session.runs) == 4
    assert sum(session.runs) == 100
    for key, results in zip(asked, found, strict=True):
        for a, b in zip(results, wanted[key], strict=True):
            assert (a["class"], a["box"]) == (b["class"], b["box"])
            assert a["score"] == pytest.approx(b["score"], rel=1e-5)


def test_a_batch_is_what_waits_and_no_more_than_fits(session: HeldSession) -> None:
    with running(session, batch=4) as engine:
        jobs = [held(engine, session)]
        for top in (1, 2, 1, 1, 1, 1):
            jobs.append(job(top=top))
            engine.submit(jobs[-1])
            until(lambda: jobs[-1].ready > 0)
        session.free.set()
        counts = [len(one.future.result(SOON)["results"]) for one in jobs]
    assert counts == [1, 1, 2, 1, 1, 1, 1]
    assert session.runs == [1, 4, 1, 1]  # two classes do not go with one; the oldest goes first
    assert [one.batch for one in jobs] == [1, 4, 1, 4, 4, 4, 1]


def test_a_batch_waits_for_what_is_being_decoded_and_for_nothing_else(session: HeldSession) -> None:
    slow = threading.Event()

    def load() -> Encoded:
        assert slow.wait(SOON)
        return Encoded(PHOTOS[1])

    with running(session, delay=SOON) as engine:
        lone = job()
        engine.submit(lone)
        lone.future.result(SOON / 2)  # nothing is being decoded: it does not wait
        late, first = job(load=load), job()
        engine.submit(late)
        engine.submit(first)
        until(lambda: first.ready > 0)
        slow.set()
        late.future.result(SOON), first.future.result(SOON)
    assert session.runs == [1, 2]


def test_a_batch_waits_no_longer_than_its_delay(session: HeldSession) -> None:
    slow = threading.Event()

    def load() -> Encoded:
        assert slow.wait(SOON)
        return Encoded(PHOTOS[1])

    with running(session, delay=0.05) as engine:
        late, first = job(load=load), job()
        engine.submit(late)
        engine.submit(first)
        first.future.result(SOON)  # while the other is still being decoded
        assert session.runs == [1]
        slow.set()
        late.future.result(SOON)
    assert session.runs == [1, 1]


def test_a_full_queue_refuses_and_takes_again(session: HeldSession) -> None:
    with running(session, queue=3) as engine:
        jobs = [held(engine, session), job(), job()]
        for one in jobs[1:]:
            engine.submit(one)
        with pytest.raises(BusyError) as refused:
            engine.submit(job())
        assert 1 <= refused.value.retry_after <= 60
        assert not engine.ready
        assert engine.taken == 3
        session.free.set()
        for one in jobs:
            one.future.result(SOON)
        until(lambda: engine.ready)
        again = job()
        engine.submit(again)
        assert again.future.result(SOON)["results"]


def test_who_is_gone_or_late_is_not_run(session: HeldSession) -> None:
    left = []
    with running(session) as engine:
        first = held(engine, session)
        gone = job(left=lambda: left.append("gone"))
        late = job(left=lambda: left.append("late"), expires=time.monotonic() + 0.2)
        never = job(left=lambda: left.append("never"), expires=0.0)
        for one in (gone, late, never):
            engine.submit(one)
        gone.future.cancel()
        with pytest.raises(LateError):
            never.future.result(SOON)
        until(lambda: time.monotonic() > late.expires)
        session.free.set()
        first.future.result(SOON)
        with pytest.raises(LateError):
            late.future.result(SOON)
        until(lambda: engine.taken == 0)
    assert session.runs == [1]
    assert sorted(left) == ["gone", "late", "never"]


@pytest.mark.parametrize(
    ("load", "error"),
    [(lambda: b"junk", ImageError), (lambda: 1 / 0, ZeroDivisionError)],
    ids=["no image", "a fault"],
)
def test_a_bad_image_fails_alone(load: Any, error: Any, session: HeldSession) -> None:
    with running(session) as engine:
        bad, good = job(load=load), job()
        engine.submit(bad)
        engine.submit(good)
        with pytest.raises(error):
            bad.future.result(SOON)
        assert good.future.result(SOON)["results"]


def test_a_run_that_fails_fails_its_batch_alone(
    session: HeldSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(session) as engine:
        with monkeypatch.context() as broken:
            broken.setattr(session, "run", lambda *_: (_ for _ in ()).throw(MemoryError("no")))
            bad = job()
            engine.submit(bad)
            with pytest.raises(MemoryError):
                bad.future.result(SOON)
        good = job()
        engine.submit(good)
        assert good.future.result(SOON)["results"]
        assert engine.alive


def test_an_answer_that_fails_fails_alone(session: HeldSession) -> None:
    def fails(_: object) -> None:
        raise ModelError("no.", "no.")

    with running(session) as engine:
        bad = job(answer=fails)
        engine.submit(bad)
        with pytest.raises(ModelError):
            bad.future.result(SOON)
        until(lambda: engine.taken == 0)


def test_stopping_finishes_what_was_taken(session: HeldSession) -> None:
    engine = Engine([session], RECIPES["default"], batch=1)
    engine.start()
    jobs = [held(engine, session), job(), job()]
    for one in jobs[1:]:
        engine.submit(one)
    stop = threading.Thread(target=engine.stop)
    stop.start()
    until(lambda: not engine.ready)
    with pytest.raises(StoppingError):
        engine.submit(job())
    session.free.set()
    stop.join(SOON)
    assert not stop.is_alive()
    assert not engine.alive
    assert all(one.future.result(0)["results"] for one in jobs)


def test_networks_compute_beside_each_other(file: Path) -> None:
    """As the files open on two GPUs do: whichever is free takes the next batch."""
    both = threading.Barrier(2, timeout=SOON)

    class Meeting(HeldSession):
        def run(self, images: Any, class_index: Any) -> Any:
            both.wait()
            return super().run(images, class_index)

    one, other = Meeting(file), Meeting(file)
    with running(one, other, batch=1) as engine:
        jobs = [job(), job()]
        for each in jobs:
            engine.submit(each)
        assert all(each.future.result(SOON)["results"] for each in jobs)
    assert (one.runs, other.runs) == ([1], [1])


def test_classes_differ_within_a_batch(session: HeldSession) -> None:
    with running(session) as engine:
        jobs = [held(engine, session)]
        for index in (3, 7, -2):
            jobs.append(job(index=np.array([[index]])))
            engine.submit(jobs[-1])
            until(lambda: jobs[-1].ready > 0)
        session.free.set()
        found = [one.future.result(SOON)["results"][0]["class"] for one in jobs]
    assert session.runs == [1, 3]
    (wanted,) = session.localize(PHOTOS[0], top=2)
    assert found == [wanted.classes[0], 3, 7, wanted.classes[1]]
