"""A service's engine: the file open on each device, the cores shared out, everything warm."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from .. import pipeline
from ..backend.placement import summary
from ..backend.plan import plan
from ..backend.probing import candidates
from ..boxes.recipes import fitted, needed
from ..decoding import decoded_one
from ..errors import OptionError
from ..located import boxes
from ..maps.kinds import get_kind
from ..session import Session
from .engine import Engine
from .logs import LOG
from .settings import Settings

_NUMBERED = ("cuda", "tensorrt")
"""The providers that have GPUs by number."""


def open_engine(settings: Settings, ran: Callable[[int, float], None]) -> Engine:
    """Open the file on each device and run it once.

    Args:
        settings: of the service.
        ran: told of each run: images, seconds.

    Raises:
        BacklitError: as of ``Session``; or the devices are none of its provider.
    """
    provider = candidates(settings.providers)[0][0]
    threads, runs = plan(provider, settings.threads, None)
    if provider == "cpu":
        runs = max(1, runs // settings.workers)
    sessions = _sessions(settings, provider, threads)
    first = sessions[0]
    if first.elsewhere:
        LOG.warning(summary(first.elsewhere, first.provider))
    runners = [
        session if number == 0 else session.sibling()
        for session in sessions
        for number in range(runs)
    ]
    engine = Engine(
        runners, fitted(settings.recipe, first.contract), crops=settings.crops,
        batch=settings.batch, delay=settings.delay, queue=settings.limits.queue, ran=ran,
    )  # fmt: skip
    _warm(engine)
    return engine


def _sessions(settings: Settings, provider: str, threads: int | None) -> list[Session]:
    if settings.devices and provider not in _NUMBERED:
        raise OptionError(
            f"--device is for {' and '.join(_NUMBERED)}, and the file runs on {provider}.",
            "leave it out, or add --providers cuda.",
        )

    def opened(device: int | None) -> Session:
        options = {name: dict(own) for name, own in settings.options.items()}
        if device is not None:
            options.setdefault(provider, {})["device_id"] = str(device)
        return Session(
            settings.file, settings.providers, threads, partial(needed, settings.recipe), options
        )

    return [opened(device) for device in settings.devices or (None,)]


def _warm(engine: Engine) -> None:
    """Go the whole way with noise, and fill a batch in each network, before anybody waits."""
    best, kind = np.full((1, 1), -1, np.int64), get_kind(engine.recipe.map)
    for runner in engine.runners:
        spec = runner.contract.image
        shape = (64, 64, 3 if spec.channels == 1 else spec.channels)
        noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        decoded = decoded_one(0, noise, spec, engine.crops)
        for images in sorted({1, engine.images(1)}):
            group = [decoded] * images
            done = pipeline.explained_group(runner, group, best, engine.views(1), kind)
            first, *_ = done
            boxes(first, engine.recipe, masks=False)
