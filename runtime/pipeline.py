"""Many images through an open file with bounded memory: decode -> batch -> run -> boxes.

Every step has threads of its own, as many as the machine has cores, because Pillow, ONNX Runtime
and OpenCV release the interpreter's lock: whichever step is the slowest gets the cores. Between
two steps a bounded number of images waits; results come in the order of the images. An image that
fails yields its error and never loses the others.
"""

from __future__ import annotations

import contextlib
import dataclasses
import queue
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from .arrays import Index
from .backend.providers.table import PROVIDERS
from .decoding import decoded
from .errors import OptionError
from .images import crops as crops_module
from .images.load import Source
from .located import boxes
from .maps.explain import explain
from .maps.kind import Kind
from .maps.kinds import AnyKind, get_kind
from .results import Result, Saliency
from .stages import Pause, ahead, given, one_opencv_thread, threads

if TYPE_CHECKING:
    from .backend.runner import Runner
    from .boxes.recipes import Recipe
    from .results import Localization

Value = TypeVar("Value")
Item = TypeVar("Item")
Made = TypeVar("Made")


def saliency_results(
    runner: Runner,
    sources: Iterable[Source],
    class_index: Index,
    crops: int = 1,
    batch: int | None = None,
    *,
    keep: int = 0,
    workers: int | None = None,
    runs: int = 1,
    map: AnyKind = "saliency",  # noqa: A002  the option's name
) -> Generator[Result[Saliency], None, None]:
    """Maps of many images, in order.

    Args:
        runner: an open file.
        sources: the images; read lazily.
        class_index: int64 [1,K] for all images, or [N,K]; from ``maps.classes.resolve``.
        crops: views whose maps are averaged: 1, 2 or 10.
        batch: views per run; None: 4 on a CPU, 32 on a GPU, fewer with more than 8 classes.
        keep: keep each decoded image, reduced to this longest side in pixels; 0 keeps none.
        workers: decoding threads; None: one per core, 16 at most.
        runs: batches in the network at once; pays on a CPU, see ``stages.plan``.
        map: which kind of map.

    Raises:
        OptionError: crops or batch is impossible, or the file has no such map.
        ModelError: ONNX Runtime fails.
    """
    flow = saliency_flow(
        runner, sources, class_index, crops, batch,
        keep=keep, workers=workers, runs=runs, map=map,
    )  # fmt: skip
    return given(flow)


def saliency_flow(
    runner: Runner,
    sources: Iterable[Source | Pause],
    class_index: Index,
    crops: int = 1,
    batch: int | None = None,
    *,
    keep: int = 0,
    workers: int | None = None,
    runs: int = 1,
    map: AnyKind = "saliency",  # noqa: A002  the option's name
) -> Generator[Result[Saliency] | None, None, None]:
    """``saliency_results`` of images that arrive slowly.

    A ``PAUSE`` among the sources says that none is ready now: all images before it are finished, in
    a smaller batch, and then None is yielded.
    """
    crops_module.check(crops)
    views = views_per_run(runner, batch, class_index.shape[1])
    images, decoding = max(1, views // crops), threads(workers)
    prepared = decoded(sources, runner.contract.image, crops, keep, decoding, images + decoding)
    return _saliency(runner, prepared, class_index, images, views, max(1, runs), get_kind(map))


def localize_results(
    runner: Runner,
    sources: Iterable[Source],
    class_index: Index,
    recipe: Recipe,
    crops: int | None = None,
    batch: int | None = None,
    *,
    workers: int | None = None,
    runs: int = 1,
) -> Generator[Result[Localization], None, None]:
    """Boxes and masks of many images, in order; arguments as in ``saliency_results``."""
    views = crops_module.check(recipe.crops if crops is None else crops)
    maps = saliency_results(
        runner, sources, class_index, views, batch,
        workers=workers, runs=runs, map=recipe.map,
    )  # fmt: skip
    return after(maps, lambda result: boxes(result, recipe), workers)


def after(
    results: Iterable[Item | None],
    function: Callable[[Item], Made],
    workers: int | None = None,
) -> Generator[Made, None, None]:
    """``function`` of each result, in threads and in order, a bounded number ahead.

    Args:
        results: of a step before; at a None those under way are finished first.
        function: of a result.
        workers: threads; None: one per core, 16 at most. OpenCV runs on one thread meanwhile.
    """
    with (
        one_opencv_thread(),
        ThreadPoolExecutor(count := threads(workers), thread_name_prefix="backlit-after") as pool,
    ):
        # Two for each thread: one under way, and one to begin while the step before is waited for.
        yield from given(ahead(pool, function, results, 2 * count))


def _saliency(
    runner: Runner,
    decoded: Generator[Result[Saliency] | None, None, None],
    class_index: Index,
    images: int,
    batch: int,
    runs: int,
    kind: Kind,
) -> Generator[Result[Saliency] | None, None, None]:
    runners: queue.SimpleQueue[Runner] = queue.SimpleQueue()
    for number in range(runs):
        runners.put(runner.sibling() if number else runner)

    def run(group: list[Result[Saliency]]) -> list[Result[Saliency]]:
        own = runners.get()
        try:
            return list(explained_group(own, group, class_index, batch, kind))
        finally:
            runners.put(own)

    with ThreadPoolExecutor(runs, thread_name_prefix="backlit-run") as pool:
        # One more than run, so that the network never waits for whoever takes the results.
        groups = ahead(pool, run, _groups(decoded, images), runs + 1)
        with contextlib.closing(groups):
            for group in groups:
                if group is None:
                    yield None
                else:
                    yield from group


def _groups(
    decoded: Generator[Result[Saliency] | None, None, None], images: int
) -> Generator[list[Result[Saliency]] | None, None, None]:
    """Results with so many images that were decoded, and the errors between them."""
    group: list[Result[Saliency]] = []
    with contextlib.closing(decoded):
        for result in decoded:
            if result is not None:
                group.append(result)
            ready = sum(one.prepared is not None for one in group)
            # A list of nothing but bad images must not wait for good ones.
            if result is None or ready == images or len(group) == 4 * images:
                yield group
                group = []
            if result is None:
                yield None
    yield group


def explained_group(
    runner: Runner,
    group: list[Result[Saliency]],
    class_index: Index,
    batch: int,
    kind: Kind,
) -> Iterator[Result[Saliency]]:
    """A batch of decoded images with their maps; an error among them stays that error.

    Args:
        runner: an open file.
        group: of ``decoded_one``.
        class_index: int64 [1,K] for all, or [N,K] with a row for each result's ``index``.
        batch: views per run.
        kind: of map.
    """
    ready = [(one.index, one.prepared) for one in group if one.prepared is not None]
    rows = [index if len(class_index) > 1 else 0 for index, _ in ready]
    images = [prepared for _, prepared in ready]
    explained = iter(explain(runner, images, class_index[rows], batch, kind) if ready else ())
    labels = runner.contract.labels
    for result in group:
        prepared = result.prepared
        if prepared is None:
            yield result
            continue
        classes, scores, maps = next(explained)
        value = Saliency(
            image=result.image,
            width=prepared.width,
            height=prepared.height,
            classes=classes,
            labels=None if labels is None else tuple(labels[index] for index in classes),
            scores=scores,
            maps=maps,
            map=kind.name,
            prepared=prepared,
            video_frame=result.video_frame,
            source=result.source,
        )
        yield dataclasses.replace(result, value=value)


def views_per_run(runner: Runner, batch: int | None, classes: int) -> int:
    """Views per run, as asked for or chosen for so many classes of each.

    Every class has its own backward pass, so its memory counts like a view's.

    Raises:
        OptionError: fewer than one.
    """
    if batch is None:
        views = PROVIDERS[runner.provider].views
        return max(1, min(views, 8 * views // classes))
    if batch < 1:
        raise OptionError(f"batch={batch} is too small.", "give 1 or more.")
    return batch
