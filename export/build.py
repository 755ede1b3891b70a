"""The way of an export: load, prepare, differentiate, optimise, lower, verify, stamp, write."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import inspect
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Unpack

import onnx_ir as ir

from ..runtime import contract as schema
from ..runtime import files
from ..runtime.contract import Contract, Score, Source
from ..runtime.errors import ModelError, OptionError
from ..runtime.guard import JSON, Guard, Mark, reading
from ..runtime.text import one_line
from . import rules
from .check.tensorrt_rules import audit
from .described import image_input, labels_of, normalisation_of
from .differentiate import differentiate
from .graph.values import static
from .optimise import optimise
from .options import ExportOptions, Keywords
from .precision.lower import Rounding, lower
from .prepare.classifier import computes_in, prepare
from .prepare.scores import Choice
from .sources.blame import blaming
from .sources.classifier import Classifier
from .sources.load import as_run, load, to_onnx
from .verify.report import failed_paths, report
from .verify.verify import compare, must_agree
from .wrap import without_gradients, wrap
from .write import save, stamp

_LONG: dict[str, schema.Precision] = {
    "fp16": "float16", "mixed": "float16", "bf16": "bfloat16",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """What an export did.

    Examples:
        >>> import backlit
        >>> report = backlit.export("tiny_convnet.onnx", "tiny.backlit.onnx", verify=False)
        >>> report.nodes > report.forward, report.bytes > 500_000, report.refused
        (True, True, ())

    Attributes:
        path: the file written.
        contract: its metadata, the verification's result included.
        nodes: operators in the graph.
        forward: operators of the classifier before.
        bytes: size of the file.
        seconds: for the whole export.
        verify_seconds: verification's share of them.
        refused: nodes that TensorRT would refuse, with the reason (empty: none).
        candidates: the tensors that could hold the scores, in words, the chosen one first.
        notes: what you should know of the choices that were made for you.
        rounding: what half precision changed, on test images; None: it was not asked for.
    """

    path: Path
    contract: Contract
    nodes: int
    forward: int
    bytes: int
    seconds: float
    verify_seconds: float
    refused: tuple[str, ...]
    candidates: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    rounding: Rounding | None = None


@dataclasses.dataclass(frozen=True)
class _Prepared:
    """A classifier in the form that the rules assume.

    Attributes:
        original: as ONNX, unchanged; verification measures it.
        exporter: which of torch's exporters made it; None: it was ONNX already.
        model: normalised, with its ``image`` and its unnormalised ``scores``.
        choice: how the scores were chosen.
    """

    original: ir.Model
    exporter: str | None
    model: ir.Model
    image: ir.Value
    scores: ir.Value
    choice: Choice


def export(
    source: Any,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    **options: Unpack[Keywords],
) -> ExportReport:
    """Write a trained classifier as one ONNX file that also returns where it looked.

    Examples:
        >>> import backlit
        >>> report = backlit.export("tiny_convnet.onnx", "tiny.backlit.onnx", range="0-1")
        >>> report.contract.verification.cosine > 0.9999
        True

    Args:
        source: path of an ONNX file, its bytes or the open file, ``torchvision:NAME``,
            ``timm:NAME``, ``hf:NAME_OR_FOLDER``, ``package.module:callable``,
            ``file.py:callable``, an ``nn.Module``, ``ExportedProgram``, ``onnx.ModelProto`` or
            ``onnx_ir.Model``.
        path: the file to write; it appears complete or not at all. A Backlit file that is there is
            replaced.
        overwrite: replace a file that Backlit did not write, too; never the source itself.
        options: the fields of `ExportOptions`.

    Returns:
        The file's metadata with the verification's result, its size, and the nodes that TensorRT
        would refuse.

    Raises:
        ModelError: the source cannot be read or differentiated.
        OptionError: options that do not fit the model.
        VerificationError: an output disagrees with its reference, or nothing could be measured;
            nothing is written to ``path``.
        OutputError: the file cannot be written, or would replace one that must stay.
    """
    asked = ExportOptions(**options)
    started, path = time.perf_counter(), Path(path)
    guard = reading(source, asked.weights, overwrite=overwrite)
    files.prove(_written(path, asked), guard)
    verifying: list[float] = []  # seconds

    with blaming(source):
        classifier = load(source, asked.weights)
        prepared = _prepare(classifier, asked)
        classifier = as_run(classifier)
        forward, computed_in = len(prepared.model.graph), _computed_in(prepared, asked)
        contract = _differentiate(classifier, prepared, asked, computed_in)
        model = prepared.model
        optimise(model, asked.rewrites)
        rounding = None
        if asked.precision is not None:
            if asked.verify:  # half precision hides what float32 shows
                with _timed(verifying):
                    _verified(model, contract, prepared, classifier, asked, path, guard)
            model, rounding = lower(model, contract, asked.precision)
            contract = dataclasses.replace(contract, precision=_LONG[asked.precision])
        if asked.verify:
            with _timed(verifying):
                contract = _verified(model, contract, prepared, classifier, asked, path, guard)
    without_gradients(model)
    stamp(model, contract)
    return ExportReport(
        path=path,
        contract=contract,
        nodes=len(model.graph),
        forward=forward,
        bytes=save(model, path, guard),
        seconds=time.perf_counter() - started,
        verify_seconds=sum(verifying),
        refused=tuple(audit(model.graph)),
        candidates=prepared.choice.candidates,
        notes=prepared.choice.notes,
        rounding=rounding,
    )


def _written(path: Path, asked: ExportOptions) -> dict[Path, Mark | None]:
    """Every file that an export may write, and what Backlit's of its kind are known by."""
    if not asked.keep_failed:
        return {path: schema.MARK}
    file, said = failed_paths(path)
    return {path: schema.MARK, file: schema.MARK, said: JSON}


@contextlib.contextmanager
def _timed(seconds: list[float]) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds.append(time.perf_counter() - started)


def _verified(
    model: ir.Model, contract: Contract, prepared: _Prepared, classifier: Classifier,
    asked: ExportOptions, path: Path, guard: Guard,
) -> Contract:  # fmt: skip
    """The metadata with the verification's result.

    Raises:
        VerificationError: it does not agree; the file is kept beside a report where that was asked.
    """
    parity = compare(model, prepared.original, classifier.module, contract)
    found = parity.verification
    contract = dataclasses.replace(contract, verification=found)
    kept = failed_paths(path) if asked.keep_failed and found.outcome != "agrees" else ()
    if kept:
        without_gradients(model)
        stamp(model, contract)
        save(model, kept[0], guard)
        with files.whole_file(kept[1], JSON, guard) as file:
            file.write(report(parity, contract, asked).encode())
    must_agree(found, kept)
    return contract


def _prepare(classifier: Classifier, asked: ExportOptions) -> _Prepared:
    original, exporter = to_onnx(
        classifier, asked.height_width, asked.channels, asked.constants, asked.output_name
    )
    labels = classifier.says.labels if asked.labels is None else asked.labels
    count = None if labels is None else len(labels)
    found = prepare(original, asked.height_width, asked.output_name, count)
    return _Prepared(original, exporter, *found)


def _computed_in(prepared: _Prepared, asked: ExportOptions) -> schema.Precision:
    """What the classifier computes in, if the options can be had there."""
    found = computes_in(prepared.model.graph, prepared.image, prepared.scores)
    if asked.precision is not None and found != "float32":
        raise OptionError(
            f"--precision {asked.precision} is for classifiers in float32; this one computes in "
            f"{found}.",
            "leave --precision out.",
        )
    if asked.relu != "gradient" and found == "int8":
        raise OptionError(
            f"--relu {asked.relu} needs the classifier's ReLUs; a quantised one has them inside "
            "its QuantizeLinear nodes.",
            "export the classifier as it was before quantisation.",
        )
    return found


def _differentiate(
    classifier: Classifier,
    prepared: _Prepared,
    asked: ExportOptions,
    computed_in: schema.Precision,
) -> Contract:
    """Give the graph its interface and its backward pass; returns the file's metadata."""
    says = classifier.says
    spec = image_input(static(prepared.image, 1), asked, says)
    normalisation = normalisation_of(spec.channels, asked, says)
    choice, tensor = prepared.choice, str(prepared.choice.scores.name)  # before wrap renames it
    wrapped = wrap(
        prepared.model.graph, prepared.image, prepared.scores, spec, normalisation,
        asked.map_names, asked.rewrites, asked.relu,
    )  # fmt: skip
    if not wrapped.maps:
        raise OptionError(
            "the classifier has no feature maps over the image, which "
            f"{', '.join(asked.map_names)} needs.",
            "ask for --maps saliency.",
        )
    contract = Contract(
        tool=f"backlit {importlib.metadata.version('backlit')}",
        source=Source(one_line(classifier.name), classifier.sha256, prepared.exporter),
        image=spec,
        normalisation=normalisation,
        score=Score(
            wrapped.classes,
            one_line(tensor),
            choice.left_out,
            choice.box_axis,
            tuple(map(one_line, choice.candidates if len(choice.candidates) > 1 else ())),
            choice.objectness,
        ),
        maps=wrapped.maps,
        relu=asked.relu,
        precision=computed_in,
        labels=labels_of(wrapped.classes, asked.labels, says.labels),
    )
    if (wrong := contract.wrong()) is not None:
        raise ModelError(
            f"{classifier.name} cannot become a Backlit file: {wrong}.",
            "choose options within these bounds, as a smaller --size.",
        )
    return contract


def _signature() -> inspect.Signature:
    """What ``help(export)`` shows: the options with their defaults instead of ``**options``."""
    *given, _ = inspect.signature(export).parameters.values()
    keywords = inspect.signature(ExportOptions).parameters.values()
    return inspect.Signature([*given, *keywords], return_annotation=ExportReport)


export.__signature__ = _signature()  # type: ignore[attr-defined]

__all__ = ["ExportOptions", "ExportReport", "differentiate", "export", "rules"]
