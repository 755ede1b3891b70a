"""The command that measures a file's boxes on labelled images: ``evaluate``."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from .. import files
from ..drawing.encode import HTML
from ..evaluation.datasets.table import FORMATS
from ..guard import JSON, Guard, Mark, reading
from ..locks import alone
from ..maps.kind import Kind
from .image_run import can_resume, note_elsewhere, provider_option
from .map_options import map_options
from .overwrite import overwrite_option
from .progress import progress

if TYPE_CHECKING:
    from ..contract import Contract
    from ..drawing.html import Row
    from ..evaluation.measure import Evaluation

_WRITTEN: dict[str, Mark] = {
    "images.csv": re.compile(rb"\Aimage,width,height,true,ranked,[^\n]*error\n"),
    "report.html": HTML,
    "metrics.json": JSON,
}
_RECORDS: Mark = re.compile(rb'\A\{"image": "[^\n]*?", "size": \[')


@click.command(
    short_help="Measure its boxes on labelled images.",
    epilog="""\b
Examples:
  backlit evaluate model.backlit.onnx ILSVRC/LOC_val -o out --map layercam
  backlit evaluate model.backlit.onnx VOCdevkit/VOC2007 -o out --class-table voc.csv
  backlit evaluate model.backlit.onnx coco/ -o out --baselines centred --limit 500""",
)
@click.argument("file", type=click.Path())
@click.argument("dataset", type=click.Path())
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(),
    help="Folder for metrics.json, images.csv, report.html and records.jsonl.",
)
@click.option(
    "--image-folder", "images", type=click.Path(), help="Where the pictures are, if elsewhere."
)
@click.option("--synsets", type=click.Path(), help="ILSVRC's LOC_synset_mapping.txt.")
@click.option(
    "--class-table",
    "class_map",
    type=click.Path(),
    help="CSV or JSON: the data set's classes, and the classifier's indices or labels.",
)
@click.option(
    "--dataset-format",
    "form",
    type=click.Choice(list(FORMATS)),
    help="The data set's format.  [default: by what lies there]",
)
@click.option(
    "--recipe",
    default="default",
    help="How a map becomes a box, as for localize.  [default: default]",
)
@map_options("what the recipe wants")
@click.option(
    "--crops",
    type=click.Choice(["1", "2", "10"]),
    help="Views whose maps are averaged.  [default: what the recipe wants]",
)
@click.option(
    "--baselines",
    type=click.Choice(["all", "centred", "none"]),
    default="all",
    help="What to compare with: the textbook recipe (cv2.grabCut, slow) and a centred box, only "
    "the box, or nothing.  [default: all]",
)
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="Only the first so many images."
)
@click.option(
    "--gallery",
    type=click.IntRange(min=0, max=200),
    default=24,
    help="Cases with pictures in the report.  [default: 24]",
)
@click.option(
    "--heatmaps",
    type=click.Path(),
    help="Folder for the true classes' score maps, float32 [224,224], as wsolevaluation reads "
    "them: IMAGE_ID.npy.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on after the images that records.jsonl in the folder has already; needs the file, the "
    "data set and the options of the first run, but for --limit. Begins anew where there is "
    "nothing yet.",
)
@click.option("--providers", help="Execution providers that must load, such as cuda,cpu.")
@provider_option
@click.option("--threads", type=int, help="Threads within an operator on the CPU.")
@click.option(
    "--batch", type=click.IntRange(min=1), help="Views per run.  [default: 4 on a CPU, 32 on a GPU]"
)
@overwrite_option
@click.pass_context
def evaluate(
    ctx: click.Context, /, out: str, gallery: int, resume: bool, overwrite: bool, **options: Any
) -> None:
    """Measure how well FILE says where objects are, on the labelled images of DATASET.

    DATASET is a folder of ILSVRC as Kaggle ships it, of wsolevaluation's metadata, of Pascal VOC,
    or COCO's JSON file. Prints the metrics as one JSON object, each with its 95 % interval, beside
    those of the textbook recipe and of a centred box on the same images. The folder of -o gets the
    same as metrics.json, a row per image in images.csv and a page with curves and pictures,
    report.html.

    records.jsonl grows as the run goes. Where one is in the folder, that of a finished run is kept
    as records.previous.jsonl until the new one is finished, too; that of an unfinished run is an
    error without --resume.
    """
    from ..drawing import html as report
    from ..evaluation import page
    from ..evaluation.measure import measure
    from ..evaluation.summary import Summary, csv_text
    from ..output.run_log import RunLog

    # What Pillow thinks of a file's headers is no news: it reads the image or it does not.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    folder = files.folder(out)
    ctx.with_resource(alone(folder))
    read = [options[name] for name in ("file", "dataset", "synsets", "class_map")]
    guard = reading(*read, overwrite=overwrite)
    written = {folder / name: mark for name, mark in _WRITTEN.items()}
    files.prove(written, guard)
    evaluation = _evaluation(**options, guard=guard)
    if evaluation.heatmaps is not None and not evaluation.heatmaps.samefile(folder):
        ctx.with_resource(alone(evaluation.heatmaps))
    examples = list(evaluation.dataset.examples[: options["limit"]])
    settings = evaluation.settings()
    for note in (notes := _notes(evaluation, options["recipe"])):
        click.echo(f"note: {note}", err=True)
    errors: dict[str, str] = {}
    with RunLog(folder, settings, resume, "records", _RECORDS, guard) as log:
        log.find()
        there = sum(one.name in log for one in examples)
        if there:
            click.echo(f"{there} of {len(examples)} images are done; going on", err=True)
        with can_resume(), progress(len(examples), there) as (step, show):
            for example, error in measure(evaluation, examples, log):
                if error is not None:
                    errors[example.name] = error.problem
                    show(error)
                step()
        log.end()
        names = [one.name for one in examples]
        summary = Summary(log.read(names), evaluation.methods, evaluation.top)
        found = {
            "backlit": settings["backlit"],
            "file": options["file"],
            **settings,
            "notes": notes,
            "images": summary.images,
            "errors": [{"image": name, "error": text} for name, text in errors.items()],
            "metrics": summary.table(),
            "curves": summary.curves(),
        }
        by_name = {one.name: one for one in examples}
        cases = page.gallery(evaluation, summary.picks(gallery), by_name, log)
        text = csv_text(log.read(names), evaluation.methods, errors)
        known = summary.metrics()
        html = report.html(page.page(evaluation, found, known, cases))
        contents = (text, html, json.dumps(found, indent=1) + "\n")
        for (path, mark), content in zip(written.items(), contents, strict=True):
            with files.whole_file(path, mark, guard) as file:
                file.write(content.encode())
        log.finish()
    click.echo(json.dumps(found))
    _show(
        page.rows(found["metrics"], known, evaluation.methods),
        page.columns(evaluation.methods),
    )
    total = f"{summary.images} of {len(examples)} images on {evaluation.session.provider}"
    click.echo(f"{total}, report in {folder / 'report.html'}", err=True)
    if errors:
        ctx.exit(1)


def _evaluation(
    file: str,
    dataset: str,
    images: str | None,
    synsets: str | None,
    class_map: str | None,
    form: str | None,
    recipe: str,
    kind: Kind | None,
    crops: str | None,
    baselines: Any,
    heatmaps: str | None,
    providers: str | None,
    threads: int | None,
    batch: int | None,
    settings: tuple[str, ...],
    guard: Guard,
    **_: Any,
) -> Evaluation:
    from ..backend.options import parse
    from ..backend.plan import plan
    from ..boxes.recipes import fitted, get_recipe, needed
    from ..evaluation import datasets
    from ..evaluation.measure import Evaluation
    from ..maps.kinds import file_outputs, offers
    from ..session import Session

    threads, runs = plan(providers, threads, None)
    wanted = get_recipe(recipe).starting_from(kind)

    def maps(contract: Contract) -> set[str]:
        names = set(needed(wanted, contract))
        if baselines == "all" and offers("saliency", contract):  # the textbook recipe cuts on it
            names.update(file_outputs("saliency", contract))
        return names

    session = Session(file, providers, threads, maps, parse(settings))
    note_elsewhere(session)
    contract = session.contract
    chosen = fitted(wanted, contract)
    labelled = datasets.read(
        dataset,
        contract.labels,
        contract.score.classes,
        images=images,
        class_map=class_map,
        synsets=synsets,
        format=form,
    )
    return Evaluation(
        session,
        labelled,
        chosen,
        None if crops is None else int(crops),
        baselines,
        batch,
        runs,
        None if heatmaps is None else files.folder(heatmaps),
        guard,
    )


def _notes(evaluation: Evaluation, recipe: str) -> list[str]:
    """What is not as it was asked for."""
    notes = list(evaluation.dataset.notes)
    if evaluation.recipe.name != recipe:
        notes.append(
            f"recipe {evaluation.recipe.name}: the file has no map for recipe {recipe}; export it "
            "with --maps saliency,features."
        )
    if evaluation.baselines == "all" and "textbook" not in evaluation.methods:
        notes.append("no textbook recipe: the file has no map saliency (export --maps saliency).")
    return notes


def _show(rows: Sequence[Row], columns: Sequence[str]) -> None:
    """The table on stderr."""
    from rich.console import Console
    from rich.table import Table

    console = Console(stderr=True)
    if not console.is_terminal:  # in a file or pipe nothing has to fit
        console.width = 120
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right")
    for row in rows:
        cells = [
            f"{cell.text} [dim]({cell.detail})[/dim]" if cell.detail else cell.text
            for cell in row.cells
        ]
        table.add_row(row.name, *cells)
    console.print(table)
