"""The command ``triton``: a model repository for a Triton server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from .overwrite import overwrite_option
from .service_options import kind_option, most_classes_option, name_option, recipe_option


@click.command(
    short_help="Write a model repository for a Triton server.",
    epilog="""\b
Examples:
  backlit triton model.backlit.onnx -o repository
  backlit triton model.backlit.onnx -o repository --accelerator tensorrt --device 0,1
  backlit triton model.backlit.onnx -o repository --backend python --name birds""",
)
@click.argument("file", type=click.Path())
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), required=True, help="Folder of the repository."
)
@name_option
@click.option(
    "--backend",
    type=click.Choice(["onnxruntime", "tensorrt", "python"]),
    default="onnxruntime",
    show_default=True,
    help="What computes the maps. tensorrt: an engine that is built on the server's GPU first, as "
    "the repository's README says; python: Backlit itself, where Triton has neither.",
)
@click.option(
    "--accelerator",
    type=click.Choice(["cuda", "tensorrt"]),
    help="What the onnxruntime backend uses on a GPU; tensorrt builds engines as the server "
    "starts, and keeps them.  [default: cuda]",
)
@click.option(
    "--device", metavar="N,...", help="GPUs by number.  [default: all, or the CPU where none is]"
)
@recipe_option
@kind_option(": one of the file's")
@click.option("--maps", metavar="MAP,...", help="Further maps of the file that are returned.")
@click.option(
    "--max-images",
    type=click.IntRange(1, 1024),
    metavar="N",
    help="Images of a run, at most.  [default: 32; 4 on the CPU with --backend python]",
)
@most_classes_option
@click.option(
    "--delay",
    type=click.FloatRange(0, 10_000),
    metavar="MS",
    default=2.0,
    show_default=True,
    help="How long a run waits, at most, for further requests.",
)
@overwrite_option
def triton(
    file: str,
    out: Path,
    name: str | None,
    device: str | None,
    recipe: str,
    kind: str | None,
    maps: str | None,
    overwrite: bool,
    **options: Any,
) -> None:
    """Write a repository in which a Triton server finds a Backlit FILE: images in, boxes out.

    An ensemble NAME takes the bytes of an image's file, and returns classes, labels, scores and
    boxes. Its steps are models of their own: NAME_decode and NAME_cut in Triton's Python backend,
    which imports Backlit, and NAME_maps, the file, in the onnxruntime backend, with batches formed
    across requests.

    The repository's README.md says how to start the server and how to ask it. One JSON object on
    stdout says what was written.
    """
    from ..boxes.recipes import get_recipe
    from ..guard import reading
    from ..hosted.names import check_name, name_of
    from ..hosted.triton.config import Hosted
    from ..hosted.triton.repository import read, write
    from ..serving.settings import parse_devices

    backend, accelerator = options.pop("backend"), options.pop("accelerator")
    if accelerator is not None and backend != "onnxruntime":
        raise click.UsageError("--accelerator is for --backend onnxruntime.")
    devices = () if device is None else parse_devices(device)
    further = () if maps is None else tuple(one.strip() for one in maps.split(","))
    model, contract, chosen = read(file, get_recipe(recipe).starting_from(kind), further)
    hosted = Hosted(
        check_name(name_of(file) if name is None else name),
        contract,
        chosen,
        backend=backend,
        accelerator=accelerator or "cuda",
        devices=devices,
        images=options["max_images"] or (4 if backend == "python" and not devices else 32),
        classes=min(options["max_top"], contract.score.classes),
        delay=round(1000 * options["delay"]),
    )
    models = write(out, hosted, model, reading(file, overwrite=overwrite))
    said = {"file": file, "repository": str(out), "models": models, "backend": backend}
    click.echo(json.dumps({**said, "maps": [made.name for made in contract.maps]}))
    click.echo(f"how to start it and how to ask it: {out / 'README.md'}", err=True)
