"""Which execution providers work here: tried, not asked.

ONNX Runtime falls back to the CPU without an error when a provider's libraries do not load, and
``get_available_providers()`` only tells what was compiled in. So a provider is first tried on a
network of one node: milliseconds, and no second load of a large file.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Sequence
from typing import Any

from ..errors import BacklitError, OptionError, ProviderError
from . import creation, placement, plugins
from .ort import build_name, last_line, onnxruntime
from .provider import Provider
from .providers.table import PROVIDERS

# y = 2 x as a convolution of float32 [1,1,1,1], opset 13, IR 8: the smallest network to try a
# provider on. A convolution, because the CUDA provider loads cuDNN only when the first one runs.
_TINY = (
    b"\x08\x08:c\n\x0f\n\x01x\n\x01w\x12\x01y\"\x04Conv\x12\x01g*\x13\x08\x01\x08\x01\x08\x01"
    b"\x08\x01\x10\x01\"\x04\x00\x00\x00@B\x01wZ\x1b\n\x01x\x12\x16\n\x14\x08\x01\x12\x10\n"
    b"\x02\x08\x01\n\x02\x08\x01\n\x02\x08\x01\n\x02\x08\x01b\x1b\n\x01y\x12\x16\n\x14\x08\x01"
    b"\x12\x10\n\x02\x08\x01\n\x02\x08\x01\n\x02\x08\x01\n\x02\x08\x01B\x04\n\x00\x10\r"
)  # fmt: skip

_LOG = logging.getLogger("backlit")


@dataclasses.dataclass(frozen=True)
class Probe:
    """Whether a provider works in this process.

    Attributes:
        name: short name.
        here: this build of ONNX Runtime contains it, or its plugin is installed.
        loads: a network of one node ran on it.
        reason: why it does not load; empty if it does.
        fix: what mends that; empty if it loads.
        untested: nobody has run Backlit on it.
    """

    name: str
    here: bool
    loads: bool
    reason: str = ""
    fix: str = ""
    untested: bool = False


def parse(providers: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """Short names as a tuple; ``"cuda,cpu"`` is split at the commas.

    Raises:
        OptionError: an unknown or missing name.
    """
    if providers is None:
        return None
    names = providers.split(",") if isinstance(providers, str) else list(providers)
    names = [name.strip().lower() for name in names]
    unknown = [name for name in names if name not in PROVIDERS]
    if unknown or not names:
        listed = ", ".join(repr(name) for name in unknown) or "an empty list"
        raise OptionError(
            f"there is no execution provider {listed}.", f"choose among {', '.join(PROVIDERS)}."
        )
    return tuple(dict.fromkeys(names))


@functools.cache
def probe(name: str) -> Probe:
    """Try a provider (short name) on a network of one node. The answer is kept for the process."""
    row = PROVIDERS[name]
    return dataclasses.replace(_probe(name, row), untested=row.untested)


def _probe(name: str, row: Provider) -> Probe:
    ort = onnxruntime()
    if not plugins.here(row) and row.full not in ort.get_available_providers():
        reason = f"this ONNX Runtime ({build_name(ort)}) is built without it"
        if row.plugin is not None:
            reason = f"{row.plugin.package} is not installed"
        return Probe(name, here=False, loads=False, reason=reason, fix=row.fix)
    problem = ""
    try:
        problem = row.preload(ort) if row.preload else ""
        with creation.quiet(ort):
            session = creation.create(ort, _TINY, {row: row.settings(row.trial, 1)}, threads=1)
            if session.get_providers()[0] == row.full and _computes(session, row):
                import numpy as np

                session.run(None, {"x": np.ones((1, 1, 1, 1), np.float32)})
                return Probe(name, here=True, loads=True)
    except BacklitError as error:
        reason = error.problem.removesuffix(".")
        return Probe(name, here=True, loads=False, reason=reason, fix=error.fix)
    except Exception as error:  # each provider raises its own kinds
        problem = last_line(error)
    mend = row.fix
    if plugins.here(row) and row.plugin is not None:
        mend = f"pip install -U {row.plugin.package}; or without it: --providers cpu."
    reason, fix = row.explain(ort) if row.explain else ("", mend)
    reason = reason or problem or "ONNX Runtime fell back to the CPU"
    return Probe(name, here=True, loads=False, reason=reason, fix=fix)


def _computes(session: Any, row: Provider) -> bool:
    """Whether a plugin took the node; what is not told is taken to be so."""
    left, _ = placement.placed(session, _TINY, {}) if plugins.here(row) else ((), 0)
    return not left


def candidates(providers: str | Sequence[str] | None) -> list[tuple[str, ...]]:
    """What is tried in turn: the providers that are named, or each that loads.

    Raises:
        ProviderError: one that was named does not load, or none does.
        OptionError: an unknown provider name.
    """
    named = parse(providers)
    if named is None:
        tried_here = [name for name, row in PROVIDERS.items() if not row.named]
        loading = [name for name in tried_here if probe(name).loads]
        for name in tried_here:
            if name not in loading:
                _LOG.debug("the provider %s does not load: %s", name, probe(name).reason)
        if not loading:
            tried = probe("cpu")
            raise ProviderError(f"no execution provider loads: {tried.reason}.", tried.fix)
        return [(name,) for name in loading]
    for name in named:
        tried = probe(name)
        if not tried.loads:
            raise ProviderError(
                f"the execution provider {name!r} does not load: {tried.reason}.", tried.fix
            )
    return [named]
