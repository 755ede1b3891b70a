"""Files that are no ONNX: torch's are read, or told apart from classifiers; of others, what to do.

A file is known by how it begins, so that a name says nothing wrong.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from ...runtime.errors import ModelError
from .checkpoints import archive, read
from .classifier import Classifier
from .modules import from_object
from .packages import import_or_fix
from .probe import first_line

Reader = Callable[[Path, str | None], Classifier]

_WITH_WEIGHTS = "name the module and give the file as its weights: backlit export file.py:Class "

# Formats that torch has nothing to do with, by the end of the name.
_OTHERS = {
    ".keras": "Keras", ".h5": "Keras", ".hdf5": "Keras", ".pb": "TensorFlow",
    ".tflite": "TensorFlow Lite", ".mlmodel": "Core ML", ".mlpackage": "Core ML",
    ".pdmodel": "Paddle", ".engine": "TensorRT", ".plan": "TensorRT", ".trt": "TensorRT",
    ".pkl": "pickle", ".joblib": "joblib", ".npz": "numpy", ".gguf": "GGUF", ".xml": "OpenVINO",
}  # fmt: skip

# How files begin that are often under another name: at which byte, with what, and what they are.
_STARTS = (
    (4, b"TFL3", "TensorFlow Lite"), (0, b"\x89HDF\r\n\x1a\n", "Keras"), (0, b"GGUF", "GGUF"),
    (0, b"ftrt", "TensorRT"), (0, b"version https://", "Git LFS"), (0, b"<!doctype html", "HTML"),
    (0, b"<html", "HTML"),
)  # fmt: skip

# What to do instead, where more can be said than that ONNX is to be written.
_INSTEAD = {
    "Keras": 'in Keras 3, model.export("model.onnx", format="onnx"); then give the .onnx file.',
    "TensorFlow": "python -m tf2onnx.convert --saved-model FOLDER --output model.onnx (--graphdef "
    "for a frozen graph); then give the .onnx file.",
    "TensorFlow Lite": "python -m tf2onnx.convert --tflite FILE --output model.onnx; then give the "
    ".onnx file.",
    "Git LFS": "git lfs pull in its repository brings the file that this one stands for.",
    "HTML": "download the file itself, not the page that shows it.",
}


def by_content(path: Path) -> Reader | None:
    """What reads a file, or says what to give instead of it; None: it may be ONNX."""
    with path.open("rb") as file:
        start = file.read(16)
    if start[4:8] == b"ORTM":
        return _ort
    if _begun(start) is not None:
        return _other
    if start[:4] == b"PK\x03\x04" and zipfile.is_zipfile(path):
        return _ARCHIVES.get(archive(path), _other)
    length = int.from_bytes(start[:8], "little")
    if start[8:9] == b"{" and 2 <= length <= path.stat().st_size:
        return _safetensors
    if start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05":
        return _pickle
    if path.suffix in (".pt", ".pth", ".ckpt", ".bin", ".pt2", ".safetensors", ".ort"):
        return _damaged
    if path.suffix.lower() in _OTHERS:
        return _other
    return _python if path.suffix == ".py" else None


def _torchscript(path: Path, weights: str | None) -> Classifier:
    return _by_torch(path, weights, "TorchScript", _script)


def _program(path: Path, weights: str | None) -> Classifier:
    return _by_torch(path, weights, "an exported program", _exported)


def _by_torch(
    path: Path, weights: str | None, what: str, load: Callable[[Path], Any]
) -> Classifier:
    """A classifier of a file that holds its graph, read by a function of torch."""
    import_or_fix("torch", "pip install torch")
    from .torch_export import quiet

    try:
        with quiet():
            made = load(path)
    except Exception as error:
        raise ModelError(
            f"{path} is {what} that this torch cannot load: {first_line(error)}",
            "save it with this version of torch, or give the module in Python.",
        ) from error
    return from_object(made, path.name, weights)


def _script(path: Path) -> Any:
    import torch

    return torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]


def _exported(path: Path) -> Any:
    import torch

    return torch.export.load(path)


def _pickle(path: Path, weights: str | None) -> Classifier:
    """A checkpoint as SOURCE: what is in it decides what to say."""
    import_or_fix("torch", "pip install torch")
    try:
        state = read(path)
    except ModelError as error:
        raise ModelError(
            error.problem,
            "load it in Python if you trust it, and give the module to backlit.export; or "
            f"{_WITH_WEIGHTS}--weights FILE.",
        ) from error
    _only_weights(path, state)


def _safetensors(path: Path, weights: str | None) -> Classifier:
    _only_weights(path, read(path))


def _only_weights(path: Path, state: dict[str, Any]) -> NoReturn:
    folder = path.parent
    if (folder / "config.json").is_file() and path.suffix in (".safetensors", ".bin"):
        raise ModelError(
            f"{path} holds {len(state)} tensors, not a classifier.",
            f"give the folder, which says how they are used: backlit export hf:{folder}",
        )
    raise ModelError(
        f"{path} holds {len(state)} tensors, not a classifier.", f"{_WITH_WEIGHTS}--weights {path}"
    )


def _ort(path: Path, weights: str | None) -> Classifier:
    raise ModelError(
        f"{path} is in ONNX Runtime's own format, which only ONNX Runtime reads.",
        "give the .onnx file that it was made of.",
    )


def _compiled(path: Path, weights: str | None) -> Classifier:
    raise ModelError(
        f"{path} is compiled by AOTInductor: it holds machine code, not a graph.",
        "give the module or the exported program that it was made of.",
    )


def _damaged(path: Path, weights: str | None) -> Classifier:
    raise ModelError(
        f"{path} is not what its name says, or it is damaged or cut off.",
        "check that the file is complete, and not a page that a download made of it.",
    )


def _begun(start: bytes) -> str | None:
    """What a file is that begins so."""
    begins = start.lower()
    return next(
        (what for at, with_, what in _STARTS if begins[at:].startswith(with_.lower())), None
    )


def _other(path: Path, weights: str | None) -> Classifier:
    with path.open("rb") as file:
        what = _begun(file.read(16)) or _OTHERS.get(path.suffix.lower())
    raise ModelError(
        f"{path} is {f'a file of {what}' if what else 'an archive'}, not an ONNX model.",
        _instead(what),
    )


def _instead(what: str | None) -> str:
    return _INSTEAD.get(
        what or "", "export the model to ONNX with its own tools, and give the .onnx file."
    )


def no_folder(folder: Path) -> ModelError:
    """The error for a folder as SOURCE, which says what of it to give."""
    inside = sorted(folder.iterdir())
    files = [str(file) for file in inside if file.suffix == ".onnx"]
    kinds = (_OTHERS.get(path.suffix.lower()) for path in (folder, *inside))
    what = next(filter(None, kinds), None)
    if files:
        fix = f"give a file of it: {', '.join(files[:4])}."
    elif (folder / "config.json").is_file():
        fix = f"give it as one of Hugging Face's: hf:{folder}"
    else:
        fix = _instead(what)
    return ModelError(
        f"{folder} is a folder{f' of {what}' if what and not files else ''}, not an ONNX file.", fix
    )


def _python(path: Path, weights: str | None) -> Classifier:
    raise ModelError(
        f"{path} is a Python file, which may define several classifiers.",
        f"say which class or function of it makes the one: {path}:NAME.",
    )


_ARCHIVES: dict[str, Reader] = {
    "torchscript": _torchscript, "program": _program, "compiled": _compiled, "pickle": _pickle,
}  # fmt: skip
