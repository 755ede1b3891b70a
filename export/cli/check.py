"""The command ``check``: would a GPU take a file whole, and what would it cost there?"""

from __future__ import annotations

import collections
import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from ...runtime.errors import OptionError
from ..check.check import CudaReport, Refused, TensorrtReport, check_cuda, check_tensorrt
from ..check.cost.cost import CostReport, cost
from .terminal import status


@click.command(
    short_help="Say whether a GPU takes a file whole.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  backlit check model.backlit.onnx
  backlit check model.backlit.onnx --tensorrt --build --max-images 64
  backlit check model.backlit.onnx --cuda | jq .cuda.elsewhere
  backlit check model.backlit.onnx --cost --max-images 8""",
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--tensorrt", is_flag=True, help="Ask NVIDIA's own parser too (no GPU needed).")
@click.option("--build", is_flag=True, help="With --tensorrt: build an engine too.")
@click.option(
    "--max-images", type=click.IntRange(1), metavar="N",
    help="Images of the largest run of the engine built, or of the run costed.  "
    "[default: 32; with --cost 64]",
)  # fmt: skip
@click.option(
    "--max-top", type=click.IntRange(1), metavar="K",
    help="Classes of the largest run of the engine built.  [default: 5]",
)  # fmt: skip
@click.option("--cuda", is_flag=True, help="Ask the CUDA provider which nodes it takes.")
@click.option("--cost", "costs", is_flag=True, help="Tell where the time of a run on a GPU goes.")
def check(
    file: Path, tensorrt: bool, build: bool, max_images: int | None, max_top: int | None,
    cuda: bool, costs: bool,
) -> None:  # fmt: skip
    """Say whether a GPU takes FILE whole, and which nodes it does not (then exit 1).

    FILE is a Backlit file or any ONNX file. Without --tensorrt it is compared with what is known of
    TensorRT's parser; with it, the parser of TensorRT-RTX decides. --build gives every dynamic
    length a range: 1 to 32 images, 1 to 5 classes, and 224 for any other.

    --cuda asks ONNX Runtime's CUDA provider, where it loads, which nodes it takes and whether a
    CUDA graph may hold them.

    --cost tells where the time of one run on a GPU would go, by kind of kernel; none is
    needed: bytes and operations over the rates of an H100.
    """
    if build and not tensorrt:
        raise OptionError("--build goes with --tensorrt.", "give both.")
    if (max_top or (max_images and not costs)) and not build:
        raise OptionError(
            "--max-images and --max-top go with --build.", "give --tensorrt --build too."
        )
    console = Console(stderr=True, highlight=False)
    with status(console, f"checking {file}"):
        report = check_tensorrt(
            file, parser=tensorrt, build=build, batch=max_images or 32, classes=max_top or 5
        )
        placed = check_cuda(file) if cuda else None
        costing = cost(file, batch=max_images or 64) if costs else None
    _show_tensorrt(console, report)
    if placed is not None:
        _show_cuda(console, placed)
    facts = {"taken": report.taken, **dataclasses.asdict(report)}
    data: dict[str, Any] = {"file": str(file), "tensorrt": facts}
    if placed is not None:
        data["cuda"] = {"whole": placed.whole, **dataclasses.asdict(placed)}
    if costing is not None:
        _show_cost(console, costing)
        data["cost"] = dataclasses.asdict(costing)
    click.echo(json.dumps(data))
    if not report.taken or (placed is not None and placed.told and not placed.whole):
        raise click.exceptions.Exit(1)


def _show_tensorrt(console: Console, report: TensorrtReport) -> None:
    judge = report.parser or "what is known of TensorRT's parser"
    if report.taken:
        one = ", one engine" if report.engines == 1 else ""
        console.print(f"[green]taken whole[/] by {judge}: {report.nodes} operators{one}")
    else:
        cut = f" in {report.engines} engines" if report.refused and report.engines else ""
        console.print(f"[red]not taken whole[/] by {judge}: {report.nodes} operators{cut}, without")
        _list(console, report.refused)
    if report.error:
        console.print(f"  no engine: {report.error}", markup=False, soft_wrap=True)
    named = {node.node for node in report.refused}
    known = [node for node in report.static if node.node not in named or not node.node]
    if known and report.taken:
        console.print("[yellow]note:[/] other versions of TensorRT refuse")
    _list(console, known)
    for name, shapes in report.profile.items():
        console.print(f"  {name}: {' / '.join(str(s) for s in shapes)}", markup=False)
    if report.engine_bytes is not None:
        console.print(f"  engine built: {report.engine_bytes / 1e6:.1f} MB")
    if report.parser is None:
        console.print("  --tensorrt asks NVIDIA's own parser")


def _show_cuda(console: Console, report: CudaReport) -> None:
    if not report.told:
        console.print(
            f"CUDA provider: could not be told on this machine: {report.reason}", soft_wrap=True
        )
        return
    counts = ", ".join(f"{n} on {provider}" for provider, n in report.placed.items())
    console.print(f"CUDA provider: {counts}")
    if report.elsewhere:
        console.print("[red]it has no kernel[/] for these, with copies before and after:")
    _list(console, report.elsewhere)
    if report.shapes:
        kinds = collections.Counter(node.operator for node in report.shapes)
        listed = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common())
        console.print(f"  on the CPU on purpose, computations of shapes: {listed}")
    if report.graph:
        console.print("[green]a CUDA graph[/] may hold it")
    else:
        console.print(f"[red]no CUDA graph[/]: {report.refusal}", soft_wrap=True)


def _show_cost(console: Console, report: CostReport) -> None:
    graph = "as ONNX Runtime's CUDA provider optimises it" if report.optimised else "as written"
    table = Table(box=None, pad_edge=False, title_justify="left", title=(
        f"one run of {report.batch} images on an H100, by a model of it (the graph {graph})"
    ))  # fmt: skip
    table.add_column("kernels", justify="right")
    for name in ("ms", "GB", "TFLOP"):
        table.add_column(name, justify="right")
    table.add_column("of what, and what to do about it")
    for share in report.shares:
        table.add_row(
            str(share.kernels), f"{1e3 * share.seconds:.2f}", f"{share.moved / 1e9:.2f}",
            f"{share.operations / 1e12:.2f}" if share.operations else "",
            f"{share.what}: [dim]{share.advice}[/]",
        )  # fmt: skip
    console.print(table)
    rate = report.batch / report.seconds
    console.print(
        f"[bold]{1e3 * report.seconds:.1f} ms[/], {rate:,.0f} images/s; an engine that joined "
        f"everything between two products would take {1e3 * report.floor:.1f} ms"
    )


def _list(console: Console, nodes: Iterable[Refused]) -> None:
    for node in nodes:
        console.print(f"  {node}", markup=False, soft_wrap=True)


__all__ = ["check"]
