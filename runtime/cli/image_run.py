"""What the commands that run a file on images share: options, images, names, lines, progress."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .. import files
from ..errors import BacklitError, OptionError
from ..guard import Guard, Identity, identity
from ..locks import alone
from ..output.names import Names
from .group import show_error
from .overwrite import overwrite_option
from .progress import progress

if TYPE_CHECKING:
    from ..backend.file import Maps
    from ..output.run_log import Line, RunLog
    from ..session import Session
    from ..stages import Pause

    Outcome = tuple[str | None, BacklitError | None, Line]

Function = TypeVar("Function", bound=Callable[..., Any])

provider_option = click.option(
    "--provider-option",
    "settings",
    multiple=True,
    metavar="PROVIDER.KEY=VALUE",
    help="Option of an execution provider over Backlit's own, such as cuda.use_tf32=0; repeat for "
    "more.",
)
"""``--provider-option``; the command takes ``settings``, the texts."""

_OPTIONS = [
    click.argument("file", type=click.Path()),
    click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path()),
    click.option(
        "--class",
        "classes",
        multiple=True,
        metavar="INDEX|LABEL",
        help="Class to explain; repeat for more. -1 is the top-scoring class, -2 the second.",
    ),
    click.option("--top", type=int, help="Explain the K best classes of each image.  [default: 1]"),
    click.option("--providers", help="Execution providers that must load, such as cuda,cpu."),
    provider_option,
    click.option(
        "--threads",
        type=int,
        help="Threads within an operator on the CPU; as many images are in the network at once as "
        "leaves a core for each.  [default: 1; all for one image]",
    ),
    click.option(
        "--batch",
        type=click.IntRange(min=1),
        help="Views per run.  [default: 4 on a CPU, 32 on a GPU]",
    ),
    overwrite_option,
]


def common(function: Function) -> Function:
    """The options of both commands."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def crops_option(default: str) -> Callable[[Function], Function]:
    """``--crops``."""
    return click.option(
        "--crops",
        type=click.Choice(["1", "2", "10"]),
        help=f"Views whose maps are averaged: the image, with its mirror image, or the paper's "
        f"ten crops.  [default: {default}]",
    )


class ImageRun:
    """One run of a command on images: folder, session, classes, and the lines at the end.

    Attributes:
        folder: where files go; None: nowhere.
        session: the open file.
        class_index: int64 [1,K].
        runs: batches in the network at once.
        numbered: the images' files have numbers for names, because a list on stdin may be endless.
        guard: what the run must not replace.
    """

    def __init__(
        self,
        ctx: click.Context,
        out: str | None,
        file: str,
        images: tuple[str, ...],
        classes: tuple[str, ...],
        top: int | None,
        providers: str | None,
        threads: int | None,
        batch: int | None,
        settings: tuple[str, ...] = (),
        maps: Maps = None,
        overwrite: bool = False,
        beside: Sequence[Path] = (),
    ) -> None:
        if classes and top is not None:
            raise OptionError("--class and --top contradict each other.", "give one of them.")
        # What Pillow thinks of a file's headers is no news: it reads the image or it does not.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        from ..backend.options import parse
        from ..backend.plan import plan
        from ..images.listing import Inputs
        from ..maps.classes import resolve
        from ..session import Session

        options = parse(settings)
        self._ctx, self.batch = ctx, batch
        self._inputs = Inputs(images)
        self.numbered = self._inputs.streamed
        self._read: set[Identity] = set()
        self.guard = Guard(self._read, overwrite)
        self.folder = None if out is None else files.folder(out)
        if self.folder is not None:
            ctx.with_resource(alone(self.folder))
            self._places = {os.path.realpath(place) for place in (self.folder, *beside)}
            self._note(file, *(() if self.numbered else self._listed()))
        threads, self.runs = plan(providers, threads, self._inputs.total)
        self.session: Session = Session(file, providers, threads, maps, options)
        note_elsewhere(self.session)
        wanted = [int(text) if re.fullmatch(r"-?\d+", text) else text for text in classes]
        self.class_index = resolve(wanted or None, 1 if top is None else top, self.session.contract)
        self._names: dict[int, str] = {}
        self._images = self._named()
        self._log: RunLog | None = None
        self._before = self._done = self._failed = 0

    @contextmanager
    def logged(self, log: RunLog) -> Iterator[RunLog]:
        """Write the lines into a log, after those that it has."""
        with log:
            log.skip(self._images)
            self._names.clear()
            self._log, self._before, self._done, self._failed = log, log.done, log.done, log.failed
            with can_resume():
                yield log

    def stems(self) -> Iterator[str]:
        """The names for the files of all images, where they are known before the run."""
        if self.folder is not None and not self.numbered:
            names = Names()
            yield from map(names.take, self._listed())

    def sources(self) -> Iterator[str | Pause]:
        """The images that are not done yet."""
        return self._images

    def name(self, index: int) -> str:
        """The name for the files of that result's image, asked for once; empty without a folder."""
        return self._names.pop(self._before + index, "")

    def lines(self, outcomes: Iterator[Outcome]) -> Iterator[Line]:
        """The lines of the images, with the errors shown and counted; in the log they are first."""
        with progress(self._inputs.total, self._before, lines=True) as (step, show):
            for image, error, line in outcomes:
                if error is not None:
                    self._failed += 1
                    line = {"image": image, "error": error.problem}
                    show(error)
                if self._log is not None:
                    self._log.add(line)
                self._done += 1
                yield line
                step()

    def lost(self, error: BacklitError) -> None:
        """Count an image whose line is there, but of which something else is missing."""
        self._failed += 1
        show_error(error)

    def finish(self) -> None:
        """Say how many images were done, and end with exit code 1 if one failed."""
        where = "" if self.folder is None else f", results in {self.folder}"
        before = f" ({self._before} were done before)" if self._before else ""
        good = self._done - self._failed
        click.echo(
            f"{good} of {self._done} images on {self.session.provider}{before}{where}", err=True
        )
        if self._failed:
            self._ctx.exit(1)

    def _named(self) -> Generator[str | Pause, None, None]:
        """The images; their files' names are put aside, one for each that is under way."""
        from ..stages import Pause

        names, number = Names(self.numbered), 0
        for image in self._inputs:
            if self.folder is not None and not isinstance(image, Pause):
                self._names[number] = names.take(image)
                number += 1
                if self.numbered and self._beside(image):
                    self._note(image)
            yield image

    def _listed(self) -> Iterator[str]:
        from ..stages import Pause

        return (image for image in self._inputs if not isinstance(image, Pause))

    def _note(self, *paths: str) -> None:
        """Keep in mind that files are read."""
        self._read.update(one for one in map(identity, paths) if one is not None)

    def _beside(self, image: str) -> bool:
        """Whether an image is where files of the run go: an endless list is not kept whole."""
        where = os.path.realpath(image)
        return any(where.startswith(f"{place}{os.sep}") for place in self._places)


@contextmanager
def can_resume() -> Iterator[None]:
    """Say how to go on where somebody stops the run by ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo("the same command with --resume goes on from here", err=True)
        raise


def need_folder(out: str | None, asked: dict[str, bool | None]) -> None:
    """Refuse options that write files where no folder is given.

    Args:
        out: the folder.
        asked: option -> whether it was given.

    Raises:
        OptionError: one was, and there is no folder.
    """
    for option, wanted in asked.items():
        if wanted and out is None:
            raise OptionError(f"{option} writes files.", "say where to: -o FOLDER.")


def note_elsewhere(session: Session) -> None:
    """Say on stderr which nodes a GPU provider left to the CPU."""
    if session.elsewhere:
        from ..backend.placement import summary

        click.echo(f"note: {summary(session.elsewhere, session.provider)}", err=True)


def print_line(line: Line) -> None:
    """A line of data on stdout."""
    click.echo(json.dumps(line))
