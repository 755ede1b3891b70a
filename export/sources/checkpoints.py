"""Weights in files: torch.save's, Lightning's, safetensors'; found in them, and set in a module.

A checkpoint is never allowed to run code: torch.load only with weights_only=True.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import pathlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...runtime.errors import BacklitWarning, ModelError
from .packages import import_or_fix
from .probe import first_line
from .torch_export import quiet

State = dict[str, Any]

KEYS = (
    "state_dict", "model_state_dict", "model", "net", "network", "module", "weights", "params",
    "ema", "state_dict_ema", "model_ema", "ema_state_dict", "params_ema",
)  # fmt: skip
"""Under which of a checkpoint's keys weights are looked for, in this order."""

_WRAPPERS = ("module", "_orig_mod")  # DistributedDataParallel's and torch.compile's
_SHOWN = 3


def read(path: Path) -> State:
    """The tensors of a file, by name, as they stand in it or under one of `KEYS`.

    Raises:
        ModelError: it cannot be read, needs code to be unpickled, or holds no weights.
    """
    if not path.is_file():
        raise ModelError(f"the weights {path} do not exist.", "check the path.")
    loaded = _safetensors(path) if path.suffix == ".safetensors" else _unpickled(path)
    return find(loaded, path)


def archive(path: Path) -> str:
    """What a zip file holds: ``torchscript``, ``program``, ``compiled``, ``pickle``, or nothing."""
    if not zipfile.is_zipfile(path):
        return ""
    with zipfile.ZipFile(path) as file:
        names = [name.partition("/")[2] or name for name in file.namelist()]
    for kind, marks in _ARCHIVES.items():
        if any(mark in name for name in names for mark in marks):
            return kind
    return ""


_ARCHIVES = {
    "torchscript": ("constants.pkl",),
    "compiled": ("aotinductor",),
    "program": ("models/model.json", "serialized_exported_program.json"),
    "pickle": ("data.pkl",),
}


def find(loaded: Any, path: Path) -> State:
    """The weights in what a file holds.

    Raises:
        ModelError: there are none.
    """
    if _is_state(loaded):
        return dict(loaded)
    if isinstance(loaded, Mapping):
        held = [key for key in KEYS if isinstance(loaded.get(key), Mapping) and loaded[key]]
        if len(held) > 1:
            warnings.warn(
                f"{path} holds weights under {', '.join(held)}: those of {held[0]} are taken.",
                BacklitWarning,
                stacklevel=2,
            )
        if held:
            return find(loaded[held[0]], path)
        states = [key for key, value in loaded.items() if _is_state(value)]
        if len(states) == 1:
            return dict(loaded[states[0]])
        listed = ", ".join(map(str, list(loaded)[:8]))
        raise ModelError(
            f"{path} holds no state dict; its keys are: {listed or 'none'}.",
            "save the weights alone: torch.save(model.state_dict(), path).",
        )
    raise ModelError(
        f"{path} holds a {type(loaded).__name__}, not a state dict.",
        "save the weights alone: torch.save(model.state_dict(), path).",
    )


def set_weights(module: Any, state: State, path: Path | None) -> None:
    """Set all weights of a module; prefixes that a trainer put before their names are taken off.

    Raises:
        ModelError: they do not fit; says how many names and shapes do not, and the first of them.
    """
    own = module.state_dict()
    fitted = fit(state, list(own), path)
    # A BatchNorm's count of batches means nothing in eval mode, and old files lack it.
    counts = {key: value for key, value in own.items() if key.endswith("num_batches_tracked")}
    fitted = {**counts, **fitted}
    missing = [key for key in own if key not in fitted]
    foreign = [key for key in fitted if key not in own]
    shapes = [
        f"{key} {_shape(fitted[key])} in the file, {_shape(value)} in the model"
        for key, value in own.items()
        if key in fitted and _shape(fitted[key]) != _shape(value)
    ]
    said = [
        f"{len(names)} {what} ({_some(names)})"
        for names, what in (
            (missing, f"of the model's {len(own)} tensors are missing in the file"),
            (foreign, f"of the file's {len(fitted)} are not the model's"),
            (shapes, "have another shape"),
        )
        if names
    ]
    if said:
        raise ModelError(
            f"the weights in {path} do not fit the model: {'; '.join(said)}.",
            "give the weights of this very architecture, made with the same number of classes.",
        )
    try:
        module.load_state_dict(fitted)
    except Exception as error:
        raise ModelError(
            f"the weights in {path} do not fit the model: {first_line(error)}",
            "give the weights of this very architecture.",
        ) from error


def fit(state: State, wanted: Sequence[str], path: Path | None = None) -> State:
    """The state with the names of a module, where a prefix is all that is between them.

    Args:
        state: names as a trainer saved them: ``module.conv.weight``, ``model._orig_mod.fc.bias``.
        wanted: the module's own names.
        path: for errors.

    Returns:
        The part of the state under the one prefix that leads to all of ``wanted``; the state with
        a prefix added, where the module has it; else the state as it is.

    Raises:
        ModelError: all of ``wanted`` is there under several prefixes.
    """
    names = {key for key in wanted if not key.endswith("num_batches_tracked")}
    if not names or names <= state.keys():
        return state
    bare = {_bare(key): value for key, value in state.items()}
    plain = {_bare(name): name for name in wanted}
    last = min(names)
    for found in (state, bare):
        if found is bare and len(bare) == len(state) and names <= bare.keys():
            return bare
        prefixes = [key.removesuffix(last) for key in found if key.endswith(f".{last}")]
        fitting = [p for p in prefixes if all(p + name in found for name in names)]
        if len(fitting) > 1:
            raise ModelError(
                f"{path} holds {len(fitting)} sets of weights that fit the model, under "
                f"{', '.join(fitting[:_SHOWN])}.",
                "save the one that is meant alone: torch.save(model.state_dict(), path).",
            )
        if fitting:
            (prefix,) = fitting
            return {k.removeprefix(prefix): v for k, v in found.items() if k.startswith(prefix)}
    renamed = {plain.get(key, key): value for key, value in bare.items()}
    if names <= renamed.keys():
        return renamed
    inner = min(bare, default="")
    for prefix in {name.removesuffix(inner) for name in names if name.endswith(f".{inner}")}:
        added = {prefix + key: value for key, value in bare.items()}
        if names <= added.keys():
            return added
    return bare if len(bare) == len(state) and len(names & bare.keys()) else state


def _bare(key: str) -> str:
    """A name without the parts that wrappers of modules put into it."""
    return ".".join(part for part in key.split(".") if part not in _WRAPPERS)


def _is_state(value: Any) -> bool:
    import torch

    named = isinstance(value, Mapping) and bool(value) and all(isinstance(k, str) for k in value)
    return (
        named
        and any(isinstance(v, torch.Tensor) for v in value.values())
        and not any(isinstance(v, Mapping) and _is_state(v) for v in value.values())
    )


def _shape(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return "" if shape is None else "x".join(map(str, shape)) or "scalar"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _unpickled(path: Path) -> Any:
    import torch

    kind = archive(path)
    try:
        with quiet(), torch.serialization.safe_globals(list(_harmless())):
            if kind == "torchscript":  # a graph with weights; it cannot run Python, nor the next
                script = torch.jit.load(path, "cpu")  # type: ignore[no-untyped-call]
                return dict(script.state_dict())
            if kind == "program":
                return dict(torch.export.load(path).state_dict)
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise ModelError(
            f"{path} needs code to be unpickled{f', {named[1]}' if named else ''}, and that could "
            "do anything.",
            "save only the state dict: torch.save(model.state_dict(), path).",
        ) from error
    except Exception as error:
        raise ModelError(
            f"{path} is not a torch checkpoint: {first_line(error)}",
            "save it with torch.save(model.state_dict(), path), or as .safetensors.",
        ) from error


def _harmless() -> Iterator[Any]:
    """Classes that trainers keep beside the weights, and whose objects only hold values."""
    yield from (argparse.Namespace, pathlib.PosixPath, pathlib.WindowsPath, pathlib.PurePosixPath)
    yield from (np.dtype, np.ndarray, np.float64, np.float32, np.int64, np.bool_)
    yield from {type(np.dtype(kind)) for kind in "?bBhHiIlLqQefd"}
    with contextlib.suppress(ImportError, AttributeError):
        from numpy._core import multiarray

        for name in ("scalar", "_reconstruct"):
            function = getattr(multiarray, name)
            yield function
            yield function, f"numpy.core.multiarray.{name}"  # as numpy 1 wrote it


_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64",
    "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


def _safetensors(path: Path) -> State:
    """The tensors of a safetensors file: a length, a JSON table, and bytes."""
    import_or_fix("torch", "pip install torch")
    import torch

    try:
        raw = bytearray(path.read_bytes())
        start = 8 + int.from_bytes(raw[:8], "little")
        table = json.loads(raw[8:start])
        table.pop("__metadata__", None)
        state = {}
        for name, entry in table.items():
            dtype = getattr(torch, _DTYPES[entry["dtype"]])
            first, last = (start + offset for offset in entry["data_offsets"])
            if last > len(raw):
                raise ValueError("it ends before its tensors do")
            flat = torch.frombuffer(raw[first:last] or bytearray(8), dtype=dtype)
            state[name] = flat[: (last - first) // dtype.itemsize].reshape(entry["shape"])
    except Exception as error:
        raise ModelError(
            f"{path} is not a safetensors file: {first_line(error)}",
            "check that the file is complete.",
        ) from error
    return state
