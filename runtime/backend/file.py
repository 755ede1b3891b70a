"""A Backlit file, opened on the providers asked for or on the best that takes it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from ..contract import ENGINE_KEY, KEY, Contract
from ..errors import ModelError, ProviderError
from .cuda.buffers import GATE
from .models import check_file, read_file
from .options import check_names
from .probing import candidates
from .protobuf import metadata, without_outputs
from .provider import File, Options, Running
from .providers.table import PROVIDERS
from .sessions import check_threads, open_on

_LOG = logging.getLogger("backlit")

Maps = Collection[str] | Callable[[Contract], Collection[str]] | None


def open_file(
    path: str,
    providers: str | Sequence[str] | None = None,
    threads: int | None = None,
    maps: Maps = None,
    options: Options | None = None,
) -> Running:
    """Open a file. Arguments and errors are those of ``Runner``."""
    check_threads(threads)
    check_file(Path(path))
    tried = candidates(providers)
    if options:  # made for one provider, so there is no next one to try
        tried = tried[:1]
        check_names(options, tried[0])
    model, kept = (path, None) if maps is None else _reduced(path, maps)
    file = File(path, model, kept, threads, options or {}, open_on)
    problem: ModelError | None = None
    for names in tried:
        row = PROVIDERS[names[0]]
        if row.untested:
            _LOG.warning("%s was not tested with Backlit: compare with --providers cpu", row.name)
        # No session is opened on a GPU, and takes memory, while another captures a CUDA graph.
        gate = GATE.using() if row.buckets else contextlib.nullcontext()
        try:
            with gate:
                return row.start(file, names)
        except ModelError as error:
            problem = error
            if names != tried[-1]:
                _LOG.warning("%s does not run on %s: %s", path, names[0], error.problem)
    raise problem or ProviderError("no execution provider loads.", "run `backlit doctor`.")


def _reduced(path: str, maps: Maps) -> tuple[str | bytes, frozenset[str] | None]:
    """The model without the maps that nobody wants, and the names of those that stay."""
    model = read_file(path)
    try:
        entries = metadata(model)
    except ModelError:  # ONNX Runtime says so better
        return path, None
    contract = Contract.from_json(entries.get(KEY), path)
    kept = frozenset((maps(contract) if callable(maps) else maps) or ())
    left = contract.keeping(kept)
    if ENGINE_KEY in entries:  # one node makes all maps
        return path, None
    dropped = {made.name for made in contract.maps}.difference(made.name for made in left.maps)
    return (without_outputs(model, dropped), kept) if dropped else (path, None)
