"""A classifier for tests of the GPU benchmark, and contenders: some that lie, some that die."""

from __future__ import annotations

import functools
import os
from typing import Any

import numpy as np

from benchmarks.gpu import worker as gpu_worker

CLASSES, SIZE = 6, 12


def perceptron() -> Any:
    """Without convolutions: the stand-in for the CUDA libraries has no cuDNN."""
    import torch

    layers = [torch.nn.Flatten(), torch.nn.Linear(3 * SIZE * SIZE, 16), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(16, CLASSES))


def wrong(job: Any, case: Any, mode: str) -> Any:
    """The images of the batch the other way round."""
    run = gpu_worker.backlit(job, case, mode)
    if mode == "device":
        return run

    def turned() -> Any:
        scores, saliency = run()
        return scores, saliency[::-1]

    return turned


def dies(job: Any, case: Any, mode: str) -> Any:
    """The process ends in the first turn, as a crash in a library does."""
    runs = []

    def run() -> Any:
        runs.append(1)
        if len(runs) > gpu_worker.WARM_UP:
            os.write(2, b"last words\n")
            os.abort()
        return np.zeros((1, CLASSES), np.float32), None

    return run


def sleeps(job: Any, case: Any, mode: str) -> Any:
    import time

    time.sleep(60)


def _trusted() -> None:
    """Take providers to load: what tries them needs a convolution, so cuDNN."""
    from backlit.runtime.backend import probing

    probing.probe = functools.cache(lambda name: probing.Probe(name, here=True, loads=True))


def cuda_backlit(job: Any, case: Any, mode: str) -> Any:
    """On the stand-in for the CUDA libraries."""
    _trusted()
    return gpu_worker.backlit(job, case, mode)


def cuda_forward(job: Any, case: Any, mode: str) -> Any:
    """On the stand-in for the CUDA libraries."""
    _trusted()
    return gpu_worker.forward(job, case, mode)


cuda_backlit.ready = lambda provider: None  # type: ignore[attr-defined]
