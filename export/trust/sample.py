"""A sample of images, drawn by seed from whatever a command line names, with boxes where known."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ...runtime.arrays import Pixels
from ...runtime.contract import Contract
from ...runtime.errors import BacklitError, DatasetError, ImageError, OptionError
from ...runtime.evaluation import datasets
from ...runtime.evaluation.datasets import Box
from ...runtime.images.listing import Inputs
from ...runtime.images.load import load
from ...runtime.images.prepare import Prepared, prepare, shrink

PICTURE_SIDE = 160
"""Longer side in pixels of the picture that is kept of each image."""


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """One image, ready to run.

    Attributes:
        name: of the image.
        prepared: one view, and the way back to the image's own pixels.
        picture: uint8 [h,w,3], the image itself, reduced.
        size: (width, height) in pixels in which the boxes are given.
        boxes: true boxes by class; empty where nobody said.
        members: by such a class, those of the classifier that are right for it.
    """

    name: str
    prepared: Prepared
    picture: Pixels
    size: tuple[int, int]
    boxes: Mapping[int, tuple[Box, ...]]
    members: Mapping[int, tuple[int, ...]]

    @property
    def view(self) -> Pixels:
        """uint8 [H,W,C], what the file is shown."""
        view: Pixels = self.prepared.views[0]
        return view


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Images drawn.

    Attributes:
        samples: in the order in which they are named.
        total: how many there were to draw from.
        sources: what they come from: folders, files, data sets.
        notes: sentences on what was left out, and images that cannot be read.
    """

    samples: tuple[Sample, ...]
    total: int
    sources: tuple[str, ...]
    notes: tuple[str, ...]

    def views(self) -> Pixels:
        """All views, uint8 [N,H,W,C]."""
        return np.stack([one.view for one in self.samples])


@dataclasses.dataclass(frozen=True)
class _Found:
    name: str
    path: str
    size: tuple[int, int] | None = None
    boxes: Mapping[int, tuple[Box, ...]] = dataclasses.field(default_factory=dict)
    members: Mapping[int, tuple[int, ...]] = dataclasses.field(default_factory=dict)


def draw(arguments: Sequence[str], contract: Contract, count: int, seed: int = 0) -> Sampling:
    """Draw images without replacement; the same arguments and seed, the same images.

    Args:
        arguments: images, folders of images, and data sets in the formats of `datasets.read`, which
            bring boxes.
        contract: of the file that will be run.
        count: how many; all, if there are fewer.
        seed: of the draw.

    Raises:
        OptionError: count is not positive, nothing was named, or a folder holds no images.
        DatasetError: a folder is neither a data set nor holds images.
        ImageError: not one of those drawn can be read.
    """
    if count < 1 or seed < 0:
        raise OptionError(
            f"samples={count}, seed={seed}: there is no such sample.",
            "give 1 or more samples, and a seed of 0 or more.",
        )
    found: list[_Found] = []
    sources, notes = [], []
    for argument in arguments:
        some, source, more = _listed(argument, contract)
        found.extend(some)
        sources.append(source)
        notes.extend(more)
    if not found:
        raise OptionError("no images were named.", "name some, as in --images photos.")
    chosen = np.sort(np.random.default_rng(seed).permutation(len(found))[:count])
    samples = []
    for one in (found[place] for place in chosen):
        try:
            samples.append(_read(one, contract))
        except ImageError as error:
            notes.append(f"{one.name} was left out: {error.problem}")
    if not samples:
        raise ImageError(f"not one image can be read; {notes[-1]}", "give sound images.")
    return Sampling(tuple(samples), len(found), tuple(sources), tuple(notes))


def _listed(argument: str, contract: Contract) -> tuple[list[_Found], str, list[str]]:
    """The images of one argument, what it is called, and notes on it."""
    path = Path(argument)
    pictures: Inputs | None = None
    if not path.is_dir() and path.suffix.lower() not in (".csv", ".json", ".txt"):
        return [_Found(path.name, argument)], argument, []
    try:
        dataset = datasets.read(argument, contract.labels, contract.score.classes)
    except DatasetError as error:
        # A folder of pictures is no data set; a damaged data set is not to pass for one.
        try:
            pictures = Inputs([argument])
        except BacklitError:
            raise error from None
        if not path.is_dir():
            raise
        names = [str(name) for name in pictures]
        note = f"without boxes: {error.problem}"
        return [_Found(os.path.basename(name), name) for name in names], argument, [note]
    found = [
        _Found(
            one.name, str(one.path), one.size, one.boxes,
            {index: dataset.members(index) for index in one.boxes},
        )
        for one in dataset.examples
    ]  # fmt: skip
    return found, f"{dataset.name} ({path.name})", list(dataset.notes)


def _read(found: _Found, contract: Contract) -> Sample:
    pixels = load(found.path)
    boxes = {index: given for index, given in found.boxes.items() if given}
    return Sample(
        name=found.name,
        prepared=prepare(pixels, contract.image),
        picture=shrink(pixels, PICTURE_SIDE),
        size=found.size or (pixels.shape[1], pixels.shape[0]),
        boxes=boxes,
        members={index: found.members[index] for index in boxes},
    )
