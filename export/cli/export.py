"""The commands that need the export extra: export, ops, and verify (cli_verify.py)."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any, get_args

import click
import onnx
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ...runtime.cli.overwrite import overwrite_option
from ...runtime.contract import Relu
from ...runtime.errors import OptionError
from ...runtime.files import special
from ...runtime.guard import reading
from ...runtime.schema import parse
from .. import build
from ..autodiff.registry import NO_GRADIENT, RULES
from ..graph.rewrites import REWRITES, TARGETS
from ..precision.lower import Rounding
from ..prepare.forms import FORMS, MICROSOFT
from .arguments import Numbers, Size, SpacedNumbers, constants_option
from .terminal import status
from .verify import describe, verify

_HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.command(
    cls=SpacedNumbers,
    short_help="Turn a classifier into a Backlit file.",
    context_settings=_HELP,
    epilog="""\b
Examples:
  backlit export torchvision:resnet50 -o resnet50.backlit.onnx
  backlit export squeezenet.onnx -o squeezenet.backlit.onnx --range 0-255 --mean 104,117,123 --bgr
  backlit export my_package.models:make --weights weights.pt --size 224 -o mine.backlit.onnx""",
)
@click.argument("source")
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option("--mean", type=Numbers(), help="Per channel, in the order the classifier takes.")
@click.option("--std", type=Numbers(), help="Per channel, in the order the classifier takes.")
@click.option(
    "--range", "range_", type=click.Choice(["0-1", "0-255"]),
    help="What pixels are scaled to before mean and std.  [default: 0-1]",
)  # fmt: skip
@click.option("--bgr", is_flag=True, help="The classifier takes BGR.")
@click.option("--size", type=Size(), help="Input size, where the model leaves it open.")
@click.option(
    "--channels", type=click.IntRange(1),
    help="Channels of an image, where the model leaves them open.  [default: 3]",
)  # fmt: skip
@constants_option
@click.option(
    "--resize", type=click.Choice(["stretch", "crop"]), default="stretch", show_default=True,
    help="The whole image, or its centre.",
)  # fmt: skip
@click.option(
    "--labels", type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="One label per line, or a JSON list.",
)  # fmt: skip
@click.option(
    "--input", "input_", type=click.Choice(["uint8", "float32"]), default="uint8",
    show_default=True, help="Pixels, or exactly what the classifier takes.",
)  # fmt: skip
@click.option(
    "--maps", default="saliency,features,gains", show_default=True, metavar="MAP,...",
    callback=lambda ctx, parameter, value: tuple(name.strip() for name in value.split(",")),
    help="Maps to return: saliency (the paper's) or gradient (unreduced), features, gradcam, "
    "layercam (of feature maps: without the first two a file is about twice as fast).",
)  # fmt: skip
@click.option(
    "--relu", type=click.Choice(list(get_args(Relu))), default="gradient", show_default=True,
    help="Backward rule of ReLUs: the true gradient, or what deconvnet and guided backpropagation "
    "make of it, for pictures.",
)  # fmt: skip
@click.option(
    "--output-name", help="Which tensor of the model holds the scores: an output, or one inside."
)
@click.option("--weights", help="A checkpoint for torch sources ('random': as initialised).")
@click.option(
    "--precision", type=click.Choice(["fp16", "mixed", "bf16"]),
    help="Compute in half precision: all (fp16, for GPUs), or what no mask depends on.  "
    "[default: as the classifier]",
)  # fmt: skip
@click.option(
    "--target", type=click.Choice(list(TARGETS)), default="portable", show_default=True,
    help="The engine whose favourite operators are used; every engine runs every file.",
)  # fmt: skip
@click.option(
    "--without", type=click.Choice(list(REWRITES)), multiple=True, metavar="REWRITE",
    help=f"Leave a rewrite for speed out: {', '.join(REWRITES)}. Repeatable.",
)  # fmt: skip
@click.option("--no-verify", is_flag=True, help="Do not compare the outputs with a reference.")
@click.option(
    "--keep-failed", is_flag=True,
    help="Where they disagree, leave OUT as NAME.failed.onnx, with a report, NAME.failed.json.",
)  # fmt: skip
@overwrite_option
def export(
    source: str, out: Path, range_: Any, input_: Any, labels: Path | None, no_verify: bool,
    **options: Any,
) -> None:  # fmt: skip
    """Turn a trained classifier into ONE ONNX file that also returns where it looked.

    SOURCE is an .onnx, TorchScript or .pt2 file, torchvision:NAME, timm:NAME, hf:NAME_OR_FOLDER,
    package.module:callable or file.py:callable.
    """
    reading(labels, overwrite=True).check(out, None)
    console = Console(stderr=True)
    with status(console, f"exporting {source}" + ("" if no_verify else " and verifying it")):
        report = build.export(
            source, out, range=range_, input=input_, verify=not no_verify,
            labels=None if labels is None else read_labels(labels), **options,
        )  # fmt: skip
    _print_report(console, report)


@click.command(
    short_help="List the operators that can be differentiated.",
    context_settings=_HELP,
    epilog="""\b
Examples:
  backlit ops
  backlit ops --json""",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines.")
def ops(as_json: bool) -> None:
    """List the operators that can be differentiated, and how."""
    functions = sorted(
        s.name for s in onnx.defs.get_all_schemas()
        if s.domain == "" and (s.has_function or s.has_context_dependent_function)  # type: ignore[attr-defined]
        and s.name not in RULES and s.name not in NO_GRADIENT
    )  # fmt: skip
    domains = (MICROSOFT, "ai.onnx.ml")
    written_out = ["Loop", "Scan", *(f"{d}::{n}" for d, n in sorted(FORMS) if d in domains)]
    if as_json:
        found = {
            "rule": sorted(RULES), "function": functions, "written_out": written_out,
            "no_gradient": NO_GRADIENT,
        }  # fmt: skip
        click.echo(json.dumps(found))
        return
    for name in sorted(RULES):
        summary = (RULES[name].rule.__doc__ or "").strip().splitlines()[0].split("  http")[0]
        click.echo(f"{name:24} rule      {summary}")
    for name in functions:
        click.echo(f"{name:24} function  expanded into the operators ONNX defines it by")
    for name in written_out:
        click.echo(f"{name:24} form      written out in standard operators before anything else")
    for name, why in sorted(NO_GRADIENT.items()):
        click.echo(f"{name:24} none      {why}")


def read_labels(path: Path) -> list[str]:
    """Labels from a JSON list or object, or lines; a leading ImageNet synset id is dropped.

    Raises:
        OptionError: the file is not text, or JSON of another kind.
    """
    try:
        if special(path):
            raise ValueError("it is a pipe or a device.")
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".json":
            data = parse(text)
            values = [data[str(i)] for i in range(len(data))] if isinstance(data, dict) else data
            return [str(v) for v in values]
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise OptionError(
            f"{path} holds no labels: {error}", "give a text file with one label per line."
        ) from error
    # Not splitlines(), which also splits at form feeds and other separators.
    lines = [" ".join(line.split("\t")).strip() for line in text.split("\n") if line.strip()]
    if all(re.match(r"n\d{8} ", line) for line in lines):
        lines = [line[10:] for line in lines]
    return lines


def _rounded(rounding: Rounding) -> str:
    return (
        f"median cosine of the maps with float32's {rounding.cosine:.4f} "
        f"(least {rounding.least:.4f}), scores within {rounding.scores:.1e}"
    )


def _print_report(console: Console, report: build.ExportReport) -> None:
    contract, image = report.contract, report.contract.image
    table = Table(show_header=False, box=None, pad_edge=False)
    how = contract.normalisation
    left_out = contract.score.left_out
    without = f", {', '.join(left_out)} left out" if left_out else ""
    table.add_row("file", f"{report.path}  ({report.bytes / 1e6:.1f} MB)")
    table.add_row(
        "image", f"{image.dtype} {image.layout}, {image.channels} x {image.height} x {image.width}"
    )
    table.add_row("takes", f"{image.colour} {how.range}, mean {how.mean}, std {how.std}")
    table.add_row("scores", f"{contract.score.classes} classes{without}")
    if contract.source.exporter not in (None, "torch.export"):
        table.add_row("exporter", str(contract.source.exporter))
    table.add_row("operators", f"{report.nodes} ({report.forward} in the classifier)")
    seconds = f"{report.seconds:.1f} s, of which verification {report.verify_seconds:.1f} s"
    table.add_row("time", seconds)
    verified = contract.verification
    table.add_row("outputs", "not verified" if verified is None else describe(verified))
    if report.rounding is not None:
        table.add_row("rounding", _rounded(report.rounding))
    console.print(table)
    for line in report.notes:
        console.print("[yellow]note:[/]", escape(line), soft_wrap=True)
    for line in report.refused[:5]:
        console.print(f"[yellow]note:[/] TensorRT would refuse {line}")
    if contract.normalisation.assumed and image.dtype == "uint8":
        console.print(
            "[yellow]note:[/] nobody said how the classifier's input is normalised; pixels are "
            "scaled to 0..1 and no more. Most classifiers want --mean and --std."
        )
    file = shlex.quote(str(report.path))
    console.print(f"next:\n  backlit localize {file} photo.jpg -o out/\n  backlit info {file}")


__all__ = ["export", "ops", "read_labels", "verify"]
