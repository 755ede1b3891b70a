"""``backlit demo``: the main job, end to end, on the embedded classifier and its sample images."""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..guard import Guard, Mark
from .overwrite import overwrite_option

if TYPE_CHECKING:
    from rich.table import Table

# Not the lines of a run, which may be unfinished.
_LINES: Mark = re.compile(rb'\A\{"image": "[^\n]*"true_box": \[')


@click.command(
    short_help="Export the embedded classifier and run it on sample images.",
    epilog="""\b
Example:
  backlit demo -o out""",
)
@click.option(
    "-o", "--out", type=click.Path(), default="out", show_default=True, help="Folder to write."
)
@overwrite_option
@click.pass_context
def demo(ctx: click.Context, out: str, overwrite: bool) -> None:
    """Export the embedded classifier, run it on the sample images, and count the right boxes.

    Writes tiny_convnet.backlit.onnx, and for each image NAME.npy (the map that its box comes
    from) and NAME.backlit.png (image, map, mask and box); boxes.jsonl holds the boxes.
    """
    from rich.console import Console

    from .. import files
    from ..locks import alone

    console = Console(stderr=True, highlight=False)
    folder = files.folder(out)
    ctx.with_resource(alone(folder))
    file = folder / "tiny_convnet.backlit.onnx"
    report = _export(file, overwrite)
    check = report.contract.verification
    console.print(
        f"exported {file}: {report.nodes} operators, gradient verified against {check.reference} "
        f"(cosine {check.cosine:.7f})"
    )
    found = _localize(file, folder, Guard(overwrite=overwrite))
    console.print(_table(found))
    total = len(found)
    for text, right in (
        ("class right:            ", sum(one.named for one in found)),
        ("box right (IoU >= 0.5): ", sum(one.overlap >= 0.5 for one in found)),
        ("fixed centred box right:", sum(one.blind >= 0.5 for one in found)),
    ):
        console.print(f"{text} {right} of {total}")
    console.print(f"look at {folder}/*.backlit.png", soft_wrap=True)


@dataclasses.dataclass(frozen=True)
class _Found:
    """What was found in a sample picture.

    Attributes:
        stem: of the picture's file.
        label, score: of the best class.
        named: that is the picture's class.
        overlap: IoU of the box with the true one.
        blind: IoU of a fixed centred box with it.
    """

    stem: str
    label: str
    score: float
    named: bool
    overlap: float
    blind: float


def _export(file: Path, overwrite: bool) -> Any:
    """Export the embedded classifier."""
    from ... import models

    # By name: the runtime must not need the export extra, but this command does.
    exporter = importlib.import_module("...export", __package__)
    how = models.PREPROCESSING
    return exporter.export(
        models.tiny_convnet(), file, mean=how.mean, std=how.std, range=how.range,
        overwrite=overwrite,
        labels=models.labels().read_text(encoding="utf-8").split("\n")[:-1],
    )  # fmt: skip


def _localize(file: Path, folder: Path, guard: Guard) -> list[_Found]:
    """Find the objects of the sample pictures, and write boxes, maps and pictures."""
    import numpy as np

    from ... import models
    from .. import files, located, pipeline
    from ..boxes.geometry import centred_box, iou
    from ..boxes.recipes import fitted
    from ..drawing import pictures
    from ..output.arrays import save_maps
    from ..output.lines import localization_line
    from ..output.names import PICTURE
    from ..session import Session

    samples = json.loads((models.samples() / "boxes.json").read_text(encoding="utf-8"))
    session = Session(file)
    recipe = fitted("default", session.contract)
    made = []
    with files.whole_file(folder / "boxes.jsonl", _LINES, guard) as lines:
        results = pipeline.saliency_results(
            session, [models.samples() / sample["file"] for sample in samples],
            np.full((len(samples), 1), -1), recipe.crops, keep=pictures.LONGEST, map=recipe.map,
        )  # fmt: skip
        for sample, explained in zip(samples, results, strict=True):
            result = located.boxes(explained, recipe)
            if result.error is not None:
                raise result.error
            found, stem = result.value, Path(sample["file"]).stem
            if found is None:
                continue
            save_maps(folder / f"{stem}.npy", found.maps, guard)
            rows = pictures.localization_rows(result)
            pictures.save_rows(folder / f"{stem}{PICTURE}.png", rows, guard)
            truth = tuple(sample["box"])
            extra = {"image": sample["file"], "true_box": truth}
            lines.write(json.dumps(localization_line(found) | extra).encode() + b"\n")
            label = str(found.labels[0])
            blind = iou(centred_box(found.width, found.height), truth)
            made.append(_Found(
                stem, label, float(found.scores[0]), label == sample["label"],
                iou(found.boxes[0], truth), blind,
            ))  # fmt: skip
    return made


def _table(found: Sequence[_Found]) -> Table:
    from rich.table import Table

    table = Table("image", "class", "score", "IoU", "IoU, centred box", box=None, pad_edge=False)
    for one in found:
        numbers = (f"{number:.2f}" for number in (one.score, one.overlap, one.blind))
        table.add_row(one.stem, one.label, *numbers)
    return table
