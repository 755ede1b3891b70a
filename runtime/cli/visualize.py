"""``backlit visualize``: class-model visualisation."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import OptionError
from ..guard import Guard, Mark, reading
from .image_run import note_elsewhere, provider_option
from .overwrite import overwrite_option

if TYPE_CHECKING:
    from ..contract import Contract
    from ..maps.classmodel import Ascent, ClassModel

_LINES: Mark = re.compile(rb'\A\{"class": \d+, "label": [^\n]*"steps_without_gradient": ')


@click.command(
    short_help="Draw what scores highest for a class.",
    epilog="""\b
Examples:
  backlit visualize model.gradient.onnx --class 207 -o retriever.png
  backlit visualize model.gradient.onnx --class 0-9 --class 'red fox' -o sheet.png --separate
  backlit visualize model.gradient.onnx --class 0-9 --lr 0.04 --jitter 24 --blur 1.5 -o calm.png""",
)
@click.argument("file", type=click.Path())
@click.option(
    "--class",
    "classes",
    multiple=True,
    required=True,
    metavar="INDEX|LABEL|A-B",
    help="Class to draw, or all from A to B; repeat for more.",
)
@click.option("-o", "--out", type=click.Path(), required=True, help="The picture, a .png file.")
@click.option(
    "--separate", is_flag=True, help="Of several classes, also write each alone: NAME_CLASS.png."
)
@click.option("--steps", type=int, default=200, show_default=True, help="Steps of the ascent.")
@click.option(
    "--lr",
    type=float,
    default=0.01,
    show_default=True,
    help="Length of the first step (root mean square, 1 is the range of a pixel); falls to 0.",
)
@click.option(
    "--l2",
    type=float,
    default=0.003,
    show_default=True,
    help="The paper's lambda: what the squared L2 norm of the image costs.",
)
@click.option(
    "--jitter",
    type=int,
    default=0,
    show_default=True,
    help="Beyond the paper: shift the image by up to so many pixels in each step.",
)
@click.option(
    "--blur",
    type=float,
    default=0.0,
    show_default=True,
    help="Beyond the paper: Gaussian filter on each step, standard deviation in pixels.",
)
@click.option(
    "--tv",
    type=float,
    default=0.0,
    show_default=True,
    help="Beyond the paper: what total variation costs.",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Of the shifts; same seed, same picture."
)
@click.option("--providers", help="Execution providers that must load, such as cuda,cpu.")
@provider_option
@click.option("--threads", type=int, help="Threads within an operator on the CPU.")
@click.option(
    "--batch", type=click.IntRange(min=1), default=16, show_default=True,
    help="Classes drawn at once, an image of each.",
)  # fmt: skip
@overwrite_option
def visualize(
    file: str,
    classes: tuple[str, ...],
    out: str,
    separate: bool,
    providers: str | None,
    threads: int | None,
    batch: int,
    settings: tuple[str, ...],
    overwrite: bool,
    **how: Any,
) -> None:
    """Draw the image that the classifier in FILE scores highest for each class.

    Gradient ascent on the class score less L2 times the squared norm of the image, from the zero
    image, the mean image added at the end (Simonyan et al. 2013, section 2). FILE must return the
    gradient: backlit export ... --maps gradient.

    Prints one JSON line per class: class, label, score and probability of the picture as it is
    saved, named (the class that it is taken for), and scores, one for each step; the same lines are
    in NAME.jsonl beside the picture. Several classes make a contact sheet.
    """
    from .. import files
    from ..backend.options import parse
    from ..maps import classmodel
    from ..maps.classes import find
    from ..session import Session

    picture = Path(out)
    if picture.suffix.lower() != ".png":
        raise OptionError(f"{out} is no .png file.", "name the picture so: -o classes.png.")
    if batch < 1:
        raise OptionError(f"batch={batch} is too small.", "give 1 or more.")
    ascent = classmodel.Ascent(**how)
    guard = reading(file, overwrite=overwrite)
    files.prove(_written(picture), guard)
    options = parse(settings)
    session = Session(file, providers, threads, lambda one: classmodel.required(one, file), options)
    note_elsewhere(session)
    contract = session.contract
    # Two names of one class are one picture.
    index = list(dict.fromkeys(find(one, contract) for one in _listed(classes, contract)))
    written = _written(picture, index if separate and len(index) > 1 else ())
    files.prove(written, guard)
    made: list[ClassModel] = []
    with _bar(len(index) * ascent.steps) as report:
        for start in range(0, len(index), batch):
            part = index[start : start + batch]

            def step(_: int, scores: Any, advance: int = len(part)) -> None:
                report(advance, float(scores.mean()))

            made += classmodel.ascend(session, part, ascent, step)
    lines = [json.dumps(_line(one, ascent, contract)) for one in made]
    _save(written, made, lines, guard)
    for line in lines:
        click.echo(line)
    right = sum(one.named == one.index for one in made)
    click.echo(
        f"{len(made)} classes on {session.provider}, {right} of them named so, drawn in {picture}",
        err=True,
    )


def _listed(classes: tuple[str, ...], contract: Contract) -> Iterator[int | str]:
    """Indices and labels; ``3-5`` is 3, 4 and 5 unless it is a label."""
    for text in classes:
        ends = re.fullmatch(r"(\d+)-(\d+)", text)
        if re.fullmatch(r"-?\d+", text):
            yield int(text)
        elif ends is None or text in (contract.labels or ()):
            yield text
        else:
            first, last = int(ends[1]), int(ends[2])
            if first > last:
                raise OptionError(f"--class {text} runs backwards.", f"say {last}-{first}.")
            # The first that does not exist says so; a typing error may ask for billions.
            yield from range(first, min(last, contract.score.classes) + 1)


def _line(one: ClassModel, ascent: Ascent, contract: Contract) -> dict[str, Any]:
    from ..output.lines import number

    labels = contract.labels
    return {
        "class": one.index,
        "label": one.label,
        "score": number(one.score),
        "probability": one.probability,
        "named": one.named,
        "named_label": None if labels is None else labels[one.named],
        "steps_without_gradient": one.blind,
        "options": dataclasses.asdict(ascent),
        "scores": [number(score) for score in one.scores],
    }


def _written(picture: Path, alone: Sequence[int] = ()) -> dict[Path, Mark]:
    """The picture, its lines, and a picture of each class that is drawn alone."""
    from ..drawing.encode import PNG

    parts = [picture.with_name(f"{picture.stem}_{index}.png") for index in alone]
    return {picture: PNG, picture.with_suffix(".jsonl"): _LINES, **dict.fromkeys(parts, PNG)}


def _save(
    written: dict[Path, Mark], made: list[ClassModel], lines: list[str], guard: Guard
) -> None:
    """The picture, its lines, and each class alone if that is asked for: all or nothing."""
    from ..drawing.pictures import class_sheet, save
    from ..files import whole_files

    picture, text, *parts = written
    with whole_files(written, guard) as folder:
        # One alone stays as the classifier takes it, so that it can be given to it again.
        save(folder / picture.name, made[0].picture if len(made) == 1 else class_sheet(made))
        for path, one in zip(parts, made, strict=False):
            save(folder / path.name, one.picture)
        (folder / text.name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


@contextmanager
def _bar(total: int) -> Iterator[Callable[[int, float], None]]:
    """A progress bar with the mean score on stderr, on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda _count, _score: None
        return
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    from .progress import stderr_bar

    text = TextColumn("{task.description}")
    with stderr_bar(BarColumn(), TaskProgressColumn(), text, Remaining()) as bar:
        task = bar.add_task("", total=total)
        yield lambda count, score: bar.update(
            task, advance=count, description=f"mean score {score:.2f}"
        )
