"""Whose fault an error is that nobody foresaw: what onnx and ONNX Runtime say of the model."""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from ...runtime.errors import BacklitError
from ..graph.sound import checked, unreadable

_SECONDS = 10
_MOST_NUMBERS = 1 << 26  # in all inputs: 256 MiB
_TYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(uint8)": np.uint8}


@contextlib.contextmanager
def blaming(source: Any) -> Iterator[None]:
    """An error of the block is the ONNX model's fault where ONNX Runtime fails on it too.

    Args:
        source: of an export; one that is no ONNX model passes.

    Raises:
        ModelError: the model is damaged. Any other error stays as it is: it is Backlit's.
    """
    try:
        yield
    except (BacklitError, MemoryError, OSError):
        raise
    except Exception as error:
        if (why := _fault(source)) is None:
            raise
        where = source if isinstance(source, str | os.PathLike) else "the model"
        raise unreadable(where, why) from error


def _fault(source: Any) -> Exception | None:
    """What is wrong with an ONNX model; None: nothing, or it is none."""
    if isinstance(source, ir.Model):
        source = ir.serde.serialize_model(source)
    if not isinstance(source, onnx.ModelProto):
        if not isinstance(source, str | os.PathLike) or not os.path.isfile(source):
            return None
        source = os.fspath(source)
    given = source if isinstance(source, str) else source.SerializeToString()
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(given, options, providers=["CPUExecutionProvider"])
        _run_once(session)
    except Exception as error:  # ONNX Runtime's errors have no common base
        return checked(Path(source) if isinstance(source, str) else source) or error
    return None


def _run_once(session: ort.InferenceSession) -> None:
    """Run a model on zeros, where its inputs say what they take; no longer than some seconds."""
    feed = {}
    for value in session.get_inputs():
        sizes = [size if isinstance(size, int) else 1 for size in value.shape]
        few = min(sizes, default=1) > 0 and math.prod(sizes) <= _MOST_NUMBERS
        if value.type not in _TYPES or not few:
            return
        if any(not isinstance(size, int) for size in value.shape[1:]):
            return
        feed[value.name] = np.zeros(sizes, _TYPES[value.type])
    how = ort.RunOptions()
    how.log_severity_level = 4
    timer = threading.Timer(_SECONDS, lambda: setattr(how, "terminate", True))
    timer.start()
    try:
        session.run(None, feed, how)
    finally:
        timer.cancel()


__all__ = ["blaming"]
