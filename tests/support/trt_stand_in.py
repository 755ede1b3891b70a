"""A stand-in for ONNX Runtime's TensorRT provider: its caches, as its source handles them.

Engines are text; where the provider does not look whether a write succeeded, neither does this.
"""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import onnx
from backlit.runtime.backend.placement import Node
from backlit.runtime.backend.protobuf import metadata
from backlit.runtime.backend.provider import Opened, Options
from backlit.runtime.contract import ENGINE_KEY
from backlit.runtime.errors import ModelError
from onnx import helper

SM = "90"


@dataclasses.dataclass
class Provider:
    """Opens sessions as ``sessions.open_on`` does.

    Attributes:
        calls: the options of TensorRT and what else was asked, call by call.
        built: how many engines were built.
        loaded: how many came from a file.
    """

    calls: list[dict[str, object]] = dataclasses.field(default_factory=list)
    built: int = 0
    loaded: int = 0
    elsewhere: tuple[Node, ...] = ()
    engines: int = 1
    names: str = "hash"  # of the engine: of a version of ONNX Runtime
    fails: str = ""

    def __call__(
        self,
        model: str | bytes,
        names: tuple[str, ...],
        threads: int | None = None,
        optimise: bool = True,
        shape: tuple[int, int] | None = None,
        path: str | None = None,
        options: Options | None = None,
    ) -> Opened:
        assert options is not None
        trt = options["tensorrt"]
        assert all(isinstance(value, str) for value in trt.values())
        self.calls.append({"model": model, "optimise": optimise, "path": path, **trt})
        assert isinstance(model, bytes)
        if self.fails:
            raise ModelError(self.fails, "none")
        if ENGINE_KEY in metadata(model):
            self._context(model)
        else:
            self._engine(model, trt)
        return Opened("session", names[0], self.elsewhere, self.engines)

    def _engine(self, model: bytes, trt: Mapping[str, str]) -> None:
        caching = trt.get("trt_engine_cache_enable") == "1"
        context = trt.get("trt_ep_context_file_path")
        folder = Path(context).parent if context else Path(trt.get("trt_engine_cache_path", "."))
        stem = f"{trt.get('trt_engine_cache_prefix')}_{self.names}_0_sm{SM}"
        engine, profile = folder / f"{stem}.engine", folder / f"{stem}.profile"
        ranges = json.dumps({key: trt[key] for key in sorted(trt) if "profile" in key})
        code = f"engine of {hashlib.sha256(model).hexdigest()} {ranges}".encode() * 50
        if caching and engine.exists() and profile.read_text() == ranges:
            if engine.read_bytes() != code:
                raise ModelError("TensorRT EP could not deserialize engine from cache", "none")
            self.loaded += 1
            return
        self._timing(trt)
        self.built += 1
        if caching:
            with contextlib.suppress(OSError):
                profile.write_text(ranges)
            with contextlib.suppress(OSError):
                engine.write_bytes(code)
        if trt.get("trt_dump_ep_context_model") == "1":
            assert trt["trt_ep_context_embed_mode"] == "1"
            assert context is not None
            self._dump(model, Path(context), code)

    def _timing(self, trt: Mapping[str, str]) -> None:
        if trt.get("trt_timing_cache_enable") != "1":
            return
        folder = Path(trt["trt_timing_cache_path"])
        folder.mkdir(exist_ok=True)
        path = folder / f"TensorrtExecutionProvider_cache_sm{SM}.timing"
        old = path.read_bytes() if path.exists() else b""
        if old.strip(b"t"):
            raise ModelError("TensorRT EP could not create timing cache", "none")
        path.write_bytes(old + b"t")

    def _dump(self, model: bytes, path: Path, code: bytes) -> None:
        """One node, inputs and outputs of the source, and none of its metadata."""
        graph = onnx.load_from_string(model).graph
        node = helper.make_node(
            "EPContext", [v.name for v in graph.input], [v.name for v in graph.output],
            domain="com.microsoft", embed_mode=1, ep_cache_context=code,
        )  # fmt: skip
        made = helper.make_graph([node], graph.name, graph.input, graph.output)
        opsets = [helper.make_opsetid(*opset) for opset in (("", 17), ("com.microsoft", 1))]
        onnx.save(helper.make_model(made, ir_version=9, opset_imports=opsets), path)

    def _context(self, model: bytes) -> None:
        (node,) = onnx.load_from_string(model).graph.node
        code = {attribute.name: attribute for attribute in node.attribute}["ep_cache_context"].s
        if not code.startswith(b"engine of "):
            raise ModelError("TensorRT EP could not deserialize engine from binary data", "none")
        self.loaded += 1
