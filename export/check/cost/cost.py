"""What one run of a file costs on a GPU, by kind of kernel: a model of an H100, no measurement.

The graph is the one that ONNX Runtime's CUDA provider makes of the file where that provider loads
(a stand-in for CUDA's libraries will do), else the file's own. ``kinds.py`` has the rates.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import onnx
import onnx_ir as ir

from ....runtime.backend import creation, libraries
from ....runtime.backend.ort import onnxruntime
from ....runtime.backend.providers.table import PROVIDERS
from ...graph.weights import through
from .kinds import KINDS
from .launches import PRODUCTS, Launch, launches

PEAK_HALF, PEAK_SINGLE, PEAK_BANDWIDTH = 9.0e14, 4.5e14, 3.2e12
"""What the card could do: operations per second on float16 and TF32, bytes per second."""


@dataclasses.dataclass(frozen=True)
class Share:
    """What kernels of one kind cost together.

    Attributes:
        kind: a key of `KINDS`.
        kernels: how many.
        moved: bytes read and written.
        operations: multiplications and additions of products.
        seconds: their time.
        slowest: names of the nodes that cost most, at most three.
    """

    kind: str
    kernels: int
    moved: int
    operations: int
    seconds: float
    slowest: tuple[str, ...]

    @property
    def what(self) -> str:
        """The kind in words."""
        return KINDS[self.kind].what

    @property
    def advice(self) -> str:
        """What to do about it."""
        return KINDS[self.kind].advice


@dataclasses.dataclass(frozen=True)
class CostReport:
    """What one run costs.

    Attributes:
        batch: images; one class is explained of each.
        optimised: the graph is the one that the CUDA provider makes of the file; else as written.
        shares: by kind of kernel, the dearest first.
        seconds: all together.
        floor: seconds of an engine that joins everything between two products: it moves each
            factor and each product once, at the card's full speed.
    """

    batch: int
    optimised: bool
    shares: tuple[Share, ...]
    seconds: float
    floor: float


def cost(path: str | os.PathLike[str], *, batch: int = 64) -> CostReport:
    """What one run of a file costs on an H100, by a model.

    Args:
        path: a Backlit file or any ONNX file.
        batch: images.

    Raises:
        ModelError: the file cannot be read.
    """
    graph, optimised = shaped(Path(path), batch)
    return report(launches(graph), batch, optimised)


def report(found: Iterable[Launch], batch: int, optimised: bool) -> CostReport:
    """Kernels, added up by kind."""
    by_kind: dict[str, list[Launch]] = collections.defaultdict(list)
    for launch in found:
        by_kind[launch.kind].append(launch)
    shares = [_share(kind, each) for kind, each in by_kind.items()]
    shares.sort(key=lambda share: -share.seconds)
    products = [launch for each in by_kind.values() for launch in each]
    return CostReport(
        batch, optimised, tuple(shares),
        sum(share.seconds for share in shares),
        sum(map(_least, products)),
    )  # fmt: skip


def _share(kind: str, each: list[Launch]) -> Share:
    slowest = sorted(each, key=lambda launch: -launch.seconds)[:3]
    return Share(
        kind,
        len(each),
        sum(launch.moved for launch in each),
        sum(launch.operations for launch in each),
        sum(launch.seconds for launch in each),
        tuple(launch.node for launch in slowest),
    )


def _least(launch: Launch) -> float:
    """The time of a product at the card's full speed; what is no product joins one."""
    if launch.operator not in PRODUCTS or not launch.operations:
        return 0.0
    peak = PEAK_HALF if launch.width == 2 else PEAK_SINGLE
    return max(launch.operations / peak, launch.moved / PEAK_BANDWIDTH)


def shaped(path: Path, batch: int) -> tuple[ir.Graph, bool]:
    """A file's graph at a batch, all shapes and types known, and whether CUDA's optimiser made it.

    One class is explained (K = 1).
    """
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "optimised.onnx"
        optimised = _optimise(path, batch, written)
        model = ir.load(written if optimised else path)
        for value in model.graph.inputs:
            if value.shape is not None:
                dims = [d if isinstance(d, int) else 1 if str(d) == "K" else batch
                        for d in value.shape]  # fmt: skip
                value.shape = ir.Shape(dims)
        return through(_without_shapes(model), _inferred).graph, optimised


def _without_shapes(model: ir.Model) -> ir.Model:
    """Forget lengths that are names: they were fixed at the inputs."""
    for value in (v for node in model.graph for v in node.outputs):
        if value.shape is not None and not all(isinstance(d, int) for d in value.shape):
            value.shape = None
    return model


def _inferred(proto: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.shape_inference.infer_shapes(proto, data_prop=True)


def _optimise(path: Path, batch: int, written: Path) -> bool:
    """Have the CUDA provider write its graph, where it loads; it needs no kernel for that."""
    ort, cuda = onnxruntime(), PROVIDERS["cuda"]
    if cuda.full not in ort.get_available_providers():
        return False
    libraries.preload(ort)
    options = cuda.settings({}, None)
    with creation.quiet(ort):
        try:
            session = creation.create(
                ort, path, {cuda: options}, threads=None, shape=(batch, 1), written=written,
            )  # fmt: skip
        except Exception:  # pybind exception classes share no base but Exception
            return False
    return bool(session.get_providers()[0] == cuda.full) and written.is_file()


__all__ = ["CostReport", "Share", "cost", "report", "shaped"]
