"""The commands that look and do not run: ``info`` and ``doctor``."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..contract import ENGINE_KEY, KEY, Contract
from ..schema import parse

if TYPE_CHECKING:
    from ..backend.doctor import Diagnosis


@click.command(
    short_help="Show what a Backlit file says about itself.",
    epilog="""\b
Examples:
  backlit info model.backlit.onnx
  backlit info model.backlit.onnx --json | jq .metadata.image""",
)
@click.argument("file", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
def info(file: str, as_json: bool) -> None:
    """Show what a Backlit FILE says about itself: input, classes, gradient, verification."""
    from ..backend.interface import read_metadata
    from ..backend.models import check_file
    from ..backend.sessions import open_session

    check_file(Path(file))
    size, engine = os.path.getsize(file), _engine(Path(file))
    if engine is not None:  # the CPU has no use for it
        contract, inputs, outputs = Contract.from_json(engine.pop(KEY), file), [], []
    else:
        session = open_session(file, ["cpu"], optimise=False).session
        contract = read_metadata(session, file)
        inputs = [_tensor(value) for value in session.get_inputs()]
        outputs = [_tensor(value) for value in session.get_outputs()]
    if as_json:
        metadata = dataclasses.asdict(contract)
        facts = {"file": file, "bytes": size, "inputs": inputs, "outputs": outputs}
        click.echo(json.dumps({**facts, "engine": engine, "metadata": metadata}))
        return
    click.echo(f"{file} ({_megabytes(size)})")
    for name, text in _lines(contract):
        click.echo(f"  {name:<14}{text}")
    for name, value in (engine or {}).items():
        click.echo(f"  {'engine ' + name:<14}{value}")
    for title, tensors in (("inputs", inputs), ("outputs", outputs)):
        for index, tensor in enumerate(tensors):
            shape = ",".join(str(dim) for dim in tensor["shape"])
            text = f"{tensor['name']:<12} {tensor['type']} [{shape}]"
            click.echo(f"  {title if index == 0 else '':<14}{text}")


@click.command(
    short_help="Show what is installed and which providers load.",
    epilog="""\b
Examples:
  backlit doctor
  backlit doctor --json | jq .chosen""",
)
@click.option("--json", "as_json", is_flag=True, help="Only the JSON object.")
def doctor(as_json: bool) -> None:
    """Show what is installed, which execution providers really load, and what mends the rest.

    The text is for people, on stderr; where stdout is no terminal it gets the same as one JSON
    object.
    """
    from ..backend.doctor import diagnose

    found = diagnose()
    if not as_json:
        for line in _report(found):
            click.echo(line, err=True)
    if as_json or not sys.stdout.isatty():
        click.echo(json.dumps(dataclasses.asdict(found)))


def _engine(path: Path) -> dict[str, Any] | None:
    """What a file that is a TensorRT engine says of it; and Backlit's own metadata."""
    from ..backend.protobuf import mapped, metadata
    from ..errors import ModelError

    with mapped(path) as view:
        try:
            entries = metadata(view)
            return {**dict(parse(entries[ENGINE_KEY])), KEY: entries.get(KEY)}
        except (KeyError, TypeError, ValueError, ModelError):  # no engine; ONNX Runtime says why
            return None


def _report(found: Diagnosis) -> Iterator[str]:
    versions = {"python": found.python, **(found.onnxruntime or {"onnxruntime": ""})}
    for name, version in {**versions, **found.plugins, **found.packages, **found.wheels}.items():
        yield f"{name:<28}{version or 'not installed'}"
    if found.libraries:
        yield "\nfor GPUs                    wanted   found"
    for one in found.libraries:
        here = one.version or ("not found" if one.missing else "yes")
        where = f"  {one.path}" if one.path else ""
        limit = f"CUDA {one.wanted}" if one.name == "driver" else str(one.wanted)
        yield f"  {one.title:<26}{limit:<9}{here}{where}"
        if one.problem:
            yield f"    {one.problem}"
    yield "\nproviders"
    for probe in found.providers:
        state = "loads" if probe.loads else "does not load" if probe.here else "not installed"
        state += ", not tested with Backlit" if probe.untested else ""
        taken = "  <- taken when none is named" if probe.name == found.chosen else ""
        yield f"  {probe.name:<14}{state}{taken}"
        if not probe.loads:
            yield f"    why: {probe.reason}"
            yield f"    fix: {probe.fix}"
    if found.packages["onnx"] is None:
        yield "\nexport and verify need more: pip install 'backlit[export]'"
    for trouble in found.troubles:
        yield f"\nproblem: {trouble.problem}\n  fix: {trouble.fix}"
    yield "\n" + ("mend the above" if found.troubles else "ready")


def _lines(contract: Contract) -> list[tuple[str, str]]:
    image, rule, score = contract.image, contract.normalisation, contract.score
    takes = {"RGB": "RGB", "BGR": "BGR", "grey": "grey"}.get(
        image.colour, f"{image.channels} bands"
    )
    resize = "stretched to it"
    if image.resize == "crop":
        resize = f"centre crop, {image.crop_fraction:g} of the shorter side"
    assumed = " (assumed: nobody said so)" if rule.assumed else ""
    left_out = f", {', '.join(score.left_out)} left out" if score.left_out else ""
    if score.box_axis is not None:
        product = "" if score.objectness is None else ", times the score of the box,"
        left_out += f"{product or ','} the largest over a detector's boxes"
    labels = f"{len(contract.labels)} labels" if contract.labels else "no labels"
    lines = [
        ("source", f"{contract.source.name} (sha256 {contract.source.sha256[:12]})"),
        ("made by", f"{contract.tool}, schema {contract.schema}"),
        ("image", f"{image.height}x{image.width} {image.dtype} {image.layout}, {resize}"),
        ("classifier", f"takes {takes}, pixels {rule.range}{assumed}"),
        ("", f"mean {_numbers(rule.mean)}, std {_numbers(rule.std)}"),
        ("scores", f"{score.classes} classes, {labels}{left_out}"),
        *(("" if i else "chosen of", one) for i, one in enumerate(score.candidates)),
        *((made.name, f"{made.height}x{made.width}, {made.definition}") for made in contract.maps),
        ("gradient", f"ReLU rule {contract.relu}, {contract.precision}"),
    ]
    checked = contract.verification
    if checked is None:
        return [*lines, ("verified", "no")]
    if checked.outcome != "agrees":
        return [*lines, ("verified", f"NO, {checked.outcome}: {'; '.join(checked.because)}")]
    text = f"against {checked.reference}: cosine {checked.cosine:.8f}, "
    text += f"relative L2 {checked.relative_l2:.2e}, {checked.samples} samples"
    if checked.exact is not None:
        text += f"; by rounding: {checked.exact:.2e} computed in float64"
    return [*lines, ("verified", text)]


def _tensor(value: Any) -> dict[str, Any]:
    kind = value.type.removeprefix("tensor(").removesuffix(")")
    return {"name": value.name, "type": {"float": "float32"}.get(kind, kind), "shape": value.shape}


def _numbers(values: tuple[float, ...]) -> str:
    return "[" + ", ".join(f"{value:g}" for value in values) + "]"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
