"""``backlit demo``: the main job, end to end, on the embedded classifier and its sample images."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import click


@click.command(
    short_help="Export the embedded classifier and run it on sample images.",
    epilog="""\b
Example:
  backlit demo -o out""",
)
@click.option(
    "-o", "--out", type=click.Path(), default="out", show_default=True, help="Folder to write."
)
def demo(out: str) -> None:
    """Export the embedded classifier, run it on the sample images, and count the right boxes.

    Writes tiny_convnet.backlit.onnx, and for each image NAME.npy (the map that its box comes
    from) and NAME.png (image, map, mask and box); boxes.jsonl holds the boxes.
    """
    import numpy as np
    from rich.console import Console
    from rich.table import Table

    from ... import models
    from .. import files, pipeline
    from ..boxes.geometry import centred_box, iou
    from ..boxes.recipes import fitted
    from ..drawing import pictures
    from ..output.arrays import save_maps
    from ..output.lines import localization_line
    from ..session import Session

    console = Console(stderr=True, highlight=False)
    folder = files.folder(out)
    file = folder / "tiny_convnet.backlit.onnx"
    # By name: the runtime must not need the export extra, but this command does.
    exporter = importlib.import_module("...export", __package__)
    how = models.PREPROCESSING
    report = exporter.export(
        models.tiny_convnet(), file, mean=how.mean, std=how.std, range=how.range,
        labels=models.labels().read_text(encoding="utf-8").split("\n")[:-1],
    )  # fmt: skip
    check = report.contract.verification
    console.print(
        f"exported {file}: {report.nodes} operators, gradient verified against {check.reference} "
        f"(cosine {check.cosine:.7f})"
    )

    samples = json.loads((models.samples() / "boxes.json").read_text(encoding="utf-8"))
    session = Session(file)
    sources = [models.samples() / sample["file"] for sample in samples]
    top = np.full((len(sources), 1), -1)
    recipe = fitted("default", session.contract)
    table = Table("image", "class", "score", "IoU", "IoU, centred box", box=None, pad_edge=False)
    right, centred, named = 0, 0, 0
    with files.whole_file(folder / "boxes.jsonl") as lines:
        results = pipeline.saliency_results(
            session, sources, top, recipe.crops, keep=pictures.LONGEST, map=recipe.map
        )
        for sample, explained in zip(samples, results, strict=True):
            result = pipeline.boxes(explained, recipe)
            if result.error is not None:
                raise result.error
            found, stem = result.value, Path(sample["file"]).stem
            if found is None:
                continue
            save_maps(folder / f"{stem}.npy", found.maps)
            rows = pictures.localization_rows(result)
            pictures.save_rows(folder / f"{stem}.png", rows)
            box, truth = found.boxes[0], tuple(sample["box"])
            overlap = iou(box, truth)
            blind = iou(centred_box(found.width, found.height), truth)
            line = localization_line(found) | {
                "image": sample["file"],
                "true_box": truth,
            }
            lines.write(json.dumps(line).encode() + b"\n")
            right, centred = right + (overlap >= 0.5), centred + (blind >= 0.5)
            named += found.labels[0] == sample["label"]
            table.add_row(
                stem,
                str(found.labels[0]),
                f"{found.scores[0]:.2f}",
                f"{overlap:.2f}",
                f"{blind:.2f}",
            )
    console.print(table)
    total = len(samples)
    console.print(f"class right:             {named} of {total}")
    console.print(f"box right (IoU >= 0.5):  {right} of {total}")
    console.print(f"fixed centred box right: {centred} of {total}")
    console.print(f"look at {folder}/*.png", soft_wrap=True)
