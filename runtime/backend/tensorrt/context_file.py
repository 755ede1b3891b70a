"""A Backlit file whose graph is one TensorRT engine, ready for devices of one kind."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path

from ...contract import ENGINE_KEY, KEY, MARK, Contract
from ...errors import ModelError
from ...files import NOTHING_READ, whole_file
from ...guard import Guard
from ..protobuf import metadata, with_metadata
from ..provider import Opener, Options, on
from .cache import EngineCache, Shapes
from .engine_options import key_of, profiles, timing, wanted
from .engines import Engine, attempt, finished, others, read


def write_context(
    model: str | os.PathLike[str] | bytes,
    contract: Contract,
    out: Path,
    options: Options | None = None,
    shapes: Shapes | None = None,
    *,
    opener: Opener,
    path: str | None = None,
    cache: EngineCache | None = None,
    guard: Guard = NOTHING_READ,
) -> Engine:
    """Write a Backlit file whose graph is one TensorRT engine, for this kind of GPU alone.

    It is what ONNX Runtime calls an EPContext model (onnxruntime.ai/docs/execution-providers/
    EP-Context-Design.html), with the engine inside. ONNX Runtime leaves the source's metadata out
    of it (GraphViewer__CreateModel of provider_bridge_ort.cc gives it none); it is put back here.
    The file holds code for the GPU: load only files that you trust.

    Args:
        model: path of a Backlit file, or its bytes.
        contract: its metadata, with the maps that were left in.
        out: the file to write; it is whole or not there.
        options: of providers; ``trt_engine_hw_compatible=1`` makes an engine for all GPUs from
            compute capability 8.0 on (not Jetson).
        shapes, opener, path: as in ``open_tensorrt``.
        cache: where the timing cache is, and room to work.
        guard: what must not be replaced.

    Raises:
        ProviderError, OptionError: as in ``open_tensorrt``.
        ModelError: TensorRT does not take the whole graph as one engine.
        OutputError: the file cannot be written, or would replace what must stay.
    """
    data, file = (model, path) if isinstance(model, bytes) else read(model)
    where = file or "the model"
    given = dict((options or {}).get("tensorrt", {}))
    entries = metadata(data)
    if ENGINE_KEY in entries:
        raise ModelError(f"{where} is an engine already.", "give the file it was made of.")
    runs = wanted(given, contract.image, shapes, where)
    key = key_of(data, contract, options, runs, file)

    def opened(model: bytes, extra: Mapping[str, str], optimise: bool = True) -> Engine:
        merged = {**(options or {}), "tensorrt": {**given, **extra}}
        got = attempt(opener, model, ("tensorrt",), None, optimise, path=file, options=merged)
        engine = finished(got, runs)
        if left := others(engine):
            raise ModelError(
                f"TensorRT does not take {where} as one engine: {left}.",
                f"`backlit check {where} --tensorrt` says why.",
            )
        return engine

    with (cache or EngineCache()).workspace(key, f"context-{key.digest()}") as work:
        dumped = work / "entry" / "engine.onnx"
        dumped.parent.mkdir()
        context = {
            **profiles(runs, contract.image),
            **timing(dumped.parent),
            # The engine's own file too, beside this one: without, trt_engine_hw_compatible is not
            # heeded. Its path may not be absolute here.
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_prefix": "backlit",
            "trt_dump_ep_context_model": "1",
            "trt_ep_context_file_path": str(dumped),
            "trt_ep_context_embed_mode": "1",  # one file, which is whole
        }
        opened(data, context)
        if not dumped.is_file():
            raise ModelError(
                f"ONNX Runtime wrote no engine for {where}.", "check the free space of the cache."
            )
        about = {
            "shapes": dataclasses.asdict(runs),
            "tensorrt": key.tensorrt,
            "gpu": dataclasses.asdict(key.gpu),
            "compatible": on(given.get("trt_engine_hw_compatible", "0")),
            "system": key.system,
        }
        entries |= {KEY: contract.to_json(), ENGINE_KEY: json.dumps(about)}
        made = with_metadata(dumped.read_bytes(), entries)
        engine = opened(made, {"trt_engine_cache_enable": "0"}, optimise=False)  # it does load
        with whole_file(out, MARK, guard) as target:
            target.write(made)
    return dataclasses.replace(engine, built=True)
