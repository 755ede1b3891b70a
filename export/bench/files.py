"""What a benchmark needs of a classifier, as files in one folder: see worker.Job."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from ...runtime import contract as schema
from ...runtime.arrays import Array
from ...runtime.backend.protobuf import metadata
from ...runtime.contract import Contract
from ...runtime.errors import OptionError
from ..build import export
from ..probes import smooth_noise
from ..sources.load import load, to_onnx
from ..write import save


@dataclasses.dataclass(frozen=True)
class Subject:
    """A classifier to be benchmarked.

    Attributes:
        name: as it is reported.
        contract: the Backlit file's metadata.
        backlit: the Backlit file; forward: the part of it that makes the scores.
        openvino: the same, exported for OpenVINO; the same file where only that is known.
        classifier: the source as ONNX; None where only the Backlit file is known.
        module: the source as a pickled torch module; None where it is none, or cannot be pickled.
    """

    name: str
    contract: Contract
    backlit: Path
    forward: Path
    openvino: Path
    classifier: Path | None = None
    module: Path | None = None


def is_made(source: str) -> bool:
    """Whether a source is the path of a Backlit file.

    Raises:
        ModelError: it is an .onnx file that cannot be read.
    """
    path = Path(source)
    if path.suffix != ".onnx" or not path.is_file():
        return False
    return schema.KEY in metadata(path.read_bytes())


def from_file(path: Path, folder: Path) -> Subject:
    """A Backlit file alone.

    Raises:
        ModelError: it cannot be read.
        ContractError: it is not a Backlit file.
    """
    model = load(path).model
    properties = {} if model is None else model.metadata_props
    contract = Contract.from_json(properties.get(schema.KEY), str(path))
    return Subject(path.name, contract, path, forward_part(path, folder / "forward.onnx"), path)


def from_source(
    source: Any, folder: Path, *, name: str | None = None, weights: str | None = None,
    size: int | tuple[int, int] | None = None, **options: Any,
) -> Subject:  # fmt: skip
    """Export a classifier, without verifying it: the benchmark compares the maps.

    Args:
        source: as for ``export``.
        folder: for the files; it must outlive the subject.
        name: as it is reported; default: the source's.
        weights: as for ``export``.
        size: pixels; default: the source's own.
        options: further options of ``export``.

    Raises:
        ModelError: the source cannot be read or differentiated.
        OptionError: options that do not fit the model.
    """
    classifier = load(source, weights)
    says, pinned = classifier.says, (size, size) if isinstance(size, int) else size
    given = {"mean": says.mean, "std": says.std, "range": says.range, "verify": False, **options}
    given.setdefault("maps", "saliency")  # what the others compute, and no more
    model, _ = to_onnx(
        classifier, pinned, options.get("channels"), options.get("constants"),
        options.get("output_name"),
    )  # fmt: skip
    original, module = folder / "classifier.onnx", None
    save(model, original)
    # Loaded once: with random weights a second time would be another classifier.
    made: Any = classifier.module if classifier.module is not None else original
    file = folder / "model.backlit.onnx"
    given["size"] = pinned or says.size
    report = export(made, file, **given)
    openvino = folder / "openvino.backlit.onnx"
    export(made, openvino, target="openvino", **given)
    if classifier.module is not None:
        import torch

        # Modules of a function's own class or with a lambda in them cannot be pickled.
        with contextlib.suppress(Exception):
            torch.save(classifier.module, folder / "module.pt")
            module = folder / "module.pt"
    return Subject(
        name or classifier.name, report.contract, file,
        forward_part(file, folder / "forward.onnx"), openvino, original, module,
    )  # fmt: skip


def forward_part(path: Path, target: Path) -> Path:
    """Write the part of a Backlit file that makes the scores: the classifier with its prologue."""
    model = ir.load(path)
    graph = model.graph
    graph.outputs[:] = [v for v in graph.outputs if v.name == "scores"]
    graph.inputs[:] = [v for v in graph.inputs if v.name == "image"]
    passes.RemoveUnusedNodesPass()(model)
    model.metadata_props.clear()
    save(model, target)
    return target


def inputs(contract: Contract, batch: int, k: int) -> tuple[Array, Array]:
    """Seeded images as the file takes them (smooth noise), and classes: int64 [N,K].

    The classes are spread, and others for each image, so that a contender that mixes up images or
    classes shows.

    Raises:
        OptionError: there are not so many classes, or a number is below 1.
    """
    classes = contract.score.classes
    if not 1 <= k <= classes or batch < 1:
        raise OptionError(
            f"{k} classes of {classes}, {batch} images at a time: that cannot be run.",
            "give numbers of 1 or more, and no more classes than there are.",
        )
    index = (np.arange(k) * classes // k + np.arange(batch)[:, None]) % classes
    return smooth_noise(contract, batch)[1], index


def preprocessing(contract: Contract) -> dict[str, Any]:
    """Scale, shift and channel order for contenders without the prologue: see worker.Job."""
    if contract.image.dtype == "float32":
        return {"scale": None, "shift": None, "bgr": False}
    scale, shift = contract.normalisation.affine()
    bgr = contract.image.colour == "BGR"
    return {"scale": scale, "shift": shift, "bgr": bgr}
