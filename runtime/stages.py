"""Steps of a pipeline: threads, a bounded number of items ahead, results in order.

Items are pulled from the step before. One of them may be None: nothing more comes for now, so a
step hands on all that it has begun instead of waiting until it can begin more, and then the None.
"""

from __future__ import annotations

import contextlib
import enum
import os
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


class Pause(enum.Enum):
    """Among images: none is ready now."""

    PAUSE = enum.auto()


PAUSE = Pause.PAUSE


def cores() -> int:
    """Processors that this process may use."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return usable or 1


def threads(wanted: int | None) -> int:
    """How many threads a step has: as many as were asked for, else one per core, 16 at most."""
    return min(16, cores()) if wanted is None else max(1, wanted)


def ahead(
    pool: ThreadPoolExecutor,
    function: Callable[[Item], Made],
    items: Iterable[Item | None],
    window: int,
) -> Generator[Made | None, None, None]:
    """``function`` of each item, in order, with at most ``window`` items begun or waiting."""
    waiting: deque[Future[Made]] = deque()
    try:
        for item in items:
            if item is not None:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= window:
                    yield waiting.popleft().result()
                continue
            while waiting:
                yield waiting.popleft().result()
            yield None
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
        if isinstance(items, Generator):
            items.close()  # an earlier stage, which has threads of its own


def given(items: Generator[Item | None, None, None]) -> Generator[Item, None, None]:
    """The items without the Nones."""
    with contextlib.closing(items):
        for item in items:
            if item is not None:
                yield item


@contextlib.contextmanager
def one_opencv_thread() -> Iterator[None]:
    """OpenCV on one thread: an image per thread is faster than all threads in one image."""
    # Whoever wants OpenCV has imported it by now; plain saliency maps do without its 0.2 s.
    cv2 = sys.modules.get("cv2")
    before = cv2.getNumThreads() if cv2 else 0
    if cv2:
        cv2.setNumThreads(1)
    try:
        yield
    finally:
        if cv2:
            cv2.setNumThreads(before)
