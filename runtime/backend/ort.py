"""The onnxruntime module, and what its exceptions say."""

from __future__ import annotations

import re
from typing import Any

from ..errors import ProviderError

SWAP = "pip uninstall -y onnxruntime onnxruntime-gpu, then pip install "
"""Builds of ONNX Runtime all own the module onnxruntime, so one goes before another comes."""


FATAL, _WARNING = 4, 2
_hushed = False


def hush() -> None:
    """From now on nothing of ONNX Runtime's default logger in this process.

    For a command, whose stderr is its own: what fails in an operator comes as an exception, too.
    """
    global _hushed
    _hushed = True


def usual_severity() -> int:
    """How loud ONNX Runtime's default logger is: there is no getter, so its own default."""
    return FATAL if _hushed else _WARNING


def onnxruntime() -> Any:
    """The onnxruntime module.

    Raises:
        ProviderError: it is not installed, or two builds have overwritten each other.
    """
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise ProviderError(
            f"ONNX Runtime cannot be imported ({error}).",
            "pip install 'backlit[cpu]' (or 'backlit[gpu]' on a machine with an NVIDIA GPU).",
        ) from error
    if not hasattr(ort, "InferenceSession"):
        raise ProviderError(
            "the onnxruntime package is an empty shell: two of its builds were installed over "
            "each other and one was removed.",
            SWAP + "'backlit[cpu]' (or 'backlit[gpu]').",
        )
    if _hushed:
        ort.set_default_logger_severity(FATAL)
    return ort


def build_name(ort: Any) -> str:
    """Distribution and version of an onnxruntime module."""
    package = getattr(ort, "package_name", "") or "onnxruntime"
    return f"{package} {ort.__version__}"


def last_line(error: Exception) -> str:
    """The reason in an exception's text: ONNX Runtime puts it into the last line.

    Not so where a call of CUDA, cuDNN or cuBLAS failed: such a text ends with where in the source,
    or with all of cuDNN's graph.
    """
    if match := re.search(r"\bCU\w+ failure -?\d+: [^;\n]*[^;\s]", str(error)):
        return match[0].rstrip(".")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__).rstrip(".")
