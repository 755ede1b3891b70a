"""Many images through a session with bounded memory: decode -> batch -> run -> boxes.

Images are decoded ahead and boxes are cut behind in threads, because Pillow and OpenCV release the
interpreter's lock; results come in the order of the images. An image that fails yields its error
and never loses the others.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from . import crops as crops_module
from . import image as image_module
from .errors import BacklitError, ImageError, OptionError
from .image import Prepared, Source
from .saliency import Saliency

if TYPE_CHECKING:
    from .localize import Localization, Recipe
    from .session import Session

Value = TypeVar("Value")
Item = TypeVar("Item")
Made = TypeVar("Made")
Pixels = npt.NDArray[np.uint8]


@dataclasses.dataclass(frozen=True, eq=False)
class Result(Generic[Value]):
    """What became of one image: a value, or the error that its pixels or path caused.

    Attributes:
        index: position among the images given.
        image: its path, or None if it was given as pixels.
        value: the result; None after an error.
        error: why there is none.
        prepared: the frame that the maps belong to; None after an error.
        picture: uint8 [h,w,3], the decoded image or a reduced one, where it was asked for.
    """

    index: int
    image: str | None
    value: Value | None
    error: BacklitError | None = None
    prepared: Prepared | None = None
    picture: Pixels | None = None


def saliency_results(
    session: Session,
    sources: Iterable[Source],
    class_index: npt.NDArray[np.int64],
    crops: int = 1,
    batch: int | None = None,
    *,
    keep: int = 0,
    workers: int | None = None,
) -> Generator[Result[Saliency], None, None]:
    """Saliency maps of many images, in order.

    Args:
        session: an open file.
        sources: the images; read lazily.
        class_index: int64 [1,K] for all images, or [N,K]; from ``saliency.resolve``.
        crops: views whose maps are averaged: 1, 2 or 10.
        batch: views per run; None: 4 on a CPU, 16 on a GPU, fewer with more than 8 classes.
        keep: keep each decoded image, reduced to this longest side in pixels; 0 keeps none.
        workers: decoding threads; None: one per processor, 4 at most.

    Raises:
        OptionError: crops or batch is impossible.
        ModelError: ONNX Runtime fails.
    """
    crops_module.check(crops)
    views = _batch(session, batch, class_index.shape[1])
    threads = _workers(workers)
    return _saliency(session, sources, class_index, crops, views, keep, threads)


def localize_results(
    session: Session,
    sources: Iterable[Source],
    class_index: npt.NDArray[np.int64],
    recipe: Recipe,
    crops: int | None = None,
    batch: int | None = None,
    *,
    workers: int | None = None,
) -> Generator[Result[Localization], None, None]:
    """Boxes and masks of many images, in order; arguments as in ``saliency_results``."""
    views = crops_module.check(recipe.crops if crops is None else crops)
    maps = saliency_results(session, sources, class_index, views, batch, workers=workers)
    return after(maps, lambda result: boxes(result, recipe), workers)


def boxes(result: Result[Saliency], recipe: Recipe) -> Result[Localization]:
    """The objects of one image from its saliency maps, in pixels of the original image."""
    from .localize import Localization, localize_maps

    found = result.value
    if found is None:
        return Result(result.index, result.image, None, result.error)
    prepared, classes = found.prepared, found.classes
    objects = localize_maps(prepared.frame, found.maps, recipe)
    value = Localization(
        image=found.image,
        width=found.width,
        height=found.height,
        classes=classes,
        labels=(None,) * len(classes) if found.labels is None else found.labels,
        scores=found.scores,
        boxes=tuple(None if box is None else prepared.box_to_original(box) for box, _ in objects),
        masks=np.stack([prepared.mask_to_original(mask) for _, mask in objects]),
        saliency=found.maps,
        recipe=recipe.name,
    )
    return Result(result.index, result.image, value, None, prepared, result.picture)


def after(
    results: Iterable[Item],
    function: Callable[[Item], Made],
    workers: int | None = None,
) -> Generator[Made, None, None]:
    """``function`` of each result, in threads and in order, a bounded number ahead.

    OpenCV runs on one thread meanwhile: one image per thread is faster than all threads in one.
    """
    threads = _workers(workers)
    # Whoever wants OpenCV has imported it by now; plain saliency maps do without its 0.2 s.
    cv2 = sys.modules.get("cv2")
    before = cv2.getNumThreads() if cv2 else 0
    if cv2:
        cv2.setNumThreads(1)
    try:
        with ThreadPoolExecutor(threads, thread_name_prefix="backlit-after") as pool:
            yield from _ahead(pool, function, results, threads + 1)
    finally:
        if cv2:
            cv2.setNumThreads(before)


def _saliency(
    session: Session,
    sources: Iterable[Source],
    class_index: npt.NDArray[np.int64],
    crops: int,
    batch: int,
    keep: int,
    workers: int,
) -> Generator[Result[Saliency], None, None]:
    spec = session.contract.image

    def decode(numbered: tuple[int, Source]) -> Result[Saliency]:
        index, source = numbered
        name = os.fspath(source) if isinstance(source, str | os.PathLike) else None
        try:
            pixels = image_module.load(source)
            prepared = image_module.prepare(pixels, spec, crops)
        except ImageError as error:
            return Result(index, name, None, error)
        picture = image_module.shrink(pixels, keep) if keep else None
        return Result(index, name, None, None, prepared, picture)

    images = max(1, batch // crops)
    with ThreadPoolExecutor(workers, thread_name_prefix="backlit-decode") as pool:
        group: list[Result[Saliency]] = []
        decoded = _ahead(pool, decode, enumerate(sources), images + workers)
        with contextlib.closing(decoded):
            for result in decoded:
                group.append(result)
                if sum(one.prepared is not None for one in group) == images:
                    yield from _explain_group(session, group, class_index, batch)
                    group = []
            yield from _explain_group(session, group, class_index, batch)


def _explain_group(
    session: Session,
    group: list[Result[Saliency]],
    class_index: npt.NDArray[np.int64],
    batch: int,
) -> Iterator[Result[Saliency]]:
    ready = [(one.index, one.prepared) for one in group if one.prepared is not None]
    rows = [index if len(class_index) > 1 else 0 for index, _ in ready]
    images = [prepared for _, prepared in ready]
    explained = iter(explain(session, images, class_index[rows], batch) if ready else ())
    labels = session.contract.labels
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
            prepared=prepared,
        )
        yield dataclasses.replace(result, value=value)


def explain(
    session: Session, images: list[Prepared], index: npt.NDArray[np.int64], batch: int
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    """Classes, scores and averaged maps of some images with the same number V of views.

    Args:
        session: an open file.
        images: N prepared images.
        index: int64 [N,K] class indices or (negative) ranks, of the scores averaged over views.
        batch: views per run.

    Returns:
        Per image int64 [K], float32 [K] (mean over the views) and float32 [K,fh,fw].
    """
    views = np.concatenate([image.views for image in images])
    count = len(images[0].views)
    # The views may rank the classes differently; what counts is the rank of their mean score. One
    # class is enough to get the scores, and with one class the views mostly agree already.
    ranked = count > 1 and bool((index < 0).any())
    first = np.repeat(index[:, :1] if ranked else index, count, axis=0)
    scores, classes, maps = _run(session, views, first, batch)
    mean = scores.reshape(len(images), count, -1).astype(np.float64).mean(axis=1)
    target = classes
    if ranked:
        order = np.argsort(-mean, axis=1, kind="stable")
        by_rank = np.take_along_axis(order, np.maximum(-1 - index, 0), axis=1)
        target = np.repeat(np.where(index < 0, by_rank, index), count, axis=0)
        if index.shape[1] > 1:
            maps = _run(session, views, target, batch)[2]
        elif (again := np.flatnonzero(classes[:, 0] != target[:, 0])).size:
            maps[again] = _run(session, views[again], target[again], batch)[2]
    found = []
    for row, image in enumerate(images):
        own = maps[row * count : (row + 1) * count]
        height, width = image.frame.shape[:2]
        averaged = [crops_module.assemble(own[:, k], height, width) for k in range(own.shape[1])]
        chosen = target[row * count].astype(np.int64)
        found.append((chosen, mean[row, chosen].astype(np.float32), np.stack(averaged)))
    return found


def _run(
    session: Session, views: Pixels, index: npt.NDArray[np.int64], batch: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    parts = [
        session.run(views[start : start + batch], index[start : start + batch])
        for start in range(0, len(views), batch)
    ]
    return (
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.classes for part in parts]),
        np.concatenate([part.saliency for part in parts]),
    )


def _ahead(
    pool: ThreadPoolExecutor,
    function: Callable[[Item], Made],
    items: Iterable[Item],
    window: int,
) -> Generator[Made, None, None]:
    """``function`` of each item, in order, with at most ``window`` items begun or waiting."""
    waiting: deque[Future[Made]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= window:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
        if isinstance(items, Generator):
            items.close()  # an earlier stage, which has threads of its own


def _batch(session: Session, batch: int | None, classes: int) -> int:
    """Views per run. Every class has its own backward pass, so its memory counts like a view's."""
    if batch is None:
        views = 4 if session.provider in ("cpu", "openvino") else 16
        return max(1, min(views, 8 * views // classes))
    if batch < 1:
        raise OptionError(f"batch={batch} is too small.", "give 1 or more.")
    return batch


def _workers(workers: int | None) -> int:
    if workers is not None:
        return max(1, workers)
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(4, usable or 1)
