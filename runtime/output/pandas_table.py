"""Results as a table of pandas, which need not be installed for all else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..errors import BacklitError, OptionError
from ..results import Localization, Saliency

_COLUMNS = {
    "image": "object",
    "video_frame": "Int64",
    "width": "Int64",
    "height": "Int64",
    "class": "Int64",
    "label": "object",
    "score": "float64",
    "x0": "Int64",
    "y0": "Int64",
    "x1": "Int64",
    "y1": "Int64",
    "map": "object",
    "recipe": "object",
    "error": "object",
}


def to_pandas(results: Iterable[Saliency | Localization] | Saliency | Localization) -> Any:
    """Results as a DataFrame, one row for each class of each image.

    Examples:
        >>> import backlit
        >>> session = backlit.Session("tiny.backlit.onnx")
        >>> results = session.localize(["mug.jpg", "absent.jpg"], top=2)
        >>> try:
        ...     rows = len(backlit.to_pandas(results))
        ... except backlit.BacklitError:  # pandas is not installed: pip install pandas
        ...     rows = 3
        >>> rows  # two classes of the one, the error of the other
        3

    Args:
        results: of ``Session.saliency`` or ``Session.localize``, or of their streams; or one.

    Returns:
        A ``pandas.DataFrame`` with the columns image, video_frame, width, height, class, label,
        score, x0, y0, x1, y1 (the box in pixels of the image, x1 and y1 exclusive), map, recipe and
        error. Missing is what a result does not have: a box that was not found, the recipe of a
        map, all but image and error of an image that could not be read.

    Raises:
        BacklitError: pandas is not installed.
        OptionError: something else than results was given.
    """
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise BacklitError(
            "a DataFrame needs pandas, which is not installed.", "pip install pandas"
        ) from error
    many = [results] if isinstance(results, Saliency | Localization) else results
    rows = [row for one in many for row in _rows(one)]
    return pandas.DataFrame(rows, columns=[*_COLUMNS]).astype(_COLUMNS)


def _rows(found: Saliency | Localization) -> list[dict[str, Any]]:
    if not isinstance(found, Saliency | Localization):
        raise OptionError(
            f"{type(found).__name__} is no result.",
            "give what session.saliency or session.localize returned.",
        )
    row: dict[str, Any] = dict.fromkeys(_COLUMNS) | {
        "image": found.image,
        "video_frame": found.video_frame,
    }
    if found.error is not None:
        return [row | {"error": found.error.problem}]
    row |= {"width": found.width, "height": found.height, "map": found.map}
    rows = []
    for place, (index, score) in enumerate(zip(found.classes, found.scores, strict=True)):
        own: dict[str, Any] = {"class": int(index), "score": float(score)}
        if found.labels is not None:
            own["label"] = found.labels[place]
        if isinstance(found, Localization):
            own["recipe"] = found.recipe
            own |= zip(("x0", "y0", "x1", "y1"), found.boxes[place] or (), strict=False)
        rows.append(row | own)
    return rows
