"""What the metadata says of images and classes: what the options ask for, else the source says."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..runtime import contract as schema
from ..runtime.contract import ImageInput, Normalisation
from ..runtime.errors import ModelError, OptionError
from ..runtime.text import UNSEEN, one_line
from .options import ExportOptions
from .sources.classifier import Preprocessing


def image_input(dims: tuple[int, ...], asked: ExportOptions, says: Preprocessing) -> ImageInput:
    """The images that the file takes, of [channels, height, width]: as asked, else as said.

    Raises:
        ModelError: they are too large.
    """
    channels, height, width = dims
    if max(dims) > schema.MOST_SIDE or channels * height * width > schema.MOST_VALUES:
        raise ModelError(
            f"the model takes images of {channels} x {height} x {width}, which are too large.",
            "give --size, or make the model for smaller ones.",
        )
    return ImageInput(
        dtype=asked.input,
        layout="NHWC" if asked.input == "uint8" else "NCHW",
        channels=channels,
        height=height,
        width=width,
        colour=_colour(channels, asked.bgr or says.bgr),
        resize=asked.resize,
        crop_fraction=says.crop_fraction or 0.875,
        interpolation=says.interpolation or "bilinear",
    )


def _colour(channels: int, bgr: bool) -> schema.Colour:
    if channels == 3:
        return "BGR" if bgr else "RGB"
    return "grey" if channels == 1 else "bands"


def normalisation_of(channels: int, asked: ExportOptions, says: Preprocessing) -> Normalisation:
    """From pixel values to what the classifier takes: as asked, else as the source says.

    Raises:
        OptionError: not one number for each channel.
    """
    fits = says.mean is not None and len(says.mean) in (1, channels)
    mean = asked.mean if asked.mean is not None else says.mean if fits else None
    std = asked.std if asked.std is not None else says.std if fits else None
    return Normalisation(
        range=asked.range or says.range or "0-1",
        mean=_per_channel("mean", mean, channels, 0.0),
        std=_per_channel("std", std, channels, 1.0),
        assumed=asked.mean is None and asked.std is None and not fits,
    )


def labels_of(
    classes: int, given: Sequence[str] | None, own: Sequence[str] | None
) -> tuple[str, ...] | None:
    """The labels that were given, or the source's own if they fit.

    Raises:
        OptionError: those given are not as many as the classes, or no text.
    """
    if given is not None and len(given) != classes:
        raise OptionError(f"{len(given)} labels for {classes} classes.", "give one label per line.")
    names = own if given is None else given
    for number, name in enumerate(given or ()):
        if re.search(UNSEEN, name):
            raise OptionError(
                f"label {number} has characters that are no text: {ascii(name)[:80]}.",
                "save the labels as plain UTF-8 text, one on each line.",
            )
    if names is None or len(names) != classes:
        return None
    return tuple(one_line(name) for name in names)


def _per_channel(
    name: str, given: Sequence[float] | None, channels: int, default: float
) -> tuple[float, ...]:
    if given is None:
        return (default,) * channels
    if len(given) == 1:
        given = [given[0]] * channels
    if len(given) != channels:
        raise OptionError(
            f"{len(given)} numbers for --{name}, but the image has {channels} channels.",
            "give one number per channel, in the channel order the classifier takes.",
        )
    if name == "std" and not all(v > 0 for v in given):
        raise OptionError("--std must be positive.", "give the standard deviation per channel.")
    return tuple(float(v) for v in given)
