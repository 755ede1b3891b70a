"""Open a Backlit file and run it on images: scores, maps, boxes."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from contextlib import closing
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from PIL import Image

from . import pipeline
from .backend.runner import Runner
from .boxes.recipes import fitted, get_recipe
from .errors import no_opencv
from .images.load import Source
from .maps.classes import Classes, resolve
from .maps.kinds import AnyKind
from .results import Result, Saliency

if TYPE_CHECKING:
    from .boxes.recipes import Recipe
    from .results import Localization

Images = Source | Iterable[Source]
Value = TypeVar("Value")


class Session(Runner):
    """A Backlit file, ready to run on images. Safe to use from several threads.

    ``saliency`` and ``localize`` take images of any size, and give results in the pixels of the
    original. ``run`` and ``run_dlpack`` (`Runner`) take arrays of the file's size.

    Examples:
        >>> import backlit
        >>> session = backlit.Session("tiny.backlit.onnx")
        >>> session.contract.image.height, session.contract.score.classes
        (96, 12)
        >>> [made.name for made in session.contract.maps]
        ['saliency', 'features']

    Attributes:
        path: of the file.
        provider: the execution provider that it runs on: ``cpu``, ``cuda``, ``tensorrt``,
            ``openvino``.
        contract: what the file says of itself: image, classes, labels, maps.
        options: those of the providers, as they were given.
        elsewhere: nodes that a GPU provider left to the CPU.
    """

    def saliency(
        self,
        images: Images,
        classes: Classes | None = None,
        top: int = 1,
        crops: int = 1,
        batch: int | None = None,
        map: AnyKind = "saliency",  # noqa: A002  the option's name
    ) -> list[Saliency]:
        """Where the classifier looked.

        Examples:
            >>> import backlit
            >>> session = backlit.Session("tiny.backlit.onnx")
            >>> (found,) = session.saliency("mug.jpg", top=2)
            >>> found.maps.shape, found.maps.dtype
            ((2, 96, 96), dtype('float32'))
            >>> (coarse,) = session.saliency("mug.jpg", classes=7, map="features")
            >>> coarse.map, coarse.classes.tolist(), coarse.maps.shape
            ('features', [7], (1, 96, 96))

        Args:
            images: one or many: paths, Pillow images, arrays uint8 [H,W,3], [H,W] or [N,H,W,3].
            classes: index or label, K for all images, or [N,K]. None: the ``top`` best of each.
                Negative indices are ranks: -1 is the top-scoring class, -2 the second.
            top: how many classes if ``classes`` is None.
            crops: views whose maps are averaged: 1, 2 (with the mirror image) or 10 (paper,
                section 3). Ranks are those of the scores averaged over the views.
            batch: views per run; None: 4 on a CPU, 32 on a GPU.
            map: which kind of map: ``saliency``, ``gradient``, ``features``, ``gradcam``,
                ``layercam``, ``smoothgrad``, ``ig`` or ``gradxinput``; or one with options, as in
                ``SmoothGrad(samples=25)``. A coarse map is enlarged to the image's pixels.

        Returns:
            One result per image, in order.

        Raises:
            ImageError: an image cannot be read.
            ClassError: a class does not exist.
            OptionError: crops or batch is impossible, no kind of map has that name, or the file
                lacks what it is made of.
            ModelError: ONNX Runtime fails.
        """
        sources = many(images)
        index = resolve(classes, top, self.contract, len(sources))
        return _values(pipeline.saliency_results(self, sources, index, crops, batch, map=map))

    def localize(
        self,
        images: Images,
        classes: Classes | None = None,
        top: int = 1,
        crops: int | None = None,
        recipe: str | Recipe = "default",
        batch: int | None = None,
        map: AnyKind | None = None,  # noqa: A002  the option's name
    ) -> list[Localization]:
        """Object boxes and masks from the maps, by GrabCut (paper, section 3.2).

        Examples:
            >>> import backlit
            >>> session = backlit.Session("tiny.backlit.onnx")
            >>> (found,) = session.localize("mug.jpg")
            >>> x0, y0, x1, y1 = found.boxes[0]
            >>> 0 <= x0 < x1 <= found.width == 360
            True
            >>> found.masks.shape
            (1, 240, 360)
            >>> (other,) = session.localize("mug.jpg", map="saliency")
            >>> found.map, other.map
            ('features', 'saliency')

        Args:
            images: as in ``saliency``.
            classes: as in ``saliency``.
            top: as in ``saliency``.
            crops: views whose maps are averaged; None: as many as the recipe wants.
            recipe: a recipe, or the name of one in ``RECIPES``.
            batch: views per run; None: 4 on a CPU, 32 on a GPU.
            map: which kind of map the recipe starts from; None: the recipe's own.

        Returns:
            One result per image, in order; boxes in pixels of the original image.

        Raises:
            ImageError: an image cannot be read.
            ClassError: a class does not exist.
            OptionError: crops, batch or recipe is impossible, or the file lacks the map that it
                starts from.
            ModelError: ONNX Runtime fails.
            BacklitError: OpenCV is not installed.
        """
        try:
            import cv2  # noqa: F401  found missing now, not after the first run
        except ModuleNotFoundError as error:
            raise no_opencv() from error
        chosen = fitted(get_recipe(recipe).starting_from(map), self.contract)
        sources = many(images)
        index = resolve(classes, top, self.contract, len(sources))
        return _values(pipeline.localize_results(self, sources, index, chosen, crops, batch))


def many(images: Images) -> list[Source]:
    """One or many images as a list; an array [N,H,W,C] is N images."""
    if isinstance(images, str | os.PathLike | Image.Image):
        return [images]
    if isinstance(images, np.ndarray):
        return list(images) if images.ndim == 4 else [images]
    if isinstance(images, Iterable):
        return list(images)
    return [images]


def _values(results: Generator[Result[Value], None, None]) -> list[Value]:
    values = []
    with closing(results):  # ends its threads at the first error
        for result in results:
            if result.error is not None:
                raise result.error
            if result.value is not None:
                values.append(result.value)
    return values
