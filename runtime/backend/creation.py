"""An ONNX Runtime session as Backlit wants it: quiet, without the wrapper's silent fall-back."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from . import placement, plugins
from .ort import FATAL, usual_severity
from .provider import Provider

_LOCK = threading.Lock()


def create(
    ort: Any,
    model: str | os.PathLike[str] | bytes,
    rows: Mapping[Provider, Mapping[str, str]],
    threads: int | None,
    optimise: bool = True,
    shape: tuple[int, int] | None = None,
    path: str | None = None,
    written: os.PathLike[str] | None = None,
) -> Any:
    """A session of ONNX Runtime.

    Args:
        ort: the onnxruntime module.
        model: path of an ONNX file, or its bytes.
        rows: providers with their options, in order of preference.
        threads: threads within an operator; None: one per physical core.
        optimise: False skips the graph's optimisation.
        shape: fixes the dimensions N and K of a Backlit file.
        path: of the file that bytes were read from, which may have weights beside it.
        written: where the optimised graph goes, for who wants to look at it.
    """
    (first,) = itertools.islice(rows, 1)
    settings = ort.SessionOptions()
    settings.log_severity_level = FATAL  # errors arrive as exceptions; stderr is the user's
    if threads is not None:
        settings.intra_op_num_threads = threads
    if isinstance(model, bytes) and path is not None:
        folder = os.path.dirname(os.path.abspath(path))
        settings.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", folder
        )
    for dimension, length in zip(("N", "K"), shape or (), strict=False):
        settings.add_free_dimension_override_by_name(dimension, length)
    if written is not None:
        settings.optimized_model_filepath = os.fspath(written)
    if first.leaves_nodes:
        settings.add_session_config_entry(*placement.RECORD)
    settings.enable_mem_pattern = first.memory_pattern
    if not optimise or first.optimises:
        settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    named: dict[str, Any] = {
        "providers": [row.full for row in rows],
        "provider_options": [dict(own) for own in rows.values()],
    }
    if any(plugins.here(row) for row in rows):  # by name, a plugin is left out without a word
        named = {}
        for row, own in rows.items():
            plugins.add(ort, settings, row, own)
    return ort.InferenceSession(
        model if isinstance(model, bytes) else os.fspath(model),
        settings,
        **named,
        enable_fallback=0,  # else the Python wrapper prints on stdout and retries on the CPU
    )


@contextlib.contextmanager
def quiet(ort: Any) -> Iterator[None]:
    """Nothing on stderr from ONNX Runtime's default logger, where failures to load a provider go.

    A session's own settings do not reach it.
    """
    with _LOCK:
        ort.set_default_logger_severity(FATAL)
        try:
            yield
        finally:
            ort.set_default_logger_severity(usual_severity())
