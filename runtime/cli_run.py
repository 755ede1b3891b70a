"""The commands that run a file on images: ``saliency`` and ``localize``."""

from __future__ import annotations

import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from . import output as output_module
from .cli import show_error
from .errors import BacklitError, OptionError

if TYPE_CHECKING:
    from .pipeline import Result
    from .session import Session

Function = TypeVar("Function", bound=Callable[..., Any])
Line = dict[str, Any]
Outcome = tuple[str | None, BacklitError | None, Line]

SUFFIXES = (
    *(".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".ico", ".j2k", ".jfif", ".jp2", ".jpe"),
    *(".jpeg", ".jpg", ".pbm", ".pcx", ".pgm", ".png", ".pnm", ".ppm", ".qoi", ".tga", ".tif"),
    *(".tiff", ".webp"),
)
"""What counts as an image in a folder; a file that is named is always tried."""

_IMAGES = click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path())
_OPTIONS = [
    click.argument("file", type=click.Path()),
    _IMAGES,
    click.option(
        "--class",
        "classes",
        multiple=True,
        metavar="INDEX|LABEL",
        help="Class to explain; repeat for more. -1 is the top-scoring class, -2 the second.",
    ),
    click.option("--top", type=int, help="Explain the K best classes of each image.  [default: 1]"),
    click.option("--providers", help="Execution providers that must load, such as cuda,cpu."),
    click.option("--threads", type=int, help="Threads within an operator on the CPU."),
    click.option("--batch", type=int, help="Views per run.  [default: 4 on a CPU, 16 on a GPU]"),
]


def _common(function: Function) -> Function:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def _crops(default: str) -> Callable[[Function], Function]:
    return click.option(
        "--crops",
        type=click.Choice(["1", "2", "10"]),
        help=f"Views whose maps are averaged: the image, with its mirror image, or the paper's "
        f"ten crops.  [default: {default}]",
    )


@click.command(
    short_help="Show where the classifier looked.",
    epilog="""\b
Examples:
  backlit saliency model.backlit.onnx photo.jpg -o out
  backlit saliency model.backlit.onnx photos/ --class tabby --class 7 --crops 10 -o out
  find photos -name '*.jpg' | backlit saliency model.backlit.onnx - --top 3""",
)
@_common
@_crops("1")
@click.option("-o", "--output", type=click.Path(), help="Folder for NAME.npy and NAME.png.")
@click.pass_context
def saliency(ctx: click.Context, /, crops: str | None, output: str | None, **options: Any) -> None:
    """Show where the classifier looked in each IMAGE (a file, a folder, or - for a list on stdin).

    Prints one JSON line per image: image, width, height, classes, labels, scores, map. With -o,
    map is a NumPy file float32 [K,h,w], one map per class in pixels of the network's view, and
    NAME.png shows image and map side by side.
    """
    from . import pipeline
    from .saliency import Saliency

    job = _Job(ctx, output, **options)

    def save(result: Result[Saliency]) -> Outcome:
        found = result.value
        if found is None:
            return result.image, result.error, {}
        line: Line = {
            "image": result.image,
            "width": found.width,
            "height": found.height,
            "classes": found.classes.tolist(),
            "labels": None if found.labels is None else list(found.labels),
            "scores": [output_module.number(score) for score in found.scores],
        }
        if job.folder is not None and result.picture is not None:
            from . import pictures

            stem = job.stems[result.index]
            line["map"] = str(job.folder / f"{stem}.npy")
            pictures.save_maps(job.folder / f"{stem}.npy", found.maps)
            sheet = pictures.saliency_sheet(result.picture, found)
            pictures.save(job.folder / f"{stem}.png", sheet)
        return result.image, None, line

    results = pipeline.saliency_results(
        job.session,
        job.sources,
        job.class_index,
        int(crops or 1),
        options["batch"],
        keep=job.keep,
    )
    with closing(pipeline.after(results, save)) as lines:
        job.finish(lines)


@click.command(
    short_help="Find object boxes from where it looked.",
    epilog="""\b
Examples:
  backlit localize model.backlit.onnx photo.jpg -o out
  backlit localize model.backlit.onnx photos/ --top 5 > boxes.jsonl
  backlit localize model.backlit.onnx photo.jpg --class 'golden retriever' --recipe paper""",
)
@_common
@_crops("what the recipe wants")
@click.option(
    "--recipe",
    default="default",
    help="How a map becomes a box: default, paper (section 3.2 as written), textbook (cv2.grabCut "
    "on the raw map) or threshold.  [default: default]",
)
@click.option("-o", "--output", type=click.Path(), help="Folder for NAME.png and boxes.jsonl.")
@click.pass_context
def localize(
    ctx: click.Context, /, crops: str | None, recipe: str, output: str | None, **options: Any
) -> None:
    """Find the object of each class in each IMAGE (a file, a folder, or - for a list on stdin).

    Prints one JSON line per image: image, width, height, results; a result is class, label, score,
    box and recipe. A box is [x0, y0, x1, y1] in pixels of the upright original, x1 and y1
    exclusive, or null where nothing was found. With -o, NAME.png shows image, saliency, mask and
    box, and boxes.jsonl has the lines.
    """
    from . import pipeline
    from .localize import get_recipe
    from .saliency import Saliency

    chosen = get_recipe(recipe)
    job = _Job(ctx, output, **options)

    def save(explained: Result[Saliency]) -> Outcome:
        result = pipeline.boxes(explained, chosen)
        found = result.value
        if found is None:
            return result.image, result.error, {}
        if job.folder is not None and result.picture is not None and result.prepared is not None:
            from . import pictures

            sheet = pictures.localization_sheet(result.picture, found, result.prepared)
            pictures.save(job.folder / f"{job.stems[result.index]}.png", sheet)
        return result.image, None, output_module.localization_line(found)

    results = pipeline.saliency_results(
        job.session,
        job.sources,
        job.class_index,
        chosen.crops if crops is None else int(crops),
        options["batch"],
        keep=job.keep,
    )
    with closing(pipeline.after(results, save)) as lines:
        job.finish(lines, "boxes.jsonl")


class _Job:
    """What both commands share: images, folder, session, classes, and the lines at the end."""

    def __init__(
        self,
        ctx: click.Context,
        output: str | None,
        file: str,
        images: tuple[str, ...],
        classes: tuple[str, ...],
        top: int | None,
        providers: str | None,
        threads: int | None,
        batch: int | None,
    ) -> None:
        if classes and top is not None:
            raise OptionError("--class and --top contradict each other.", "give one of them.")
        # What Pillow thinks of a file's headers is no news: it reads the image or it does not.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        self._ctx = ctx
        self.sources = list(_expand(images))
        names = output_module.Names()
        self.stems = [names.take(source) for source in self.sources]
        self.folder = None if output is None else output_module.folder(output)

        from .saliency import resolve
        from .session import Session

        self.keep = 0
        if self.folder is not None:
            from .pictures import LONGEST

            self.keep = LONGEST
        self.session: Session = Session(file, providers, threads)
        wanted = [int(text) if re.fullmatch(r"-?\d+", text) else text for text in classes]
        self.class_index = resolve(
            wanted or None, 1 if top is None else top, self.session.contract, len(self.sources)
        )

    def finish(self, outcomes: Iterator[Outcome], copy: str | None = None) -> None:
        """Print the lines, and end with exit code 1 if an image failed."""
        failed = 0
        with ExitStack() as stack:
            file: IO[bytes] | None = None
            if copy is not None and self.folder is not None:
                file = stack.enter_context(output_module.whole_file(self.folder / copy))
            step, show = stack.enter_context(_progress(len(self.sources)))
            for image, error, line in outcomes:
                if error is not None:
                    failed += 1
                    line = {"image": image, "error": error.problem}
                    show(error)
                text = json.dumps(line)
                click.echo(text)
                if file is not None:
                    file.write(text.encode() + b"\n")
                step()
        done, total = len(self.sources) - failed, len(self.sources)
        where = "" if self.folder is None else f", results in {self.folder}"
        click.echo(f"{done} of {total} images on {self.session.provider}{where}", err=True)
        if failed:
            self._ctx.exit(1)


@contextmanager
def _progress(total: int) -> Iterator[tuple[Callable[[], None], Callable[[BacklitError], None]]]:
    """A step to call after each image, and a way to show an error; a bar on a terminal only."""
    # With both streams on one terminal the lines of data are the progress.
    if total < 2 or not sys.stderr.isatty() or sys.stdout.isatty():
        yield (lambda: None), show_error
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    # rich would redirect stdout, which is data, to the bar's console.
    bar = Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        redirect_stdout=False,
        redirect_stderr=False,
        transient=True,
    )
    with bar:
        task = bar.add_task("", total=total)

        def show(error: BacklitError) -> None:
            text = f"error: {error.problem}\n  fix: {error.fix}"
            bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

        def step() -> None:
            bar.advance(task)

        yield step, show


def _expand(images: Sequence[str]) -> Iterator[str]:
    """Files as they are, folders as the images in them, ``-`` as the lines of stdin."""
    for name in images:
        if name == "-":
            lines = os.fsdecode(sys.stdin.buffer.read()).split("\n")
            named = [line.rstrip("\r") for line in lines if line.strip()]
            if not named:
                raise OptionError("stdin names no images.", "give one path on each line.")
            yield from named
        elif Path(name).is_dir():
            inside = sorted(Path(name).iterdir())
            found = [str(path) for path in inside if path.suffix.lower() in SUFFIXES]
            if not found:
                raise OptionError(f"{name} is a folder without images.", "give another one.")
            yield from found
        else:
            yield name
