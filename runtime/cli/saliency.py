"""The command ``saliency``."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..maps.kind import Kind
from ..maps.kinds import KINDS
from .image_run import ImageRun, common, crops_option, need_folder, print_line
from .map_options import map_options
from .picture_options import Asked, picture_options

if TYPE_CHECKING:
    from ..contract import Contract
    from ..drawing.panels import Row
    from ..drawing.pictures import Look
    from ..output.run_log import Line
    from ..results import Explained, Result, Saliency
    from .image_run import Outcome


@click.command(
    short_help="Show where the classifier looked.",
    epilog="""\b
Examples:
  backlit saliency model.backlit.onnx photo.jpg -o out
  backlit saliency model.backlit.onnx photos/ --class tabby --class 7 --crops 10 -o out
  backlit saliency model.backlit.onnx photo.jpg --map smoothgrad --samples 25 -o out
  backlit saliency model.backlit.onnx photo.jpg --panels image,saliency,features,overlay -o out
  find photos -name '*.jpg' | backlit saliency model.backlit.onnx - --top 3""",
)
@common
@crops_option("1")
@map_options("saliency")
@click.option("-o", "--out", type=click.Path(), help="Folder for NAME.npy and NAME.backlit.png.")
@picture_options("image,map", ("image", "map", "overlay", *KINDS))
@click.pass_context
def saliency(
    ctx: click.Context,
    /,
    crops: str | None,
    kind: Kind | None,
    out: str | None,
    asked: Asked,
    **options: Any,
) -> None:
    """Show where the classifier looked in each IMAGE (a file, a folder, or - for a list on stdin).

    Prints one JSON line per image: image, width, height, classes, labels, scores, map (the kind).
    With -o, npy is a NumPy file float32 [K,h,w], one map per class in pixels of the network's view,
    and NAME.backlit.png shows image and map side by side; other kinds of maps among the --panels
    are in NAME.KIND.npy. Files of a list on stdin, which is read as it comes, are named
    000001_NAME, and so on.
    """
    from .. import pipeline
    from ..maps.kinds import file_outputs
    from .pictures import Pictures, lockstep

    need_folder(out, asked.need_folder())
    kinds = asked.kinds(kind)

    def maps(contract: Contract) -> list[str]:
        return [name for one in kinds.values() for name in file_outputs(one, contract)]

    run = ImageRun(ctx, out, maps=maps, beside=asked.beside(), **options)
    pictures = Pictures(run, asked, kinds, int(crops or 1))
    pictures.check(maps=run.folder is not None)
    entries: list[tuple[str, Line]] = []

    def save(results: Sequence[Result[Saliency]]) -> Outcome:
        result = results[0]
        stem = run.name(result.index)
        found = result.value
        if found is None:
            return result.image, result.error, {}
        line: Line = found.to_dict()
        if run.folder is not None:
            line["npy"] = str(run.folder / f"{stem}.npy")
            explained = dict(zip(kinds, results, strict=True))
            pictures.save_maps(stem, explained)
            pictures.save(stem, explained, _rows)
        return result.image, None, line

    flows = [
        pipeline.saliency_flow(
            run.session.sibling() if place else run.session,
            sources,
            run.class_index,
            int(crops or 1),
            run.batch,
            keep=pictures.keep,
            runs=run.runs,
            map=one,
        )
        for place, (one, sources) in enumerate(
            zip(kinds.values(), itertools.tee(run.sources(), len(kinds)), strict=True)
        )
    ]
    with closing(pipeline.after(lockstep(flows), save)) as outcomes:
        for line in run.lines(outcomes):
            if pictures.listed and "npy" in line:
                entries.append((Path(line["npy"]).stem, line))
            print_line(line)
    pictures.finish(lambda: entries, _rows)
    run.finish()


def _rows(explained: Explained, look: Look) -> list[Row]:
    from ..drawing.pictures import saliency_rows  # OpenCV: 0.2 s that maps alone do without

    return saliency_rows(explained, look)
