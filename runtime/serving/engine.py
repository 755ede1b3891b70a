"""Requests into batches: decoded and cut by a pool of threads, run together in the network.

A run takes what waits, oldest first and with as many classes of each, up to the size of a batch. It
waits for more only while other requests are being decoded, and at most ``delay`` seconds from when
the oldest was ready: a lone request never waits. Every network (a GPU's, or one of several on the
CPU) has a thread that takes the next batch as soon as it is free.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import pipeline
from ..decoding import decoded_one
from ..located import boxes
from ..maps.kinds import get_kind
from ..stages import cores, one_opencv_thread
from .refusals import StoppingError, busy, late

if TYPE_CHECKING:
    from ..arrays import Index
    from ..backend.runner import Runner
    from ..boxes.recipes import Recipe
    from ..images.load import Source
    from ..results import Localization, Result, Saliency


@dataclasses.dataclass(eq=False)
class Job:
    """A request on its way through the engine.

    Attributes:
        load: gives the image, in a thread of the pool.
        index: int64 [1,K], the classes to explain.
        answer: makes the answer of the result, in a thread of the pool.
        expires: when nobody waits for it any more, in seconds of ``time.monotonic``.
        keep: longest side in pixels of the image that the answer needs; 0: it needs none.
        left: called once, when the engine has let go of the image.
        future: of the answer; cancelled by who does not wait any more.
        decoded: the image, cut for the network.
        ready: when it was.
        waited: seconds from then to the run; ``ran``: of the run; ``batch``: images in it.
    """

    load: Callable[[], Source]
    index: Index
    answer: Callable[[Result[Localization]], Any]
    expires: float
    keep: int = 0
    left: Callable[[], None] = lambda: None
    future: Future[Any] = dataclasses.field(default_factory=Future)
    decoded: Result[Saliency] | None = None
    ready: float = 0.0
    waited: float = 0.0
    ran: float = 0.0
    batch: int = 0

    def wanted(self) -> bool:
        """Whether somebody still waits for it; what is late is told so here."""
        if time.monotonic() > self.expires:
            self.settle(error=late())
        return not self.future.done()

    def settle(self, value: Any = None, error: BaseException | None = None) -> None:
        """The answer, or why there is none, for whoever still waits."""
        with contextlib.suppress(InvalidStateError):  # cancelled meanwhile
            if error is None:
                self.future.set_result(value)
            else:
                self.future.set_exception(error)


class Engine:
    """Open files and the threads that feed them. Safe to use from several threads."""

    def __init__(
        self,
        runners: Sequence[Runner],
        recipe: Recipe,
        *,
        crops: int | None = None,
        batch: int | None = None,
        delay: float = 0.005,
        queue: int = 128,
        ran: Callable[[int, float], None] = lambda images, seconds: None,
    ) -> None:
        """Begin no thread yet.

        Args:
            runners: one for each network that computes beside the others.
            recipe: how maps become boxes.
            crops: views whose maps are averaged; None: what the recipe wants.
            batch: views of a run at most; None: 4 on a CPU, 32 on a GPU.
            delay: seconds that a run waits, at most, for requests that are being decoded.
            queue: requests that are taken and not left; a further one is refused.
            ran: told of each run: images, seconds.
        """
        self.runners, self.recipe = tuple(runners), recipe
        self.crops = recipe.crops if crops is None else crops
        self._kind = get_kind(recipe.map)
        self._batch, self._delay, self._most, self._ran = batch, delay, queue, ran
        self._changed = threading.Condition()
        self._ready: deque[Job] = deque()
        self._taken = self._decoding = 0
        self._stopping = False
        self._pace = 0.0  # seconds of a run for each of its images, lately
        self._threads: list[threading.Thread] = []
        self._context = contextlib.ExitStack()

    @property
    def taken(self) -> int:
        """Requests that are taken and not left."""
        return self._taken

    @property
    def alive(self) -> bool:
        """Whether every network has its thread."""
        return bool(self._threads) and all(thread.is_alive() for thread in self._threads)

    @property
    def ready(self) -> bool:
        """Whether a request would be taken."""
        return self.alive and not self._stopping and self._taken < self._most

    def start(self) -> None:
        """Begin the threads."""
        self._context.enter_context(one_opencv_thread())
        pool = ThreadPoolExecutor(min(16, cores()), thread_name_prefix="backlit-serve")
        self._pool = self._context.enter_context(pool)
        for number, runner in enumerate(self.runners):
            thread = threading.Thread(
                target=self._work, args=(runner,), name=f"backlit-run-{number}", daemon=True
            )
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Take no more, finish what was taken, end the threads."""
        with self._changed:
            self._stopping = True
            while self._taken:
                self._changed.wait()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        self._context.close()

    def admit(self) -> None:
        """Refuse a request that would not be taken now, before its body is read.

        Raises:
            BusyError: too many are taken.
            StoppingError: the engine is being stopped.
        """
        if self._stopping:
            raise StoppingError("the service is being stopped.", "ask another one.")
        if self._taken >= self._most:
            raise busy(self._taken * self._pace / len(self.runners))

    def submit(self, job: Job) -> None:
        """Take a request; its future gets the answer, or the error that its image caused.

        Raises:
            BusyError, StoppingError: as of ``admit``.
        """
        with self._changed:
            self.admit()
            self._taken += 1
            self._decoding += 1
        self._pool.submit(self._decode, job)

    def _decode(self, job: Job) -> None:
        error: BaseException | None = None
        try:
            if job.wanted():
                spec = self.runners[0].contract.image
                decoded = decoded_one(0, job.load(), spec, self.crops, job.keep)
                error = decoded.error
                job.decoded = decoded if error is None else None
        except Exception as fault:  # of this request, and the others shall not pay for it
            error = fault
        with self._changed:
            self._decoding -= 1
            if job.decoded is not None:
                job.ready = time.monotonic()
                self._ready.append(job)
            self._changed.notify_all()
        if job.decoded is None:
            self._leave(job, error=error)

    def _work(self, runner: Runner) -> None:
        while group := self._take():
            started = time.monotonic()
            try:
                results = self._explained(runner, group)
            except Exception as error:
                for job in group:
                    self._leave(job, error=error)
                continue
            seconds = time.monotonic() - started
            self._pace += 0.2 * (seconds / len(group) - self._pace)
            self._ran(len(group), seconds)
            for job, result in zip(group, results, strict=True):
                job.waited, job.ran, job.batch = started - job.ready, seconds, len(group)
                self._pool.submit(self._answer, job, result)

    def _take(self) -> list[Job]:
        """The next batch, as soon as there is one; empty when all is done."""
        with self._changed:
            while True:
                for job in [one for one in self._ready if not one.wanted()]:
                    self._ready.remove(job)
                    self._leave(job)
                if not self._ready:
                    if self._stopping and not self._taken:
                        return []
                    self._changed.wait()
                    continue
                classes = self._ready[0].index.shape[1]
                most = self.images(classes)
                alike = [one for one in self._ready if one.index.shape[1] == classes][:most]
                left = self._ready[0].ready + self._delay - time.monotonic()
                if len(alike) == most or not self._decoding or left <= 0:
                    for job in alike:
                        self._ready.remove(job)
                    return alike
                self._changed.wait(left)

    def images(self, classes: int) -> int:
        """Images of a run at most, with so many classes of each."""
        return max(1, self.views(classes) // self.crops)

    def views(self, classes: int) -> int:
        """Views of a run at most."""
        return pipeline.views_per_run(self.runners[0], self._batch, classes)

    def _explained(self, runner: Runner, group: list[Job]) -> list[Result[Saliency]]:
        index = np.concatenate([job.index for job in group])
        images = [
            dataclasses.replace(job.decoded, index=place)
            for place, job in enumerate(group)
            if job.decoded is not None
        ]
        views = self.views(index.shape[1])
        return list(pipeline.explained_group(runner, images, index, views, self._kind))

    def _answer(self, job: Job, result: Result[Saliency]) -> None:
        try:
            value = None
            if job.wanted():
                value = job.answer(boxes(result, self.recipe, masks=False))
        except Exception as error:
            self._leave(job, error=error)
        else:
            self._leave(job, value)

    def _leave(self, job: Job, value: Any = None, error: BaseException | None = None) -> None:
        """Settle a request and make room for another one."""
        job.load, job.decoded = _gone, None
        with self._changed:
            self._taken -= 1
            self._changed.notify_all()
        job.left()
        job.settle(value, error)


def _gone() -> Source:
    raise RuntimeError("the image of a request that is over was asked for")
