"""The commands that look and do not run: ``info`` and ``doctor``."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any

import click

from .contract import Contract


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
    from .binding import read_metadata
    from .providers import open_session

    session = open_session(file, ["cpu"], optimise=False).session
    contract = read_metadata(session, file)
    inputs = [_tensor(value) for value in session.get_inputs()]
    outputs = [_tensor(value) for value in session.get_outputs()]
    size = os.path.getsize(file)
    if as_json:
        metadata = dataclasses.asdict(contract)
        facts = {"file": file, "bytes": size, "inputs": inputs, "outputs": outputs}
        click.echo(json.dumps({**facts, "metadata": metadata}))
        return
    click.echo(f"{file} ({_megabytes(size)})")
    for name, text in _lines(contract):
        click.echo(f"  {name:<14}{text}")
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
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
def doctor(as_json: bool) -> None:
    """Show what is installed, which execution providers really load, and what mends the rest."""
    from .doctor import diagnose

    found = diagnose()
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(found)))
        return
    versions = {"python": found.python, **(found.onnxruntime or {"onnxruntime": ""})}
    for name, version in {**versions, **found.packages}.items():
        click.echo(f"{name:<24}{version or 'not installed'}")
    click.echo("\nproviders")
    for probe in found.providers:
        state = "loads" if probe.loads else "does not load" if probe.compiled else "not built in"
        taken = "  <- taken when none is named" if probe.name == found.chosen else ""
        click.echo(f"  {probe.name:<10}{state}{taken}")
        if not probe.loads:
            click.echo(f"    why: {probe.reason}")
            click.echo(f"    fix: {probe.fix}")
    if found.packages["onnx"] is None:
        click.echo("\nexport and verify need more: pip install 'backlit[export]'")
    for trouble in found.troubles:
        click.echo(f"\nproblem: {trouble.problem}\n  fix: {trouble.fix}")
    click.echo("\n" + ("mend the above" if found.troubles else "ready"))


def _lines(contract: Contract) -> list[tuple[str, str]]:
    image, rule, score = contract.image, contract.normalisation, contract.score
    takes = {"RGB": "RGB", "BGR": "BGR", "grey": "grey"}[image.colour]
    resize = "stretched to it"
    if image.resize == "crop":
        resize = f"centre crop, {image.crop_fraction:g} of the shorter side"
    assumed = " (assumed: nobody said so)" if rule.assumed else ""
    left_out = f", {', '.join(score.left_out)} left out" if score.left_out else ""
    labels = f"{len(contract.labels)} labels" if contract.labels else "no labels"
    lines = [
        ("source", f"{contract.source.name} (sha256 {contract.source.sha256[:12]})"),
        ("made by", f"{contract.tool}, schema {contract.schema}"),
        ("image", f"{image.height}x{image.width} {image.dtype} {image.layout}, {resize}"),
        ("classifier", f"takes {takes}, pixels {rule.range}{assumed}"),
        ("", f"mean {_numbers(rule.mean)}, std {_numbers(rule.std)}"),
        ("scores", f"{score.classes} classes, {labels}{left_out}"),
        *((made.name, f"{made.height}x{made.width}, {made.definition}") for made in contract.maps),
        ("gradient", f"ReLU rule {contract.relu}, {contract.precision}"),
    ]
    checked = contract.verification
    if checked is None:
        return [*lines, ("verified", "no")]
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
