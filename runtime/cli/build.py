"""The command ``build``: TensorRT engines ahead of serving, and as files for other devices."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .overwrite import overwrite_option

if TYPE_CHECKING:
    from ..guard import Guard


@click.command(
    short_help="Build a TensorRT engine ahead of serving.",
    epilog="""\b
Examples:
  backlit build model.backlit.onnx
  backlit build model.backlit.onnx --max-images 8 --tuned 1 -o edge.backlit.onnx
  backlit build --list""",
)
@click.argument("file", required=False, type=click.Path())
@click.option("--providers", default="tensorrt", show_default=True, help="What to build for.")
@click.option(
    "--max-images",
    type=click.IntRange(min=1),
    metavar="N",
    default=32,
    show_default=True,
    help="Images of the largest run.",
)
@click.option(
    "--max-top",
    type=click.IntRange(min=1),
    metavar="K",
    default=5,
    show_default=True,
    help="Classes of the largest run.",
)
@click.option(
    "--tuned", type=int, help="Images of the run to be fastest in.  [default: 8, or the largest]"
)
@click.option("--maps", metavar="MAP,...", help="Maps to keep.  [default: all of the file]")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Write the engine as a file.")
@click.option(
    "--provider-option",
    "texts",
    multiple=True,
    metavar="PROVIDER.KEY=VALUE",
    help="An option of TensorRT, such as tensorrt.trt_builder_optimization_level=5. Repeatable.",
)
@click.option("--list", "as_list", is_flag=True, help="Show what is in the cache.")
@click.option("--clear", is_flag=True, help="Empty the cache.")
@overwrite_option
def build(
    file: str | None,
    providers: str,
    max_images: int,
    max_top: int,
    tuned: int | None,
    maps: str | None,
    out: Path | None,
    texts: tuple[str, ...],
    as_list: bool,
    clear: bool,
    overwrite: bool,
) -> None:
    """Build the TensorRT engine of a Backlit FILE, which takes minutes, before it is needed.

    The engine goes into the cache ($BACKLIT_CACHE, or backlit in the user's cache folder), where
    every session on tensorrt with the same maps, options and shapes finds it. With -o it becomes a
    Backlit file of its own instead, for devices with this kind of GPU and this TensorRT.

    One JSON object says what was built.
    """
    if bool(file) == (as_list or clear):
        raise click.UsageError("give a FILE, or one of --list and --clear.")
    if file is None:
        _tend(clear)
        return
    from .. import files
    from ..backend.models import check_file
    from ..backend.options import parse
    from ..backend.probing import candidates
    from ..backend.probing import parse as parse_providers
    from ..backend.tensorrt.cache import Shapes
    from ..contract import MARK
    from ..errors import OptionError
    from ..guard import reading

    if parse_providers(providers) != ("tensorrt",):
        raise OptionError(
            f"--providers {providers}: engines are TensorRT's.", "leave it out; or tensorrt."
        )
    shapes = Shapes(max_images, max_top, tuned or min(8, max_images))
    kept = () if maps is None else tuple(name.strip() for name in maps.split(","))
    check_file(Path(file))
    guard = reading(file, overwrite=overwrite)
    if out is not None:
        files.prove({out: MARK}, guard)
    candidates("tensorrt")
    with _status(f"building the engine of {file}: this takes minutes"):
        start = time.monotonic()
        made = _build(file, out, kept, parse(texts), shapes, guard)
        made["seconds"] = round(time.monotonic() - start, 1)
    click.echo(json.dumps(made))
    done = "built" if made["built"] else "found"
    text = f"{done} in {made['seconds']:.1f} s: {made['bytes'] / 1e6:.1f} MB in {made['path']}"
    click.echo(text, err=True)


def _build(
    file: str, out: Path | None, maps: tuple[str, ...], options: Any, shapes: Any, guard: Guard
) -> dict[str, Any]:
    from ..backend.sessions import open_on
    from ..backend.tensorrt.context_file import write_context
    from ..backend.tensorrt.engines import open_tensorrt, read, reduced
    from ..errors import OutputError

    data, contract = reduced(*read(file), maps)
    if out is not None:
        engine, path = (
            write_context(
                data, contract, out, options, shapes, opener=open_on, path=file, guard=guard
            ),
            out,
        )
        size = out.stat().st_size
    else:
        engine = open_tensorrt(data, contract, options, opener=open_on, shapes=shapes, path=file)
        if engine.folder is None:
            raise OutputError(
                f"the engine of {file} is not in the cache.",
                "see the warning above; leave trt_engine_cache_enable as it is.",
            )
        path = engine.folder
        size = sum(entry.stat().st_size for entry in path.iterdir())
    return {
        "file": file,
        "path": str(path),
        "built": engine.built,
        "seconds": 0.0,
        "bytes": size,
        "engines": engine.engines,
        "elsewhere": [dataclasses.asdict(node) for node in engine.elsewhere],
        "maps": [made.name for made in contract.maps],
        "shapes": dataclasses.asdict(engine.shapes),
    }


def _tend(clear: bool) -> None:
    """``--list`` and ``--clear``."""
    from ..backend.tensorrt.cache import EngineCache

    cache = EngineCache()
    found = cache.clear() if clear else cache.entries()
    for entry in found:
        click.echo(json.dumps(dataclasses.asdict(entry)))
    size = sum(entry.bytes for entry in found)
    done = "removed" if clear else "there are"
    text = f"{done} {len(found)} entries, {size / 1e6:.1f} MB in {cache.root}"
    click.echo(text, err=True)


@contextlib.contextmanager
def _status(text: str) -> Iterator[None]:
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(text):
        yield
