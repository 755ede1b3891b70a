"""Model files: that there is one to read, and what is wrong with it."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import ModelError
from ..files import special
from .ort import last_line


def model_error(
    where: str, error: Exception, providers: tuple[str, ...] | None = None
) -> ModelError:
    """ONNX Runtime's exception about a file, as an error with a fix."""
    text = last_line(error)
    if "INVALID_PROTOBUF" in text or "No graph was found" in text:
        return ModelError(
            f"{where} is not an ONNX file, or it is damaged or truncated.",
            "check the path and its size, copy the file again, or export the model again.",
        )
    if "opset" in text.lower() or "ir_version" in text.lower() or "IR version" in text:
        return ModelError(
            f"this ONNX Runtime is too old for {where}: {text}", "pip install -U onnxruntime."
        )
    names = providers or ("cpu",)
    if "EPContext" in text:
        return ModelError(
            f"{where} is a TensorRT engine, and no graph for {', '.join(names)}.",
            "use --providers tensorrt where it was built for, or the file it was built from.",
        )
    fix = "the file may be damaged: export the model again."
    if "alloc" in text or "out of memory" in text.lower():
        fix = "the memory is full: use a smaller batch (--batch 1) or fewer classes."
    elif names != ("cpu",):
        fix = "try --providers cpu; `backlit doctor` shows what this machine has."
    return ModelError(f"ONNX Runtime cannot run {where} on {', '.join(names)}: {text}.", fix)


def read_file(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a file, or a ModelError if there is none to read."""
    check_file(Path(path))
    return Path(path).read_bytes()


def check_file(path: Path) -> None:
    """Raise a ModelError if there is no file to read."""
    if os.path.isdir(path):
        raise ModelError(f"{path} is a folder.", "give the .onnx file inside it.")
    if not os.path.exists(path):  # or too long a path to be one
        raise ModelError(f"{path} does not exist.", "check the path.")
    if special(path):
        raise ModelError(f"{path} is a pipe or a device, no file.", "copy it into a file first.")
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error.strerror}.", "check its rights."
        ) from error
    if empty:
        raise ModelError(f"{path} is empty.", "copy the file again, or export the model again.")
