"""The commands that run a file on images: ``saliency`` and ``localize``."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import files
from ..errors import OptionError
from ..output.lines import localization_line, number
from ..output.names import Names
from .job import Job, Line, Outcome, common, crops_option, print_line, saliency_option
from .picture_options import KINDS, Asked, picture_options

if TYPE_CHECKING:
    from ..boxes.recipes import Recipe
    from ..contract import Contract
    from ..drawing.panels import Row
    from ..drawing.pictures import Explained, Look
    from ..maps.kinds import Kind
    from ..results import Localization, Result, Saliency


@click.command(
    short_help="Show where the classifier looked.",
    epilog="""\b
Examples:
  backlit saliency model.backlit.onnx photo.jpg -o out
  backlit saliency model.backlit.onnx photos/ --class tabby --class 7 --crops 10 -o out
  backlit saliency model.backlit.onnx photo.jpg --saliency smoothgrad --samples 25 -o out
  backlit saliency model.backlit.onnx photo.jpg --panels image,gradient,features,overlay -o out
  find photos -name '*.jpg' | backlit saliency model.backlit.onnx - --top 3""",
)
@common
@crops_option("1")
@saliency_option("gradient")
@click.option("-o", "--output", type=click.Path(), help="Folder for NAME.npy and NAME.png.")
@picture_options("image,saliency", ("image", "saliency", "overlay", *KINDS))
@click.pass_context
def saliency(
    ctx: click.Context,
    /,
    crops: str | None,
    kind: Kind | None,
    output: str | None,
    asked: Asked,
    **options: Any,
) -> None:
    """Show where the classifier looked in each IMAGE (a file, a folder, or - for a list on stdin).

    Prints one JSON line per image: image, width, height, classes, labels, scores, map. With -o,
    map is a NumPy file float32 [K,h,w], one map per class in pixels of the network's view, and
    NAME.png shows image and map side by side; other kinds of maps among the --panels are in
    NAME.KIND.npy. Files of a list on stdin, which is read as it comes, are named 000001_NAME, and
    so on.
    """
    from .. import pipeline
    from ..maps.kinds import map_name
    from .pictures import Pictures, lockstep

    _needs_folder(output, asked.need_folder())
    kinds = asked.kinds(kind)
    names = kinds.values()
    job = Job(
        ctx, output, maps=lambda contract: [map_name(name, contract) for name in names], **options
    )
    pictures = Pictures(job, asked, kinds, int(crops or 1))
    entries: list[tuple[str, Line]] = []

    def save(results: Sequence[Result[Saliency]]) -> Outcome:
        result = results[0]
        stem = job.name(result.index)
        found = result.value
        if found is None:
            return result.image, result.error, {}
        line: Line = {
            "image": result.image,
            "width": found.width,
            "height": found.height,
            "classes": found.classes.tolist(),
            "labels": None if found.labels is None else list(found.labels),
            "scores": [number(score) for score in found.scores],
        }
        if job.folder is not None:
            line["map"] = str(job.folder / f"{stem}.npy")
            explained = dict(zip(kinds, results, strict=True))
            pictures.save_maps(stem, explained)
            pictures.save(stem, explained, _saliency_rows)
        return result.image, None, line

    flows = [
        pipeline.saliency_flow(
            job.session.sibling() if number else job.session,
            sources,
            job.class_index,
            int(crops or 1),
            job.batch,
            keep=pictures.keep,
            runs=job.runs,
            kind=name,
        )
        for number, (name, sources) in enumerate(
            zip(names, itertools.tee(job.sources(), len(kinds)), strict=True)
        )
    ]
    with closing(pipeline.after(lockstep(flows), save)) as outcomes:
        for line in job.lines(outcomes):
            if pictures.listed and "map" in line:
                entries.append((Path(line["map"]).stem, line))
            print_line(line)
    pictures.finish(lambda: entries, _saliency_rows)
    job.finish()


@click.command(
    short_help="Find object boxes from where it looked.",
    epilog="""\b
Examples:
  backlit localize model.backlit.onnx photo.jpg -o out
  backlit localize model.backlit.onnx photos/ --top 5 > boxes.jsonl
  backlit localize model.backlit.onnx photo.jpg --class 'golden retriever' --recipe paper
  find photos -name '*.jpg' | backlit localize model.backlit.onnx - -o out --no-pictures --resume
  backlit localize model.backlit.onnx photos/ -o out --masks --format coco --format voc
  backlit localize model.backlit.onnx photo.jpg -o out --panels overlay,box --picture-format svg""",
)
@common
@crops_option("what the recipe wants")
@saliency_option("what the recipe wants")
@click.option(
    "--recipe",
    default="default",
    help="How a map becomes a box: default, threshold (no cut), pixels and pixels-threshold (the "
    "same from the gradient by the pixels, which files without feature maps get instead), paper "
    "(section 3.2 as written) or textbook (cv2.grabCut on the raw gradient).  [default: default]",
)
@click.option(
    "-o", "--output", type=click.Path(), help="Folder for boxes.jsonl, NAME.png and other formats."
)
@picture_options("image,saliency,mask,box", ("image", "saliency", "overlay", "mask", "box"))
@click.option(
    "--masks", is_flag=True, help="Write masks/NAME_CLASS.png, in pixels of the original; needs -o."
)
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(["jsonl", "coco", "voc", "csv"]),
    help="With -o, also write coco.json (COCO results), Annotations/NAME.xml (Pascal VOC) or "
    "boxes.csv at the end; repeat for more. Without, print coco or csv instead of JSON lines.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on after the images that boxes.jsonl in the folder has already; needs -o and the "
    "options and images of the first run. Begins anew where there is nothing yet.",
)
@click.pass_context
def localize(
    ctx: click.Context,
    /,
    crops: str | None,
    kind: Kind | None,
    recipe: str,
    output: str | None,
    asked: Asked,
    masks: bool,
    formats: tuple[str, ...],
    resume: bool,
    **options: Any,
) -> None:
    """Find the object of each class in each IMAGE (a file, a folder, or - for a list on stdin).

    Prints one JSON line per image: image, width, height, results; a result is class, label, score,
    box and recipe. A box is [x0, y0, x1, y1] in pixels of the upright original, x1 and y1
    exclusive, or null where nothing was found. With -o, NAME.png shows image, saliency, mask and
    box, and boxes.jsonl has the lines. Files of a list on stdin, which is read as it comes, are
    named 000001_NAME, and so on.

    boxes.jsonl grows as the run goes. Where one is in the folder, that of a finished run is kept as
    boxes.previous.jsonl until the new one is finished, too; that of an unfinished run is an error
    without --resume.

    \b
    coco: image_id is the number that a file is named by as in COCO (000000397133.jpg), else the
          path as given; category_id is the class index; bbox is [x, y, width, height].
    voc:  pixels are counted from 1, xmax and ymax are inside, as in VOC.
    csv:  a row for each class: x0, y0, x1, y1 as in the JSON lines.
    """  # noqa: D301 (\b is click's, not a backslash)
    from .. import pipeline
    from ..boxes.recipes import fitted, get_recipe
    from ..drawing.pictures import localization_rows
    from ..maps.kinds import map_name
    from ..output import formats as formats_module
    from ..output.run_log import RunLog
    from .pictures import Pictures, named

    wanted = get_recipe(recipe)
    if kind is not None:
        wanted = dataclasses.replace(wanted, saliency=kind, otherwise=None)
    _needs_folder(
        output,
        {
            **asked.need_folder(),
            "--masks": masks,
            "--resume": resume,
            "--format voc": "voc" in formats,
            "more than one --format": len(set(formats)) > 1,
        },
    )

    def maps(contract: Contract) -> list[str]:
        return [map_name(fitted(wanted, contract).saliency, contract)]

    job = Job(ctx, output, maps=maps, **options)
    chosen = fitted(wanted, job.session.contract)
    views = chosen.crops if crops is None else int(crops)
    pictures = Pictures(job, asked, {"saliency": chosen.saliency}, views)

    def rows(explained: Explained, look: Look) -> list[Row]:
        return localization_rows(pipeline.boxes(explained["saliency"], chosen), look)

    def save(explained: Result[Saliency]) -> Outcome:
        stem = job.name(explained.index)
        result = pipeline.boxes(explained, chosen, masks=masks or bool(pictures.keep))
        found = result.value
        if found is None:
            return result.image, result.error, {}
        if job.folder is None:
            return result.image, None, localization_line(found)
        if pictures.later:
            pictures.save_maps(stem, {"saliency": explained})
        else:
            pictures.save(
                stem, {"saliency": explained}, lambda _, look: localization_rows(result, look)
            )
        written = _save_masks(job.folder, stem, found) if masks else None
        return result.image, None, localization_line(found, written)

    with ExitStack() as stack:
        if job.folder is not None:
            written = asked.settings() | {"pictures": pictures.drawn, "masks": masks}
            written["provider options"] = options.get("settings", ())
            settings = _settings(job, chosen, views, written)
            log = stack.enter_context(job.logged(RunLog(job.folder, settings, resume)))
            if masks:
                files.folder(job.folder / "masks")
            if resume:
                files.sweep(job.folder)
                files.sweep(job.folder / "masks")
        flow = pipeline.saliency_flow(
            job.session,
            job.sources(),
            job.class_index,
            views,
            job.batch,
            keep=pictures.keep,
            runs=job.runs,
            kind=chosen.saliency,
        )
        lines = job.lines(stack.enter_context(closing(pipeline.after(flow, save))))
        if job.folder is None:
            for piece in formats_module.TABLES[(*formats, "jsonl")[0]](lines):
                click.echo(formats_module.encoded(piece), nl=False)
        else:
            for line in lines:
                print_line(line)
            log.end()
            for name in sorted({*formats} - {"jsonl"}):
                names = Names(job.numbered)
                formats_module.write(name, log.lines(), job.folder, names)
            pictures.finish(lambda: named(log, job.numbered), rows)
            log.finish()
    job.finish()


def _saliency_rows(explained: Explained, look: Look) -> list[Row]:
    from ..drawing.pictures import saliency_rows  # OpenCV: 0.2 s that maps alone do without

    return saliency_rows(explained, look)


def _needs_folder(output: str | None, asked: dict[str, bool | None]) -> None:
    for option, wanted in asked.items():
        if wanted and output is None:
            raise OptionError(f"{option} writes files.", "say where to: -o FOLDER.")


def _save_masks(folder: Path, stem: str, found: Localization) -> list[str | None]:
    """Write the masks of an image; their files as seen from the folder, None without an object."""
    from ..output.formats import save_mask

    files: list[str | None] = []
    for index, box, mask in zip(found.classes, found.boxes, found.masks, strict=True):
        name = f"masks/{stem}_{index}.png"
        files.append(None if box is None else name)
        if box is not None:
            save_mask(folder / name, mask)
    return files


def _settings(job: Job, recipe: Recipe, crops: int, written: dict[str, Any]) -> dict[str, Any]:
    """What the files of a run depend on; JSON."""
    import importlib.metadata

    return {
        "version": importlib.metadata.version("backlit"),
        "model": files.file_hash(job.session.path),
        "provider": job.session.provider,
        "classes": job.class_index.tolist(),
        "crops": crops,
        "recipe": recipe.name,
        **{f"recipe's {name}": value for name, value in dataclasses.asdict(recipe).items()},
        **written,
        "names by number": job.numbered,
    }
