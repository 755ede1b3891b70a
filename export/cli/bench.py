"""The command ``bench``."""

from __future__ import annotations

import importlib.metadata
import json
import tempfile
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from ...runtime import files as output_files
from ...runtime.cli.overwrite import overwrite_option
from ...runtime.errors import OptionError
from ...runtime.guard import JSON, reading
from ..bench import bench as library
from ..bench.files import from_file, from_source, is_made
from ..bench.result import Case
from ..bench.table import machine, show, versions
from .arguments import Size
from .terminal import status


@click.command(
    short_help="Compare its time with peers and a forward pass.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  backlit bench model.backlit.onnx
  backlit bench torchvision:resnet18 --weights random --batch 1 --batch 4 -o bench.json
  backlit bench nets.py:Net --weights weights.pt --size 224
  backlit bench model.backlit.onnx --contender backlit-cpu --contender my_package.peers:mine""",
)
@click.argument("sources", nargs=-1, metavar="SOURCE...")
@click.option("--weights", help="As for export; of all classifiers.")
@click.option("--size", type=Size(), help="As for export.")
@click.option(
    "--batch", "batches", multiple=True, type=click.IntRange(1), default=(1, 4), show_default=True,
    help="Images per run. Repeatable.",
)  # fmt: skip
@click.option(
    "--top", "k", type=click.IntRange(1), default=1, show_default=True, help="Classes explained.",
)  # fmt: skip
@click.option(
    "--threads", type=click.IntRange(1), default=1, show_default=True, help="Of every contender."
)
@click.option("--rounds", type=click.IntRange(1), default=20, show_default=True)
@click.option("--providers", help="Such as openvino,cpu, for Backlit.  [default: all that load]")
@click.option(
    "--contender", "wanted", multiple=True, metavar="NAME",
    help="Such as torch. Repeatable.  [default: all that are installed]",
)  # fmt: skip
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True, max=1e6), default=library.TIMEOUT,
    show_default=True, help="Seconds to open a contender, or for one run.",
)  # fmt: skip
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help="JSON.")
@overwrite_option
def bench(
    sources: tuple[str, ...], weights: str | None, size: tuple[int, int] | None,
    batches: tuple[int, ...], out: Path | None, overwrite: bool, **options: Any,
) -> None:  # fmt: skip
    """Say how many plain forward passes a saliency map costs, beside PyTorch and other peers.

    SOURCE is a Backlit file, or a classifier to be exported: any SOURCE of export. Contenders run
    in processes of their own and take turns, one run each per round; each is compared with ONNX
    Runtime's forward pass (CPU) of the same round. Given are medians and quartiles. Exit 1 where a
    contender failed, or computes something else than Backlit.
    """
    if not sources:
        raise OptionError("there is nothing to run.", "give a Backlit file or a classifier.")
    made = [is_made(source) for source in sources]
    if weights is not None and all(made):
        raise OptionError("--weights goes with classifiers.", "leave --weights out.")
    guard = reading(*sources, weights, overwrite=overwrite)
    if out is not None:
        output_files.prove({out: JSON}, guard)
    console = Console(stderr=True, highlight=False)
    cases: list[Case] = []
    for source, ready in zip(sources, made, strict=True):
        with tempfile.TemporaryDirectory(prefix="backlit-bench-") as folder:
            with status(console) as say:
                say(f"preparing {source}")
                if ready:
                    subject = from_file(Path(source), Path(folder))
                else:
                    subject = from_source(source, Path(folder), weights=weights, size=size)
            for batch in batches:
                with status(console) as say:
                    case = library.run(subject, batch, progress=say, **options)
                cases.append(case)
                show(console, case)
                click.echo(json.dumps(case.line()))
    if out is not None:
        version = importlib.metadata.version("backlit")
        whole = {"backlit": version, "machine": machine(), "versions": versions(cases)}
        text = json.dumps({**whole, "cases": [case.line() for case in cases]}, indent=1)
        with output_files.whole_file(out, JSON, guard) as file:
            file.write(text.encode())
    if not all(r.status != "failed" and r.agrees for case in cases for r in case.results):
        raise click.exceptions.Exit(1)


__all__ = ["bench"]
