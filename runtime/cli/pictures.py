"""When the pictures of a run are drawn: as its images come, or all at the end on one scale."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import files
from ..arrays import NPY
from ..drawing.encode import MARKS
from ..errors import ImageError, OutputError
from ..output.names import PICTURE, Names

if TYPE_CHECKING:
    from ..drawing.panels import Row
    from ..drawing.pictures import Look
    from ..maps.kind import Kind
    from ..output.run_log import Line, RunLog
    from ..results import Explained, Result, Saliency
    from .image_run import ImageRun
    from .picture_options import Asked

    Rows = Callable[[Explained, Look], list[Row]]


_ON_A_SHEET = 60


class Pictures:
    """The pictures of a run, drawn as its images come, or all at the end on one scale.

    Attributes:
        keep: longest side to which the run must keep images, in pixels; 0: it need not.
        drawn: there will be pictures.
        later: they are drawn at the end, from the maps that the run must save.
        listed: `finish` needs the run's images.
        look: how they look.
    """

    def __init__(self, run: ImageRun, asked: Asked, kinds: Mapping[str, Kind], crops: int) -> None:
        """Plan them.

        Args:
            run: the images and where files go.
            asked: the options.
            kinds: the maps by name, the main one first.
            crops: views of each image.
        """
        self._run, self._asked, self._crops, self._kinds = run, asked, crops, kinds
        self.drawn = run.folder is not None and asked.pictures is not False
        self.later = self.drawn and asked.scale == "run"
        self.listed = self.later or (self.drawn and asked.sheet is not None)
        self.keep = 0
        self._lost: set[str] = set()
        if self.listed and asked.sheet is not None:  # an error now, not at the end
            files.prove({Path(asked.sheet): MARKS[f".{asked.suffix}"]}, run.guard)
        if self.drawn:
            from ..drawing.pictures import LONGEST, Look

            self.keep = 0 if self.later else LONGEST
            own = {name: asked.colormap or kind.colormap for name, kind in kinds.items()}
            fixed = asked.scale if isinstance(asked.scale, float) else None
            tops = {} if fixed is None else dict.fromkeys(kinds, fixed)
            self.look = Look(asked.panels, own, tops, asked.suffix == "svg")

    def check(self, maps: bool) -> None:
        """Before the work, see that nothing is replaced that must stay, as far as names are known.

        Args:
            maps: they are written, too.

        Raises:
            OutputError: a file is in the way.
        """
        guard = self._run.guard
        for stem in self._run.stems():
            if self.drawn:
                guard.check(self._file(stem), MARKS[f".{self._asked.suffix}"])
            for path in self._files(stem) if maps or self.later else ():
                guard.check(path, NPY)

    def save(self, stem: str, explained: Explained, rows: Rows) -> None:
        """Draw the picture of one image, if that is to be done now."""
        if self.keep:
            self._draw(stem, explained, rows, self.look)

    def save_maps(self, stem: str, explained: Explained) -> None:
        """Write the maps of one image."""
        from ..output.arrays import save_maps

        for (title, result), path in zip(explained.items(), self._files(stem), strict=True):
            if result.value is None:
                raise ValueError(f"{stem} has no map {title}")
            save_maps(path, result.value.maps, self._run.guard)

    def finish(self, entries: Callable[[], Iterable[tuple[str, Line]]], rows: Rows) -> None:
        """Draw what is to be drawn at the end: all images on one scale, and the sheet of them.

        Args:
            entries: name and line of each image of the run, as often as it is called.
            rows: what a picture shows.
        """
        if self.later:
            self._draw_all(entries, rows)
        if self.listed and self._asked.sheet is not None:
            from ..drawing.pictures import save_sheet

            drawn = (stem for stem, _ in _good(entries()) if stem not in self._lost)
            first = [self._file(stem) for stem in itertools.islice(drawn, _ON_A_SHEET)]
            save_sheet(Path(self._asked.sheet), first, self._run.guard)

    def _draw_all(self, entries: Callable[[], Iterable[tuple[str, Line]]], rows: Rows) -> None:
        from .. import pipeline

        def peaks(entry: tuple[str, Line]) -> list[float]:
            from ..drawing.panels import peak

            return [max(map(peak, _load(path))) for path in self._files(entry[0])]

        def draw(entry: tuple[str, Line]) -> tuple[str, ImageError | None]:
            try:
                self._draw(entry[0], self._again(*entry), rows, look)
            except ImageError as error:  # the image has gone, or changed
                return entry[0], error
            return entry[0], None

        with closing(pipeline.after(_good(entries()), peaks)) as found:
            least = [0.0] * len(self._kinds)
            tops = functools.reduce(lambda one, other: [*map(max, one, other)], found, least)
        look = dataclasses.replace(self.look, tops=dict(zip(self._kinds, tops, strict=True)))
        with closing(pipeline.after(_good(entries()), draw)) as done:
            for stem, error in done:
                if error is not None:
                    self._lost.add(stem)
                    self._run.lost(error)

    def _draw(self, stem: str, explained: Explained, rows: Rows, look: Look) -> None:
        from ..drawing.pictures import save_rows

        save_rows(self._file(stem), rows(explained, look), self._run.guard)

    def _file(self, stem: str) -> Path:
        return (self._run.folder or Path()) / f"{stem}{PICTURE}.{self._asked.suffix}"

    def _files(self, stem: str) -> list[Path]:
        """NAME.npy for the main map, NAME.KIND.npy for others."""
        folder = self._run.folder or Path()
        others = [f"{stem}.{title}.npy" for title in [*self._kinds][1:]]
        return [folder / f"{stem}.npy", *(folder / name for name in others)]

    def _again(self, stem: str, line: Line) -> Explained:
        """What the run found out about an image, from its line and its files."""
        import numpy as np

        from ..drawing.pictures import LONGEST
        from ..images.bands import load_for, seen
        from ..images.prepare import prepare, shrink
        from ..images.reading import image_errors
        from ..results import Result, Saliency

        spec, size = self._run.session.contract.image, [line["width"], line["height"]]
        with image_errors(line["image"]):
            pixels = load_for(line["image"], spec.channels)
            prepared = prepare(pixels, spec, self._crops)
            picture = shrink(seen(pixels), LONGEST)
        if size != [prepared.width, prepared.height]:
            raise ImageError(f"{line['image']} has changed during the run.", "run again.")
        rows = line.get("results")
        classes = [row["class"] for row in rows] if rows is not None else line["classes"]
        scores = [row["score"] for row in rows] if rows is not None else line["scores"]
        labels = self._run.session.contract.labels

        def result(name: str, path: Path) -> Result[Saliency]:
            value = Saliency(
                image=line["image"],
                width=prepared.width,
                height=prepared.height,
                classes=np.array(classes, np.int64),
                labels=None if labels is None else tuple(labels[index] for index in classes),
                scores=np.array(scores, np.float32),
                maps=_load(path),
                map=name,
                prepared=prepared,
            )
            return Result(0, line["image"], value, None, prepared, picture)

        paths = zip(self._kinds, self._files(stem), strict=True)
        return {name: result(name, path) for name, path in paths}


def _good(entries: Iterable[tuple[str, Line]]) -> Iterator[tuple[str, Line]]:
    return (entry for entry in entries if "error" not in entry[1])


def _load(path: Path) -> Any:
    import numpy as np

    try:
        return np.load(path)
    except (OSError, ValueError) as error:
        raise OutputError(
            f"the map {path} cannot be read: {error}.",
            "run again without --resume, into an empty folder.",
        ) from error


def lockstep(
    flows: Sequence[Generator[Result[Saliency] | None, None, None]],
) -> Generator[tuple[Result[Saliency], ...] | None, None, None]:
    """The results of each image, one of each flow; at a pause all of them yield None."""
    with ExitStack() as stack:
        for flow in flows:
            stack.enter_context(closing(flow))
        for results in zip(*flows, strict=True):
            ready = tuple(one for one in results if one is not None)
            yield ready or None


def named(log: RunLog, numbered: bool) -> Iterator[tuple[str, Line]]:
    """The names of the images' files and the lines of a log."""
    names = Names(numbered)
    for line in log.lines():
        yield names.take(line["image"]), line
