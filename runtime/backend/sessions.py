"""Sessions of ONNX Runtime, on the providers asked for: what was got is compared with that.

ONNX Runtime falls back to the CPU without an error when a provider cannot be made.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import BacklitError, OptionError, ProviderError
from . import creation, placement
from .models import check_file, model_error
from .options import check_names, refused
from .ort import last_line, onnxruntime
from .probing import candidates
from .provider import Opened, Options
from .providers.table import PROVIDERS


def open_session(
    model: str | os.PathLike[str] | bytes,
    providers: str | Sequence[str] | None = None,
    threads: int | None = None,
    optimise: bool = True,
    shape: tuple[int, int] | None = None,
    path: str | None = None,
    options: Options | None = None,
) -> Opened:
    """Open an ONNX file on the providers asked for, or on the best that loads.

    Args:
        model: path of an ONNX file, or its bytes.
        providers: short names in order of preference; every one must load. None: the first of
            ``PROVIDERS`` that loads.
        threads: threads within an operator; None: one per physical core.
        optimise: False skips ONNX Runtime's graph optimisation (to look into a file, not to run).
        shape: fixes the dimensions N and K of a Backlit file; None leaves them open.
        path: of the file that bytes were read from, which may have weights beside it.
        options: of providers, by short name, over those that Backlit chooses.

    Raises:
        ProviderError: a provider that was named does not load; says why and what mends it.
        ModelError: not an ONNX file, truncated, or not taken by this ONNX Runtime.
        OptionError: an unknown provider name, fewer than one thread, an option that no provider
            reads or that the provider refuses.
    """
    check_threads(threads)
    given = model if isinstance(model, bytes) else os.fspath(model)
    if isinstance(given, str):
        check_file(Path(given))
    tried = candidates(providers)
    if options:  # made for one provider, so there is no next one to try
        tried = tried[:1]
        check_names(options, tried[0])
    problem: BacklitError | None = None
    for names in tried:
        try:
            return open_on(given, names, threads, optimise, shape, path, options)
        except BacklitError as error:
            problem = error
    raise problem or ProviderError("no execution provider loads.", "run `backlit doctor`.")


def open_on(
    model: str | bytes,
    names: tuple[str, ...],
    threads: int | None = None,
    optimise: bool = True,
    shape: tuple[int, int] | None = None,
    path: str | None = None,
    options: Options | None = None,
) -> Opened:
    """Open a model on these providers and no others; arguments and errors as of ``open_session``.

    Args:
        names: short names of providers that load, in order of preference.
    """
    ort, first = onnxruntime(), PROVIDERS[names[0]]
    where = (path or "the model") if isinstance(model, bytes) else model
    rows = {
        PROVIDERS[name]: PROVIDERS[name].settings((options or {}).get(name, {}), threads)
        for name in names
    }
    try:
        with creation.quiet(ort) if names != ("cpu",) else contextlib.nullcontext():
            session = creation.create(
                ort, model, rows, threads, optimise=optimise, shape=shape, path=path
            )
    except BacklitError:
        raise
    except Exception as error:  # pybind exception classes share no base but Exception
        raise (refused(last_line(error), options) or model_error(where, error, names)) from error
    got = session.get_providers()
    if got[: len(names)] != [row.full for row in rows]:
        raise _fell_back(where, names, got, options)
    if not first.leaves_nodes:
        return Opened(session, names[0])
    short = {row.full: row.name for row in PROVIDERS.values()}
    left, engines = placement.placed(session, model, short)
    if left and not engines:  # it is there, and computes nothing
        raise ProviderError(
            f"{names[0]} takes no node of {where}.",
            "leave the provider out, or try --providers cpu.",
        )
    return Opened(session, names[0], left, engines)


def check_threads(threads: int | None) -> None:
    """Refuse a number of threads that cannot be.

    Raises:
        OptionError: fewer than one.
    """
    if threads is not None and threads < 1:
        raise OptionError(f"{threads} threads are too few.", "give 1 or more.")


def _fell_back(
    where: str, names: tuple[str, ...], got: list[str], options: Options | None
) -> BacklitError:
    """The error where a provider that loads was not made: OpenVINO refuses a value like that."""
    text = f"ONNX Runtime was asked for {', '.join(names)} and took {', '.join(got)} for {where}"
    if options:
        given = [
            f"{name}.{key}={value}" for name, own in options.items() for key, value in own.items()
        ]
        return OptionError(
            f"{text}: the provider refuses {' or '.join(given)}.",
            "correct the value, or leave the option out.",
        )
    return ProviderError(f"{text}.", "run `backlit doctor`, or leave the provider out.")
