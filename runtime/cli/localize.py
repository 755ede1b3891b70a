"""The command ``localize``."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import files
from ..guard import Guard
from ..maps.kind import Kind
from ..output.formats.format import Table, encoded
from ..output.formats.table import FORMATS
from ..output.lines import localization_line
from ..output.names import Names
from .image_run import ImageRun, common, crops_option, need_folder, print_line
from .map_options import map_options
from .picture_options import Asked, picture_options

if TYPE_CHECKING:
    from ..boxes.recipes import Recipe
    from ..drawing.panels import Row
    from ..drawing.pictures import Look
    from ..output.run_log import Line
    from ..results import Explained, Localization, Result, Saliency
    from .image_run import Outcome


@click.command(
    short_help="Find object boxes from where it looked.",
    epilog="""\b
Examples:
  backlit localize model.backlit.onnx photo.jpg -o out
  backlit localize model.backlit.onnx photos/ --top 5 > boxes.jsonl
  backlit localize model.backlit.onnx photo.jpg --class 'golden retriever' --recipe paper
  backlit localize model.backlit.onnx photo.jpg --map layercam -o out
  find photos -name '*.jpg' | backlit localize model.backlit.onnx - -o out --no-pictures --resume
  backlit localize model.backlit.onnx photos/ -o out --masks --format coco --format voc
  backlit localize model.backlit.onnx photo.jpg -o out --panels overlay,box --picture-format svg""",
)
@common
@crops_option("what the recipe wants")
@map_options("what the recipe wants")
@click.option(
    "--recipe",
    default="default",
    help="How a map becomes a box: default, threshold (no cut), pixels and pixels-threshold (the "
    "same from the map saliency, which files without feature maps get instead), paper "
    "(section 3.2 as written) or textbook (cv2.grabCut on the map saliency).  [default: default]",
)
@click.option(
    "-o",
    "--out",
    type=click.Path(),
    help="Folder for boxes.jsonl, NAME.backlit.png and other formats.",
)
@picture_options("image,map,mask,box", ("image", "map", "overlay", "mask", "box"))
@click.option(
    "--masks", is_flag=True, help="Write masks/NAME_CLASS.png, in pixels of the original; needs -o."
)
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(list(FORMATS)),
    help="With -o, also write at the end, "
    + ", ".join(f"{name}: {row.help}" for name, row in FORMATS.items())
    + "; repeat for more. Without, print that instead of JSON lines, if it is one text.",
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
    out: str | None,
    asked: Asked,
    masks: bool,
    formats: tuple[str, ...],
    resume: bool,
    **options: Any,
) -> None:
    """Find the object of each class in each IMAGE (a file, a folder, or - for a list on stdin).

    Prints one JSON line per image: image, width, height, results; a result is class, label, score,
    box, map and recipe. A box is [x0, y0, x1, y1] in pixels of the upright original, x1 and y1
    exclusive, or null where nothing was found. With -o, NAME.backlit.png shows image, map, mask and
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
    from .. import located, pipeline
    from ..boxes.recipes import fitted, get_recipe, needed
    from ..drawing.pictures import localization_rows
    from ..maps.kinds import get_kind
    from ..output.run_log import RunLog
    from .pictures import Pictures, named

    wanted = get_recipe(recipe).starting_from(kind)
    need_folder(
        out,
        {
            **asked.need_folder(),
            "--masks": masks,
            "--resume": resume,
            **{f"--format {name}": not isinstance(FORMATS[name], Table) for name in formats},
            "more than one --format": len(set(formats)) > 1,
        },
    )

    run = ImageRun(ctx, out, maps=partial(needed, wanted), beside=asked.beside(), **options)
    chosen = fitted(wanted, run.session.contract)
    views = chosen.crops if crops is None else int(crops)
    shown = get_kind(chosen.map)
    pictures = Pictures(run, asked, {shown.name: shown}, views)
    pictures.check(maps=False)
    if run.folder is not None:
        for name in formats:
            FORMATS[name].check(run.folder, run.stems(), run.guard)

    def rows(explained: Explained, look: Look) -> list[Row]:
        return localization_rows(located.boxes(explained[shown.name], chosen), look)

    def save(explained: Result[Saliency]) -> Outcome:
        stem = run.name(explained.index)
        result = located.boxes(explained, chosen, masks=masks or bool(pictures.keep))
        found = result.value
        if found is None:
            return result.image, result.error, {}
        if run.folder is None:
            return result.image, None, localization_line(found)
        if pictures.later:
            pictures.save_maps(stem, {shown.name: explained})
        else:
            pictures.save(
                stem, {shown.name: explained}, lambda _, look: localization_rows(result, look)
            )
        written = _save_masks(run.folder, stem, found, run.guard) if masks else None
        return result.image, None, localization_line(found, written)

    with ExitStack() as stack:
        log = None
        if run.folder is not None:
            written = asked.settings() | {"pictures": pictures.drawn, "masks": masks}
            written["provider options"] = options.get("settings", ())
            settings = _settings(run, chosen, views, written)
            log = stack.enter_context(
                run.logged(RunLog(run.folder, settings, resume, guard=run.guard))
            )
            _make_ready(run.folder, masks, resume)
        flow = pipeline.saliency_flow(
            run.session,
            run.sources(),
            run.class_index,
            views,
            run.batch,
            keep=pictures.keep,
            runs=run.runs,
            map=chosen.map,
        )
        lines = run.lines(stack.enter_context(closing(pipeline.after(flow, save))))
        if log is None or run.folder is None:
            _print(lines, formats[0] if formats else "jsonl")
        else:
            for line in lines:
                print_line(line)
            log.end()
            for name in sorted({*formats}):
                FORMATS[name].write(log.lines(), run.folder, Names(run.numbered), run.guard)
            pictures.finish(partial(named, log, run.numbered), rows)
            log.finish()
    run.finish()


def _make_ready(folder: Path, masks: bool, resume: bool) -> None:
    """Make the folder of masks, and take out what a killed run left half-written."""
    if masks:
        files.folder(folder / "masks")
    if resume:
        files.sweep(folder)
        files.sweep(folder / "masks")


def _print(lines: Iterable[Line], name: str) -> None:
    """Print a run's lines in a format that is one text."""
    printed = FORMATS[name]
    if isinstance(printed, Table):
        for piece in printed.pieces(lines):
            click.echo(encoded(piece), nl=False)


def _save_masks(folder: Path, stem: str, found: Localization, guard: Guard) -> list[str | None]:
    """Write the masks of an image; their files as seen from the folder, None without an object."""
    from ..output.arrays import save_mask

    files: list[str | None] = []
    for index, box, mask in zip(found.classes, found.boxes, found.masks, strict=True):
        name = f"masks/{stem}_{index}.png"
        files.append(None if box is None else name)
        if box is not None:
            save_mask(folder / name, mask, guard)
    return files


def _settings(run: ImageRun, recipe: Recipe, crops: int, written: dict[str, Any]) -> dict[str, Any]:
    """What the files of a run depend on; JSON."""
    import importlib.metadata

    return {
        "version": importlib.metadata.version("backlit"),
        "model": files.file_hash(run.session.path),
        "provider": run.session.provider,
        "classes": run.class_index.tolist(),
        "crops": crops,
        "recipe": recipe.name,
        **{f"recipe's {name}": value for name, value in recipe.settings().items()},
        **written,
        "names by number": run.numbered,
    }
