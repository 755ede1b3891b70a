"""The command ``mlserver``: a folder that MLServer serves, by itself or in KServe."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .overwrite import overwrite_option
from .service_options import kind_option, most_classes_option, name_option, recipe_option


@click.command(
    short_help="Write a folder that MLServer serves.",
    epilog="""\b
Examples:
  backlit mlserver model.backlit.onnx -o folder
  mlserver start folder""",
)
@click.argument("file", type=click.Path())
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="The folder.")
@name_option
@click.option("--providers", help="Execution providers that must load, such as cuda,cpu.")
@recipe_option
@kind_option("")
@most_classes_option
@overwrite_option
def mlserver(
    file: str,
    out: Path,
    name: str | None,
    providers: str | None,
    recipe: str,
    kind: str | None,
    max_top: int,
    overwrite: bool,
) -> None:
    """Write a folder that MLServer, and so KServe, serves by the Open Inference Protocol.

    It holds a copy of the Backlit FILE and MLServer's own settings, which may be changed. Requests
    bring images as bytes of files or as pixels; answers are classes, labels, scores, boxes and,
    where asked for, maps. The server needs `pip install 'backlit[cpu,boxes,mlserver]'`.

    One JSON object on stdout says what was written.
    """
    from ..boxes.recipes import get_recipe
    from ..guard import reading
    from ..hosted.mlserver.folder import write
    from ..hosted.names import check_name, name_of

    model = check_name(name_of(file) if name is None else name)
    options = {"max_top": max_top, **({} if providers is None else {"providers": providers})}
    chosen = get_recipe(recipe).starting_from(kind)
    files = write(out, file, model, chosen, options, reading(file, overwrite=overwrite))
    click.echo(json.dumps({"file": file, "folder": str(out), "model": model, "files": files}))
    click.echo(f"next: mlserver start {out}", err=True)
