"""Open a Backlit file and run it on images: scores, maps, boxes."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

from . import pipeline
from .arrays import Index
from .backend.runner import Runner
from .boxes.recipes import fitted, get_recipe
from .errors import ClassError, OptionError, no_opencv
from .images.load import Source
from .images.sources import Images, sources
from .maps.classes import Classes, resolve
from .maps.kinds import AnyKind
from .results import Localization, Result, Results, Saliency

if TYPE_CHECKING:
    from .boxes.recipes import Recipe
    from .shown import Shown

    Value = TypeVar("Value", bound=Shown)

Errors = Literal["keep", "raise"]
"""What becomes of an image that cannot be read: a result with its error, or an exception."""

_LOG = logging.getLogger("backlit")


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
        ['saliency', 'features', 'gains']

    Attributes:
        path: of the file.
        provider: the execution provider that it runs on: ``cpu``, ``cuda``, ``openvino``, ...
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
        errors: Errors = "keep",
    ) -> Results[Saliency]:
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
            images: one or many, a generator too, which is read a bounded number ahead: paths,
                folders, videos, addresses (http, https, data, and by fsspec others such as s3),
                bytes, open files, Pillow images, arrays uint8 [H,W,3], [H,W] or [N,H,W,3],
                torch tensors uint8 [C,H,W], [H,W,C], [H,W] or batches of them,
                ``cv2.VideoCapture``.
            classes: index or label, K for all images, or [N,K]. None: the ``top`` best of each.
                Negative indices are ranks: -1 is the top-scoring class, -2 the second.
            top: how many classes if ``classes`` is None.
            crops: views whose maps are averaged: 1, 2 (with the mirror image) or 10 (paper,
                section 3). Ranks are those of the scores averaged over the views.
            batch: views per run; None: 4 on a CPU, 32 on a GPU.
            map: which kind of map: ``saliency``, ``gradient``, ``features``, ``gains``,
                ``gradcam``, ``layercam``, ``object``, ``smoothgrad``, ``ig`` or ``gradxinput``;
                or one with options, as in ``SmoothGrad(samples=25)``. A coarse map is enlarged to
                the image's pixels.
            errors: ``keep``: an image that cannot be read gives a result whose ``error`` says why;
                ``raise``: it ends the run.

        Returns:
            One result per image or frame, in order: a list that a notebook shows as pictures.

        Raises:
            ImageError: an image cannot be read, with ``errors="raise"``.
            ClassError: a class does not exist.
            OptionError: crops or batch is impossible, no kind of map has that name, or the file
                lacks what it is made of.
            ModelError: ONNX Runtime fails.
        """
        return Results(
            self.stream_saliency(images, classes, top, crops, batch, map=map, errors=errors)
        )

    def localize(
        self,
        images: Images,
        classes: Classes | None = None,
        top: int = 1,
        crops: int | None = None,
        recipe: str | Recipe = "default",
        batch: int | None = None,
        map: AnyKind | None = None,  # noqa: A002  the option's name
        errors: Errors = "keep",
    ) -> Results[Localization]:
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
            ('object', 'saliency')

        Args:
            images: as in ``saliency``.
            classes: as in ``saliency``.
            top: as in ``saliency``.
            crops: views whose maps are averaged; None: as many as the recipe wants.
            recipe: a recipe, or the name of one in ``RECIPES``.
            batch: views per run; None: 4 on a CPU, 32 on a GPU.
            map: which kind of map the recipe starts from; None: the recipe's own.
            errors: as in ``saliency``.

        Returns:
            One result per image or frame, in order; boxes in pixels of the original image.

        Raises:
            ImageError: an image cannot be read, with ``errors="raise"``.
            ClassError: a class does not exist.
            OptionError: crops, batch or recipe is impossible, or the file lacks the map that it
                starts from.
            ModelError: ONNX Runtime fails.
            BacklitError: OpenCV is not installed.
        """
        return Results(
            self.stream_localize(images, classes, top, crops, recipe, batch, map, errors)
        )

    def stream_saliency(
        self,
        images: Images,
        classes: Classes | None = None,
        top: int = 1,
        crops: int = 1,
        batch: int | None = None,
        map: AnyKind = "saliency",  # noqa: A002  the option's name
        errors: Errors = "keep",
    ) -> Generator[Saliency, None, None]:
        """``saliency``, each result as soon as it is there and none kept: for long videos.

        Arguments and errors are those of ``saliency``.

        Examples:
            >>> import backlit
            >>> session = backlit.Session("tiny.backlit.onnx")
            >>> for found in session.stream_saliency("mug.jpg" for _ in range(3)):
            ...     print(found.image, found.maps.shape)
            mug.jpg (1, 96, 96)
            mug.jpg (1, 96, 96)
            mug.jpg (1, 96, 96)
        """
        _check(errors)
        index, given = _classes(self, images, classes, top)
        flow = pipeline.saliency_results(self, given, index, crops, batch, map=map)
        return _values(flow, Saliency, errors)

    def stream_localize(
        self,
        images: Images,
        classes: Classes | None = None,
        top: int = 1,
        crops: int | None = None,
        recipe: str | Recipe = "default",
        batch: int | None = None,
        map: AnyKind | None = None,  # noqa: A002  the option's name
        errors: Errors = "keep",
    ) -> Generator[Localization, None, None]:
        """``localize``, each result as soon as it is there and none kept: for long videos.

        Arguments and errors are those of ``localize``.

        Examples:
            >>> import backlit
            >>> session = backlit.Session("tiny.backlit.onnx")
            >>> for found in session.stream_localize(["mug.jpg", "mug.jpg"]):
            ...     print(found.image, found.boxes[0] is not None)
            mug.jpg True
            mug.jpg True
        """
        _check(errors)
        try:
            import cv2  # noqa: F401  found missing now, not after the first run
        except ModuleNotFoundError as error:
            raise no_opencv() from error
        chosen = fitted(get_recipe(recipe).starting_from(map), self.contract)
        index, given = _classes(self, images, classes, top)
        flow = pipeline.localize_results(self, given, index, chosen, crops, batch)
        return _values(flow, Localization, errors)


def _check(errors: str) -> None:
    if errors not in get_args(Errors):
        raise OptionError(
            f"errors={errors!r} is no choice.",
            "give 'keep' (a result with its error) or 'raise'.",
        )


def _classes(
    session: Session, images: Images, classes: Classes | None, top: int
) -> tuple[Index, Iterable[Source]]:
    """The classes to explain, and the images; counted if each has classes of its own."""
    index = resolve(classes, top, session.contract)
    given: Iterable[Source] = sources(images)
    if len(index) > 1:
        given = list(islice(given, len(index) + 1))
        if len(given) != len(index):
            more = len(given) > len(index)
            raise ClassError(
                f"classes has {len(index)} rows for {'more' if more else len(given)} images.",
                "pass one row for each image.",
            )
    return index, given


def _values(
    results: Generator[Result[Value], None, None], kind: type[Value], errors: Errors
) -> Generator[Value, None, None]:
    with closing(results):  # ends its threads at the first error
        for result in results:
            if result.error is not None:
                if errors == "raise":
                    raise result.error
                failed = kind.failed(result.image, result.error, result.video_frame)
                _LOG.warning("skipped: %s %s", result.error.problem, result.error.fix)
                yield failed
            elif result.value is not None:
                yield result.value
