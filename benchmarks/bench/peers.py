"""Contenders for tests of the benchmark: one that lies, some that die."""

from __future__ import annotations

import os
from typing import Any

import numpy as np


def wrong(job: Any) -> Any:
    """The images of the batch the other way round."""
    from backlit.runtime.session import Session

    session = Session(job.backlit, "cpu", job.threads)
    images, index = np.load(job.images), np.load(job.index)

    def run() -> Any:
        found = session.run(images, index)
        return found.scores, found.saliency[::-1]

    return run


def refuses(job: Any) -> Any:
    raise RuntimeError("it does not open\nat all")


def dies(job: Any) -> Any:
    """The process ends in the second round, as a crash in a library does."""
    rounds = []

    def run() -> Any:
        rounds.append(1)
        if len(rounds) > 1:
            os.write(2, b"last words\n")
            os.abort()
        return np.zeros((2, job.classes), np.float32), None

    return run


def sleeps(job: Any) -> Any:
    import time

    def run() -> Any:
        time.sleep(60)

    return run
