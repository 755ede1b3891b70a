"""The last step of the pipeline: maps into boxes and masks in the pixels of the original."""

from __future__ import annotations

import numpy as np

from .boxes.recipes import Recipe
from .errors import ImageError
from .images.reading import said
from .results import Localization, Result, Saliency


def boxes(result: Result[Saliency], recipe: Recipe, masks: bool = True) -> Result[Localization]:
    """`boxes_of` of a result; an error stays that error, and what does not fit is one.

    Args:
        result: the maps.
        recipe: how they become boxes.
        masks: make the masks too; without, they are [0,height,width], which at 12 million pixels
            saves more time than the cut takes.
    """
    found = result.value
    if found is None:
        return Result(
            result.index, result.image, None, result.error, video_frame=result.video_frame
        )
    import cv2

    try:
        value = boxes_of(found, recipe, masks)
    except (MemoryError, cv2.error) as failure:  # masks of many classes of a large image
        error = ImageError(
            f"{found.name}: its objects cannot be found ({said(failure)}).",
            "ask for fewer classes, or make the image smaller.",
        )
        return Result(result.index, result.image, None, error, video_frame=result.video_frame)
    return Result(
        result.index, result.image, value, None, found.prepared, result.picture,
        result.video_frame, result.source,
    )  # fmt: skip


def boxes_of(found: Saliency, recipe: Recipe, masks: bool = True) -> Localization:
    """The objects of one image from its maps, in pixels of the original image.

    Args:
        found: the maps.
        recipe: how they become boxes.
        masks: as in ``boxes``.
    """
    from .boxes.localize import localize_maps

    prepared, classes = found.prepared, found.classes
    objects = localize_maps(prepared.frame, found.maps, recipe)
    made = np.empty((len(objects) if masks else 0, found.height, found.width), np.bool_)
    if masks:
        for place, (_, mask) in enumerate(objects):
            made[place] = prepared.mask_to_original(mask)
    return Localization(
        image=found.image,
        width=found.width,
        height=found.height,
        classes=classes,
        labels=(None,) * len(classes) if found.labels is None else found.labels,
        scores=found.scores,
        boxes=tuple(None if box is None else prepared.box_to_original(box) for box, _ in objects),
        masks=made,
        maps=found.maps,
        map=found.map,
        recipe=recipe.name,
        prepared=prepared,
        video_frame=found.video_frame,
        source=found.source,
    )
