"""How the cores are shared between the images in the network."""

from __future__ import annotations

from ..stages import cores
from .probing import candidates
from .providers.table import PROVIDERS

MOST_RUNS = 8
"""Batches in the network at once, however many cores: each has activations of its own."""


def plan(providers: str | None, threads: int | None, images: int | None) -> tuple[int | None, int]:
    """How to share the cores: threads within an operator, and images in the network at once.

    On a CPU a network does not get twice as fast with twice the threads; twice the images do. On a
    GPU a batch is copied while another computes.

    Args:
        providers: those asked for, as ``Session`` takes them.
        threads: asked for; None: chosen here.
        images: how many there will be; None if that is unknown.

    Returns:
        ``threads`` for ``Session`` and ``runs`` for the pipeline.

    Raises:
        OptionError: providers names none.
    """
    runs = PROVIDERS[candidates(providers)[0][0]].runs
    if images == 1:
        return threads, 1
    if runs is not None:
        return threads, runs
    usable, most = cores(), MOST_RUNS if images is None else min(MOST_RUNS, max(images, 1))
    if threads is None:
        runs = min(most, usable)
        return max(1, usable // runs), runs
    return threads, max(1, min(most, usable // max(1, threads)))
