"""The first step of the pipeline: images into prepared pixels, each or its error."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor

from .contract import ImageInput
from .errors import ImageError
from .images import prepare as preparing
from .images.bands import load_for, seen
from .images.load import Frame, Source, describe, fetched, name_of
from .images.reading import image_errors
from .results import Result, Saliency
from .stages import Pause, ahead


def decoded(
    sources: Iterable[Source | Pause],
    spec: ImageInput,
    crops: int,
    keep: int,
    workers: int,
    window: int,
) -> Generator[Result[Saliency] | None, None, None]:
    """Results without a value yet: the prepared images, and the errors of those that are none.

    Args:
        sources: the images; at a ``PAUSE`` all before it are finished, and then None is yielded.
        spec: the file's input.
        crops: views of each image.
        keep: keep each decoded image, reduced to this longest side in pixels; 0 keeps none.
        workers: threads.
        window: images begun or waiting.
    """

    def decode(numbered: tuple[int, Source]) -> Result[Saliency]:
        return decoded_one(*numbered, spec, crops, keep)

    with ThreadPoolExecutor(workers, thread_name_prefix="backlit-decode") as pool:
        yield from ahead(pool, decode, _numbered(sources), window)


def decoded_one(
    index: int, source: Source, spec: ImageInput, crops: int, keep: int = 0
) -> Result[Saliency]:
    """An image decoded and cut for the network, or the error of one that cannot be read.

    Args:
        index: its position among the images given.
        source: the image.
        spec: the file's input.
        crops: views, 1, 2 or 10.
        keep: as in ``decoded``.
    """
    name, number = name_of(source), source.number if isinstance(source, Frame) else None
    try:
        with image_errors(describe(source)):
            source = fetched(source)  # once: pictures are drawn from what came
            pixels = load_for(source, spec.channels)
            prepared = preparing.prepare(pixels, spec, crops)
            picture = preparing.shrink(seen(pixels), keep) if keep else None
    except ImageError as error:
        return Result(index, name, None, error, video_frame=number)
    if isinstance(source, str | os.PathLike):
        source = os.path.abspath(source)  # found again from another folder, too
    return Result(index, name, None, None, prepared, picture, number, source)


def _numbered(
    sources: Iterable[Source | Pause],
) -> Generator[tuple[int, Source] | None, None, None]:
    index = 0
    for source in sources:
        if isinstance(source, Pause):
            yield None
            continue
        yield index, source
        index += 1
