"""TensorRT: one engine for the whole graph of a Backlit file, built once and kept in a cache.

What ONNX Runtime's TensorRT provider does with its caches (onnxruntime.ai/docs/execution-providers/
TensorRT-ExecutionProvider.html; core/providers/tensorrt/tensorrt_execution_provider.cc):

* it looks for ``PREFIX_HASH_NUMBER_smCC.engine`` and ``.profile``; HASH is of versions and of the
  names of the model's file, inputs and nodes: not of its weights, nor of TensorRT's options;
* it writes them in place and does not look whether that succeeded; an engine that does not load is
  an error, and so is a timing cache that does not;
* with profiles for all dynamic inputs it builds when the session is made, and a run out of their
  range is an error; without, it builds again at the first run of each larger shape.

So each key has a folder of its own, which ``engine_cache`` keeps whole, and profiles are given.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from ...contract import ENGINE_KEY, KEY, Contract
from ...errors import ModelError, OutputError
from ..models import read_file
from ..protobuf import metadata, without_outputs
from ..provider import Opened, Opener, Options, on
from .cache import EngineCache, Key, Shapes, warn
from .engine_options import caches, fits_here, key_of, profiles, timing, wanted

__all__ = ["Engine", "EngineCache", "Key", "Shapes", "open_tensorrt"]


@dataclasses.dataclass(frozen=True)
class Engine(Opened):
    """An open session on TensorRT.

    Attributes:
        shapes: the largest run it takes.
        folder: its entry in the cache; None: there is none.
        built: it was built for this session, and not found.
    """

    shapes: Shapes = dataclasses.field(default_factory=Shapes)
    folder: Path | None = None
    built: bool = False


def open_tensorrt(
    model: str | os.PathLike[str] | bytes,
    contract: Contract,
    options: Options | None = None,
    *,
    opener: Opener,
    providers: Sequence[str] = ("tensorrt",),
    threads: int | None = None,
    path: str | None = None,
    shapes: Shapes | None = None,
    cache: EngineCache | None = None,
) -> Engine:
    """Open a Backlit file on TensorRT with an engine from the cache; build it if there is none.

    A cache that cannot be written is a warning, and the engine is then built for this session.

    Args:
        model: path of a Backlit file or of an engine that ``write_context`` made, or its bytes.
        contract: its metadata, with the maps that were left in.
        options: of providers. ``trt_engine_cache_enable=0`` leaves the cache alone; the three
            ``trt_profile_*_shapes`` set the shapes; other options of caches are Backlit's own.
        opener: opens a session: ``sessions.open_on``.
        providers: short names of providers that load, ``tensorrt`` first.
        threads: as in ``open_on``.
        path: of the file that bytes were read from, which may have weights beside it.
        shapes: the runs that are wanted; None: 1 to 32 images of 1 to 5 classes, tuned for 8 of 1.
        cache: None: the user's.

    Raises:
        ProviderError: there is no GPU or no TensorRT.
        ModelError: TensorRT cannot build or load it, or it is an engine of another machine.
        OptionError: an option that is Backlit's, or shapes that do not fit the file.
    """
    data, file = (model, path) if isinstance(model, bytes) else read(model)
    where = file or "the model"
    given = dict((options or {}).get("tensorrt", {}))

    def opened(extra: Mapping[str, str], optimise: bool = True) -> Opened:
        merged = {**(options or {}), "tensorrt": {**given, **extra}}
        return attempt(opener, data, tuple(providers), threads, optimise, path=file, options=merged)

    made = metadata(data).get(ENGINE_KEY)
    if made is not None:
        held = fits_here(made, where, int(given.get("device_id", "0")))
        # Nothing is left to optimise, and the graph's one node holds all of the engine.
        return finished(opened({"trt_engine_cache_enable": "0"}, optimise=False), held, where)
    runs = wanted(given, contract.image, shapes, where)
    ranges = profiles(runs, contract.image)
    uncached = {**ranges, "trt_engine_cache_enable": "0"}
    if not on(given.get("trt_engine_cache_enable", "1")):
        return finished(opened(uncached), runs, where, built=True)
    key = key_of(data, contract, options, runs, file)
    store, built = cache or EngineCache(), False

    def build(folder: Path) -> None:
        nonlocal built
        built = True
        opened({**ranges, **caches(folder), **timing(folder)})  # writes it, and is let go
        if not any(file.stat().st_size for file in folder.glob("*.engine*")):
            raise OSError(errno.EIO, "ONNX Runtime wrote no engine")

    for _ in range(2):
        try:
            folder = store.folder(key, build, os.path.basename(where))
        except OutputError as error:
            warn(f"{error.problem} The engine is built again at each start. {error.fix}")
            break
        before = _state(folder)
        try:
            got = opened({**ranges, **caches(folder)})
        except ModelError as error:
            if "deserialize" not in error.problem:
                raise
            _discard(store, key)
            if built:  # ONNX Runtime does not look whether all of it was written
                warn(f"TensorRT does not take the engine it made; is the disk full? {folder}")
                break
            warn(f"TensorRT does not take a cached engine, which is built again: {folder}")
            continue
        if _state(folder) != before:
            _discard(store, key)
            warn(f"ONNX Runtime did not take a cached engine and built its own: {folder}")
        return finished(got, runs, where, folder, built)
    return finished(opened(uncached), runs, where, built=True)


def finished(
    opened: Opened,
    shapes: Shapes,
    where: str = "",
    folder: Path | None = None,
    built: bool = False,
) -> Engine:
    """What was opened, with a warning if it is not one engine and a name to say so of."""
    got = {field.name: getattr(opened, field.name) for field in dataclasses.fields(opened)}
    got |= {"shapes": shapes, "folder": folder, "built": built}
    engine = Engine(**got)
    if where and (left := others(engine)):
        warn(f"{where} is not one TensorRT engine: {left}; see `backlit check --tensorrt`")
    return engine


def others(engine: Engine) -> str:
    """What is not in the one engine; empty if all is."""
    if engine.elsewhere:
        names = [f"{node.name} ({node.operator}, {node.provider})" for node in engine.elsewhere]
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        return f"left out are {', '.join(names[:8])}{more}"
    return "" if engine.engines == 1 else f"there are {engine.engines} engines"


def attempt(
    opener: Opener,
    model: bytes,
    names: tuple[str, ...],
    threads: int | None,
    optimise: bool,
    *,
    path: str | None,
    options: Options,
) -> Opened:
    """Open a session; an error about a graph in several parts comes with the fix."""
    try:
        return opener(model, names, threads, optimise, path=path, options=options)
    except ModelError as error:
        if "shape profiles" not in error.problem:
            raise
        where = path or "the model"
        raise ModelError(
            f"TensorRT does not take {where} as one engine: {error.problem}",
            f"`backlit check {where} --tensorrt` names the operators it refuses; or --providers "
            "cuda.",
        ) from error


def _discard(store: EngineCache, key: Key) -> None:
    with contextlib.suppress(OutputError):  # of a cache that may only be read, it is left
        store.discard(key)


def _state(folder: Path) -> dict[str, tuple[int, int]]:
    """Sizes and times of the files in a folder."""
    stats = {entry.name: entry.stat() for entry in os.scandir(folder)}
    return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}


def read(path: str | os.PathLike[str]) -> tuple[bytes, str]:
    """A file's bytes and path. The provider names an engine after the file too, if it knows it."""
    return read_file(path), os.fspath(path)


def reduced(model: bytes, where: str, maps: Collection[str]) -> tuple[bytes, Contract]:
    """A Backlit file without the maps that are not named, and its metadata; no names: all stay.

    Raises:
        ContractError: not a Backlit file.
        OptionError: it has no such map.
    """
    contract = Contract.from_json(metadata(model).get(KEY), where)
    if not maps:
        return model, contract
    left = contract.keeping(maps)
    return without_outputs(model, {made.name for made in contract.maps}.difference(maps)), left
