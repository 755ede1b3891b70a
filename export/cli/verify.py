"""The command that checks a file: ``verify``, and its report."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from ...runtime import contract as schema
from ...runtime import files as output
from ...runtime.cli.overwrite import overwrite_option
from ...runtime.contract import Contract, Verification
from ...runtime.drawing.encode import HTML
from ...runtime.guard import JSON, Guard, reading
from ..sources.load import Classifier, as_exported, load, to_onnx
from ..verify.verify import compare, must_agree
from .arguments import constants_option
from .terminal import status

if TYPE_CHECKING:
    from ..trust.question import Watch

NAME = "trust.html"


class SpacedImages(click.Command):
    """A command that takes ``--images a.jpg b.jpg``, as a shell writes ``*.jpg``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put ``--images`` before each of the arguments that follow it, up to the next option."""
        spread: list[str] = []
        following = False
        for arg in args:
            if arg.startswith("-") and arg != "-":
                following = arg == "--images"
            elif following and spread[-1] != "--images":
                spread.append("--images")
            spread.append(arg)
        return super().parse_args(ctx, spread)


@click.command(
    cls=SpacedImages,
    short_help="Check a file's gradient; reasons to trust its maps.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  backlit verify squeezenet.backlit.onnx squeezenet.onnx
  backlit verify squeezenet.backlit.onnx squeezenet.onnx --report out/ --images ILSVRC/LOC_val
  backlit verify squeezenet.backlit.onnx --report trust.html --images photos/*.jpg""",
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("source", required=False)
@click.option("--weights", help="As for export.")
@constants_option
@click.option(
    "--report", type=click.Path(path_type=Path), metavar="DIR|FILE.html",
    help="Measure more on --images, and write a page and its numbers (.json).",
)  # fmt: skip
@click.option(
    "--images", multiple=True, metavar="PATH...",
    help="Images, folders of images, data sets with boxes (as for evaluate): all up to the next "
    "option.",
)  # fmt: skip
@click.option(
    "--limit", type=click.IntRange(1), metavar="N",
    help="Most images that the report measures, drawn at random of those.  [default: 50]",
)  # fmt: skip
@click.option(
    "--seed", type=click.IntRange(0), metavar="N", help="Of all that is drawn.  [default: 0]"
)
@overwrite_option
def verify(
    file: Path, source: str | None, weights: str | None, constants: dict[str, Any] | None,
    report: Path | None, images: tuple[str, ...], limit: int | None, seed: int | None,
    overwrite: bool,
) -> None:  # fmt: skip
    """Check the gradient in FILE against the classifier it was made of (exit 3 if it is wrong).

    SOURCE is what FILE was exported from. --report adds reasons to trust the maps, measured on your
    images: Integrated Gradients add up, maps change when the weights are re-drawn, the score
    follows the pixels, the highest point lies on the object; without SOURCE, what needs FILE alone.
    """
    if report is None:
        if images or limit is not None or seed is not None:
            raise click.UsageError("--images, --limit and --seed go with --report.")
        if source is None:
            raise click.UsageError("Missing argument 'SOURCE': the classifier FILE was made of.")
        _verify(file, source, weights, constants)
        return
    if not images:
        raise click.UsageError(
            "--report needs --images: photos of the kind that the classifier was trained on."
        )
    if source is None and (weights is not None or constants):
        raise click.UsageError("--weights and --constant go with SOURCE.")
    guard = reading(file, source, weights, *images, overwrite=overwrite)
    classifier = None if source is None else load(source, weights)
    _report(file, classifier, constants, report, images, limit or 50, seed or 0, guard)


def _verify(file: Path, source: str, weights: str | None, constants: dict[str, Any] | None) -> None:
    made, _ = to_onnx(load(file))
    contract = Contract.from_json(made.metadata_props.get(schema.KEY), str(file))
    classifier = load(source, weights)
    console = Console(stderr=True)
    with status(console, f"verifying {file}"):
        model = as_exported(classifier, contract, constants)
        result = compare(made, model, classifier.module, contract).verification
    if classifier.sha256 != contract.source.sha256:
        _other_source(console)
    click.echo(json.dumps({"file": str(file), **dataclasses.asdict(result)}))
    must_agree(result)
    console.print(f"[green]verified:[/] {describe(result)}")


def _report(
    file: Path, classifier: Classifier | None, constants: dict[str, Any] | None, report: Path,
    images: tuple[str, ...], limit: int, seed: int, guard: Guard,
) -> None:  # fmt: skip
    started = time.perf_counter()
    to_file = report.suffix.lower() in (".html", ".htm")
    page_path = report if to_file else report / NAME
    numbers = page_path.with_suffix(".json")
    written = {page_path: HTML, numbers: JSON}
    output.prove(written, guard)
    from ...runtime.drawing.html import html
    from ..trust.measure import lines, measure
    from ..trust.report import report as report_of

    console = Console(stderr=True, highlight=False)
    with _watch(console) as watch:
        found = measure(
            file, images, watch,
            classifier=classifier, constants=constants, samples=limit, seed=seed,
        )  # fmt: skip
    with output.whole_files(written, guard) as folder:
        (folder / page_path.name).write_text(html(report_of(found)), encoding="utf-8")
        (folder / numbers.name).write_text(json.dumps(found.record, indent=1), encoding="utf-8")
    record = found.record
    if record["source_is_recorded"] is False:
        _other_source(console)
    for note in record["images"]["notes"]:
        console.print(f"[yellow]note:[/] {note}", soft_wrap=True)
    for line in lines(record):
        console.print(line, soft_wrap=True, markup=False)
    seconds = time.perf_counter() - started
    size = page_path.stat().st_size / 1e6
    console.print(f"report in {page_path} ({size:.2f} MB), {seconds:.0f} s", soft_wrap=True)
    verdicts = {name: one["verdict"] for name, one in record["sanity"].get("maps", {}).items()}
    click.echo(
        json.dumps(
            {
                "file": str(file),
                "report": str(page_path),
                "json": str(numbers),
                "agrees": record["parity"].get("agrees"),
                "sanity": verdicts or None,
                "seconds": round(seconds, 1),
            }
        )
    )
    if "outcome" in record["parity"]:
        fields = [field.name for field in dataclasses.fields(Verification)]
        must_agree(Verification(**{name: record["parity"][name] for name in fields}))


@contextmanager
def _watch(console: Console) -> Iterator[Watch]:
    """A progress bar where there is a terminal, silence elsewhere."""
    if not console.is_terminal:
        yield _Silent()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

    from ...runtime.cli.progress import stderr_bar

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with stderr_bar(*columns, TimeElapsedColumn()) as bar:
        task = bar.add_task("", total=None)

        class Shown:
            def begin(self, what: str, steps: int) -> None:
                bar.update(task, description=what, completed=0, total=steps)

            def step(self) -> None:
                bar.advance(task)

        yield Shown()


class _Silent:
    def begin(self, what: str, steps: int) -> None:
        pass

    def step(self) -> None:
        pass


def _other_source(console: Console) -> None:
    console.print("[yellow]note:[/] the source's hash differs from the one the file records.")


def describe(result: Verification) -> str:
    """What verification found, in a line."""
    if result.outcome == "not measured":
        return f"not measured, because {'; '.join(result.because)}"
    rounding = ""
    if result.exact is not None:
        rounding = f", by rounding: {result.exact:.1e} computed in float64"
    if result.cosine is None or result.relative_l2 is None:
        return f"disagrees with {result.reference}: {'; '.join(result.because)}"
    return (
        f"{result.outcome} with {result.reference}: cosine {result.cosine:.7f}, "
        f"relative L2 {result.relative_l2:.1e}{rounding} ({result.samples} samples)"
    )


__all__ = ["describe", "verify"]
