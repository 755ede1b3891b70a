"""``coco``: the results format of COCO."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import PurePath

from .format import Line, Table

_COCO_NAME = re.compile(r"(?:COCO_\w+_)?(\d+)", re.ASCII)


def coco_results(lines: Iterable[Line]) -> Iterator[str]:
    """The results format of COCO (cocodataset.org, "Results Format"): one JSON array.

    An element is ``image_id``, ``category_id``, ``bbox`` [x, y, width, height], ``score`` and,
    which readers pass over, ``category_name``. ``category_id`` is the classifier's class index.
    ``image_id`` is the number that a file is named by as in COCO (000000397133.jpg,
    COCO_val2014_000000397133.jpg), else the path as given. What was not found has no element.
    """
    comma = "[\n"
    for line in lines:
        for result in line.get("results", ()):
            if result["box"] is None:
                continue
            x0, y0, x1, y1 = result["box"]
            element = {
                "image_id": coco_image_id(line["image"]),
                "category_id": result["class"],
                "category_name": result["label"],
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "score": result["score"],
            }
            yield comma + json.dumps(element)
            comma = ",\n"
    yield "[]\n" if comma == "[\n" else "\n]\n"


def coco_image_id(image: str) -> int | str:
    """The number that COCO names an image file by; of other files the path as it is."""
    number = _COCO_NAME.fullmatch(PurePath(image).stem)
    return int(number[1]) if number else image


_MARK = re.compile(
    rb'\A\[(\]\n\Z|\n\{"image_id": ("[^\n]*?"|\d+), "category_id": \d+, "category_name": )'
)

FORMAT = Table("coco", "coco.json (COCO results)", "coco.json", coco_results, _MARK)
