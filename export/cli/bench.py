"""The command ``bench``."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from ...runtime import files as output_files
from ...runtime.errors import OptionError
from ..bench import bench as library
from ..bench.files import from_file, from_source
from ..bench.result import Case
from ..bench.table import machine, show, versions
from .export import Size
from .terminal import status


@click.command(
    short_help="Compare its time with peers and a forward pass.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  backlit bench model.backlit.onnx
  backlit bench --model torchvision:resnet18 --weights random --batch 1 --batch 4 -o bench.json
  backlit bench model.backlit.onnx --contender backlit-cpu --contender my_package.peers:mine""",
)
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--model", "models", multiple=True, metavar="SOURCE",
    help="A classifier to export and compare with PyTorch too; any SOURCE of export. Repeatable.",
)  # fmt: skip
@click.option("--weights", help="As for export; of all models.")
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
    "--openvino-python", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="PATH", help="The Python that has onnxruntime-openvino, if it is not this one.",
)  # fmt: skip
@click.option(
    "--contender", "wanted", multiple=True, metavar="NAME",
    help="Such as torch. Repeatable.  [default: all that are installed]",
)  # fmt: skip
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True, max=1e6), default=library.TIMEOUT,
    show_default=True, help="Seconds to open a contender, or for one run.",
)  # fmt: skip
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help="JSON.")
def bench(
    files: tuple[Path, ...], models: tuple[str, ...], weights: str | None,
    size: tuple[int, int] | None, batches: tuple[int, ...], out: Path | None, **options: Any,
) -> None:  # fmt: skip
    """Say how many plain forward passes a saliency map costs, beside PyTorch and other peers.

    FILE is a Backlit file. Contenders run in processes of their own and take turns, one run each
    per round; each is compared with ONNX Runtime's forward pass (CPU) of the same round. Given are
    medians and quartiles. Exit 1 where a contender failed, or computes something else than Backlit.
    """
    if not files and not models:
        raise OptionError("there is nothing to run.", "give a Backlit file, or --model SOURCE.")
    if weights is not None and not models:
        raise OptionError("--weights goes with --model.", "leave --weights out.")
    if out is not None:
        output_files.folder(out.parent)
    console = Console(stderr=True, highlight=False)
    cases: list[Case] = []
    for source in [*files, *models]:
        with tempfile.TemporaryDirectory(prefix="backlit-bench-") as folder:
            with status(console) as say:
                say(f"preparing {source}")
                if isinstance(source, Path):
                    subject = from_file(source, Path(folder))
                else:
                    subject = from_source(source, Path(folder), weights=weights, size=size)
            for batch in batches:
                with status(console) as say:
                    case = library.run(subject, batch, progress=say, **options)
                cases.append(case)
                show(console, case)
                click.echo(json.dumps(case.line()))
    if out is not None:
        whole = {"machine": machine(), "versions": versions(cases)}
        text = json.dumps({**whole, "cases": [case.line() for case in cases]}, indent=1)
        with output_files.whole_file(out) as file:
            file.write(text.encode())
    if not all(r.status != "failed" and r.agrees for case in cases for r in case.results):
        raise click.exceptions.Exit(1)


__all__ = ["bench"]
