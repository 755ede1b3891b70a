"""How a file is opened on a provider that is given host memory."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

from . import placement
from .cpu import Bindings
from .interface import Shape, read_metadata
from .provider import File, Running

_LOG = logging.getLogger("backlit")


def start(file: File, names: tuple[str, ...]) -> Running:
    """One session for every shape."""
    opened = file.open(names)
    contract = read_metadata(opened.session, file.path, file.kept)
    return Running(names[0], contract, Bindings(contract, lambda _: opened.session), opened)


def start_compiled(file: File, names: tuple[str, ...]) -> Running:
    """A session for each shape, compiled when that is known.

    Until then the file is open on the CPU, for its metadata.
    """
    plain = dataclasses.replace(file, options={})
    opened = plain.open(("cpu",), optimise=False)
    contract = read_metadata(opened.session, file.path, file.kept)

    def compiled(shape: Shape) -> Any:
        made = file.open(names, shape=shape)
        if made.elsewhere:
            _LOG.warning("%s: %s", file.path, placement.summary(made.elsewhere, names[0]))
        return made.session

    return Running(names[0], contract, Bindings(contract, compiled, compiles=True), opened)
