"""The pipeline, top to bottom: load, normalise, differentiate, wrap, optimise, stamp, verify."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from ..runtime import contract as schema
from ..runtime import files as output_files
from ..runtime.contract import Contract, ImageInput, MapName, Normalisation, Relu, Score, Source
from ..runtime.errors import OptionError
from . import rules
from .autodiff.backward import backward
from .autodiff.merged import emitter
from .check.tensorrt_rules import audit
from .graph.rewrites import Target, chosen
from .graph.values import shape_of, static
from .graph.weights import LARGE, inside
from .graph.weights import size as size_of
from .optimise import optimise
from .precision.lower import PRECISIONS, lower
from .prepare import normalise
from .prepare.classifier import computes_in, named, prepare
from .rules.relu import must_rectify
from .sources.load import load, to_onnx
from .verify.verify import verify
from .wrap import wrap

_LONG: dict[str, schema.Precision] = {"fp16": "float16", "bf16": "bfloat16"}


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """What an export did.

    Attributes:
        path: the file written.
        contract: its metadata, the verification's result included.
        nodes: operators in the graph; forward: those of the classifier before.
        bytes: size of the file.
        seconds: for the whole export; verification's share in ``verify_seconds``.
        refused: nodes that TensorRT would refuse, with the reason (empty: none).
    """

    path: Path
    contract: Contract
    nodes: int
    forward: int
    bytes: int
    seconds: float
    verify_seconds: float
    refused: tuple[str, ...]


def export(
    source: Any,
    path: str | os.PathLike[str],
    *,
    size: int | tuple[int, int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    range: Literal["0-1", "0-255"] | None = None,  # noqa: A002  the option's name
    bgr: bool = False,
    resize: Literal["stretch", "crop"] = "stretch",
    labels: Sequence[str] | None = None,
    input: Literal["uint8", "float32"] = "uint8",  # noqa: A002  the option's name
    output: MapName | Sequence[MapName] = ("saliency", "features"),
    output_name: str | None = None,
    relu: Relu = "gradient",
    weights: str | None = None,
    precision: Literal["fp16", "bf16"] | None = None,
    target: Target = "portable",
    without: Collection[str] = (),
    check: bool = True,
) -> ExportReport:
    """Write a trained classifier as one ONNX file that also returns where it looked.

    Args:
        source: path of an ONNX file, ``torchvision:NAME``, ``timm:NAME``,
            ``package.module:callable``, an ``nn.Module``, ``onnx.ModelProto`` or ``onnx_ir.Model``.
        path: the file to write; it appears complete or not at all.
        size: pixels, height and width or one number for both; default: the model's own.
        mean, std: per channel, in the channel order the classifier takes; default: the source's
            own, else 0 and 1.
        range: what pixels are scaled to before mean and std.
        bgr: the classifier takes BGR.
        resize: how a picture of another size becomes the input.
        labels: one name per class.
        input: ``uint8``: pixels, normalised in the graph; ``float32``: what the classifier takes.
        output: the maps wanted, one or several: ``saliency`` [N,K,H,W], the paper's; ``gradient``
            [N,K,C,H,W], unreduced; ``features``, ``gradcam``, ``layercam`` [N,K,h,w], made of
            feature maps. Without the first two nothing is computed back to the pixels.
        output_name: the output that holds the scores; default: the first float one.
        relu: the backward rule of rectifiers: ``gradient``, the true one; ``deconvnet`` and
            ``guided``, for pictures (relu.py).
        weights: a torch state dict for torch sources.
        precision: compute in float16 or bfloat16 what can be without switching ReLU masks, the
            backward pass above all; inputs and outputs stay float32. Default: as the classifier.
        target: the engine whose favourite operators are used; every engine runs every file.
        without: names of rewrites (rewrites.py) to leave out.
        check: verify the gradient against torch.autograd or finite differences.

    Raises:
        ModelError: the source cannot be read or differentiated.
        OptionError: options that do not fit the model.
        VerificationError: the gradient disagrees with the reference; no file is written.
        OutputError: the file cannot be written.
    """
    started, on = time.perf_counter(), chosen(target, without)
    _known(relu)
    path = Path(path)
    output_files.folder(path.parent)
    classifier = load(source, weights)
    says = classifier.says
    pinned = (size, size) if isinstance(size, int) else size
    original, exporter = to_onnx(classifier, pinned)
    model, image, scores, left_out = prepare(original, pinned, output_name)
    channels, height, width = static(image, 1)
    spec = ImageInput(
        dtype=input,
        layout="NHWC" if input == "uint8" else "NCHW",
        channels=channels,
        height=height,
        width=width,
        colour="grey" if channels == 1 else "BGR" if bgr else "RGB",
        resize=resize,
        crop_fraction=says.crop_fraction or 0.875,
        interpolation=says.interpolation or "bilinear",
    )
    normalisation = Normalisation(
        range=range or says.range or "0-1",
        mean=_per_channel("mean", says.mean if mean is None else mean, channels, 0.0),
        std=_per_channel("std", says.std if std is None else std, channels, 1.0),
        assumed=mean is None and std is None and says.mean is None,
    )
    score_name = scores.name or ""
    forward, computed_in = len(model.graph), computes_in(model.graph, image, scores)
    if precision is not None and computed_in != "float32":
        raise OptionError(
            f"--precision {precision} is for classifiers in float32; this one computes in "
            f"{computed_in}.",
            "leave --precision out.",
        )
    if relu != "gradient" and computed_in == "int8":
        raise OptionError(
            f"--relu {relu} needs the classifier's ReLUs; a quantised one has them inside its "
            "QuantizeLinear nodes.",
            "export the classifier as it was before quantisation.",
        )
    wanted = _maps(output)
    classes, maps, _ = wrap(model.graph, image, scores, spec, normalisation, wanted, on, relu)
    if not maps:
        raise OptionError(
            f"the classifier has no feature maps over the image, which {', '.join(wanted)} needs.",
            "ask for --maps saliency.",
        )
    optimise(model, on)
    names = says.labels if labels is None else labels
    if names is not None and len(names) != classes:
        if labels is not None:
            raise OptionError(
                f"{len(names)} labels for {classes} classes.", "give one label per line."
            )
        names = None
    contract = Contract(
        tool=f"backlit {importlib.metadata.version('backlit')}",
        source=Source(classifier.name, classifier.sha256, exporter),
        image=spec,
        normalisation=normalisation,
        score=Score(classes, score_name, left_out),
        maps=maps,
        relu=relu,
        precision=computed_in,
        labels=None if names is None else tuple(names),
    )
    if precision is not None:
        model = lower(model, contract, PRECISIONS[precision])
        contract = dataclasses.replace(contract, precision=_LONG[precision])
    verified, verify_started = None, time.perf_counter()
    if check:
        verified = verify(model, original, classifier.module, contract)
        contract = dataclasses.replace(contract, verification=verified)
    model.graph.outputs.pop()  # the gradient, which verification has read
    RemoveUnusedNodesPass()(model)
    finished = time.perf_counter()
    stamp(model, contract)
    return ExportReport(
        path=path,
        contract=contract,
        nodes=len(model.graph),
        forward=forward,
        bytes=save(model, path),
        seconds=time.perf_counter() - started,
        verify_seconds=finished - verify_started,
        refused=tuple(audit(model.graph)),
    )


def differentiate(
    model: onnx.ModelProto | ir.Model,
    output: str | None = None,
    wrt: str | None = None,
    seed: str | None = None,
    *,
    relu: Relu = "gradient",
    target: Target = "portable",
    without: Collection[str] = (),
) -> onnx.ModelProto:
    """Add the gradient of an output with respect to an input to any ONNX model.

    Args:
        model: any model of standard operators, opset 7 or later; not changed.
        output: name of a float output, default the first; its elements are summed.
        wrt: name of a float input, default the first.
        seed: name of a new input [K, *output's shape] of upstream gradients; without it, ones.
        relu: the backward rule of rectifiers, as for ``export``.
        target: the engine whose favourite operators are used; every engine runs every model.
        without: names of rewrites (rewrites.py) to leave out.

    Returns:
        The model (opset 20 or later) with one more output ``gradient``, of the input's shape, or
        [K, *that] with a seed.

    Raises:
        ModelError: no such input or output, or no differentiable path between them.
        UnsupportedOperatorError: lists all operators on the path without a rule.
        OptionError: another rule than the gradient, and no rectifier to follow it.
    """
    _known(relu)

    def locate(model: ir.Model) -> normalise.Path:
        last = named(model.graph.outputs, output, "output")
        return named(model.graph.inputs, wrt, "input"), last

    on = chosen(target, without)
    given = model if isinstance(model, ir.Model) else ir.serde.deserialize_model(model)
    made, (source, last) = normalise.settle(normalise.modernise(given), locate)
    graph, dtype = made.graph, last.dtype or ir.DataType.FLOAT
    if seed is None:
        op = emitter(graph, 1, on)
        op.dtype = dtype
        upstream = op.full(1.0, last)
    else:
        upstream = ir.val(seed, dtype, ["K", *shape_of(last)])
        graph.inputs.append(upstream)
        lead = ir.node("Shape", [upstream], attributes={"start": 0, "end": 1}, name="K")
        graph.append(lead)
        op = emitter(graph, lead.outputs[0], on)
    op.relu = relu
    (gradient,) = backward(op, [source], last, upstream)
    must_rectify(op)
    gradient = op.Squeeze(gradient, [0]) if seed is None else op.Identity(gradient)
    gradient.name, gradient.dtype = "gradient", source.dtype
    gradient.shape = ir.Shape([*([] if seed is None else ["K"]), *(source.shape or ())])
    graph.outputs.append(gradient)
    optimise(made, on)
    return ir.serde.serialize_model(made)


def stamp(model: ir.Model, contract: Contract) -> None:
    """Give the finished model its metadata."""
    model.metadata_props.clear()
    model.metadata_props[schema.KEY] = contract.to_json()
    model.producer_name, _, model.producer_version = contract.tool.partition(" ")
    model.ir_version = max(model.ir_version, 10)


def save(model: ir.Model, path: Path) -> int:
    """Write the model; too large for one protobuf message, its weights go to ``<path>.data``.

    Returns:
        The bytes written.

    Raises:
        OutputError: a file cannot be written; nothing is left half-written.
    """
    if size_of(model) < LARGE:
        inside(model)
        with output_files.whole_file(path) as file:
            return file.write(ir.serde.serialize_model(model).SerializeToString())
    with output_files.whole_files(path, path.with_name(f"{path.name}.data")) as folder:
        ir.save(model, folder / path.name, external_data=f"{path.name}.data")
        return sum(f.stat().st_size for f in folder.iterdir())


def _known(relu: str) -> None:
    if relu not in (rules := get_args(Relu)):
        raise OptionError(f"There is no ReLU rule {relu!r}.", f"choose among {', '.join(rules)}.")


def _maps(output: MapName | Sequence[MapName]) -> tuple[MapName, ...]:
    known = get_args(MapName)
    names = (output,) if isinstance(output, str) else tuple(output)
    unknown = [name for name in names if name not in known]
    if unknown or not names or len(set(names)) < len(names):
        raise OptionError(
            f"output={', '.join(map(str, names)) or 'nothing'}: not a list of different maps.",
            f"choose among {', '.join(known)}.",
        )
    return names


def _per_channel(
    name: str, given: Sequence[float] | None, channels: int, default: float
) -> tuple[float, ...]:
    if given is None:
        return (default,) * channels
    if len(given) == 1:
        given = [given[0]] * channels
    if len(given) != channels:
        raise OptionError(
            f"{len(given)} numbers for --{name}, but the image has {channels} channels.",
            "give one number per channel, in the channel order the classifier takes.",
        )
    if name == "std" and not all(v > 0 for v in given):
        raise OptionError("--std must be positive.", "give the standard deviation per channel.")
    return tuple(float(v) for v in given)


__all__ = ["ExportReport", "differentiate", "export", "rules"]
