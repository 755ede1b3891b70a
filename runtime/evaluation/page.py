"""The page of an evaluation: its table, its curves, and pictures of notable cases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from .. import located, pipeline
from ..arrays import Pixels
from ..drawing.charts import Chart, Series
from ..drawing.html import Case, Cell, Gallery, Picture, Report, Row, Table, jpeg
from ..drawing.panels import blended, resized
from ..drawing.raster import BRIGHT, rectangle
from ..output.run_log import RunLog
from ..results import Localization, Result
from .datasets import Example
from .maps import Record
from .measure import CENTRED, Evaluation
from .summary import Metric, Pick

PICTURE_SIDE = 240
"""Longer side of a picture in pixels."""

_PICTURE_BYTES = 1_300_000
"""All pictures of a page, before base64 makes them a third longer."""

_TRUE = (86, 180, 233)


def rows(
    table: Mapping[str, Mapping[str, Record]], known: Sequence[Metric], methods: Sequence[str]
) -> list[Row]:
    """The metrics as rows of text, the same for a terminal and a page.

    Args:
        table: of `Summary.table`.
        known: the metrics in order; those that the table lacks are left out.
        methods: the columns. What is about the classifier alone stands in the first.
    """
    return [_row(metric, table[metric.key], methods) for metric in known if metric.key in table]


def columns(methods: Sequence[str]) -> list[str]:
    """The heads of the columns for `rows`."""
    return ["centred box" if name == CENTRED else name for name in methods]


def page(
    evaluation: Evaluation,
    found: Record,
    known: Sequence[Metric],
    galleries: Sequence[Gallery],
) -> Report:
    """The page.

    Args:
        evaluation: what was measured.
        found: the summary, as in ``metrics.json``.
        known: the metrics in order.
        galleries: of `gallery`.
    """
    names = columns(evaluation.methods)
    failed = found["errors"]
    facts = [
        ("file", f"{found['file']} (SHA-256 {found['file_sha256'][:16]})"),
        ("data set", found["dataset"]),
        ("images", f"{found['images']}" + (f", {len(failed)} more failed" if failed else "")),
        ("recipe", f"{found['recipe']}, {found['crops']} view{'s' * (found['crops'] > 1)}"),
        ("provider", found["provider"]),
        *(("note", note) for note in found["notes"]),
        *((f"failed: {one['image']}", one["error"]) for one in failed[:20]),
    ]
    metrics_table = Table(
        "Metrics",
        ("metric", *names),
        tuple(rows(found["metrics"], known, evaluation.methods)),
        "Small: 95 % bootstrap interval over the images. Marked: the best of the row. The centred "
        "box covers 80 % of each side, whatever the image; as a score map it is a Gaussian.",
    )
    charts = [
        Chart(
            "Accuracy over IoU",
            "IoU from which a box counts as right",
            "share of boxes that are right",
            _series(found["curves"]["iou"], evaluation.methods, names),
            (0.0, 1.0),
            (0.0, 1.0),
            percent=True,
            note="The class is given (GT-known).",
        ),
        Chart(
            "Accuracy over the score threshold",
            "threshold on the score map, as a share of its maximum",
            "share of boxes that are right",
            _series(found["curves"]["score_threshold"], evaluation.methods, names),
            (0.0, 1.0),
            (0.0, 1.0),
            percent=True,
            note="Box of the largest contour of the map above the threshold, IoU 0.5; the highest "
            "point of a curve is MaxBoxAcc.",
        ),
    ]
    return Report(
        title=f"Localisation on {found['dataset']}",
        summary=headline(found, evaluation.methods),
        facts=tuple(facts),
        sections=(metrics_table, *charts, *galleries),
        footer=f"backlit {found['backlit']}: backlit evaluate",
    )


def headline(found: Record, methods: Sequence[str]) -> str:
    """What was found, in one sentence."""
    cells = found["metrics"].get("gt_known_iou_0.5", {})
    shares = [
        f"{_percent(cells[name]['value'])} ({column})"
        for name, column in zip(methods, columns(methods), strict=True)
        if name in cells
    ]
    if not shares:
        return "No image has a true box."
    return f"Boxes that are right at IoU 0.5, the class given: {', '.join(shares)}."


def gallery(
    evaluation: Evaluation,
    picks: Mapping[str, Sequence[Pick]],
    examples: Mapping[str, Example],
    log: RunLog,
) -> list[Gallery]:
    """Pictures of cases, made by running those images again.

    Args:
        evaluation: what and how.
        picks: by kind.
        examples: by name.
        log: with their records.
    """
    count = sum(len(cases) for cases in picks.values())
    most = min(16_000, _PICTURE_BYTES // max(1, 3 * count))
    titles = {"best": "Best boxes", "median": "Median boxes", "worst": "Worst boxes"}
    note = "Image with the box found (yellow) and true boxes (blue, dashed); score map; mask."
    found = []
    for kind, cases in picks.items():
        if cases:
            shown = tuple(_cases(evaluation, cases, examples, log, most))
            found.append(Gallery(titles[kind], shown, note))
            note = ""  # said once
    return found


def _cases(
    evaluation: Evaluation,
    picks: Sequence[Pick],
    examples: Mapping[str, Example],
    log: RunLog,
    most: int,
) -> Iterator[Case]:
    records = [next(log.read([pick.image])) for pick in picks]
    chosen = [
        record["classes"][evaluation.top + pick.position]
        for record, pick in zip(records, picks, strict=True)
    ]
    explained = pipeline.saliency_results(
        evaluation.session,
        [examples[pick.image].path for pick in picks],
        np.array(chosen, np.int64)[:, None],
        evaluation.views,
        evaluation.batch,
        keep=PICTURE_SIDE,
        map=evaluation.recipe.map,
    )
    with closing(
        pipeline.after(explained, lambda one: located.boxes(one, evaluation.recipe))
    ) as all_found:
        for pick, record, result in zip(picks, records, all_found, strict=True):
            if result.value is not None and result.picture is not None:
                yield _case(evaluation, pick, record, result, most)


def _case(
    evaluation: Evaluation,
    pick: Pick,
    record: Record,
    result: Result[Localization],
    most: int,
) -> Case:
    found, small, prepared = result.value, result.picture, result.prepared
    if found is None or small is None or prepared is None:
        raise ValueError(f"{pick.image} has no result")
    scale = small.shape[1] / found.width, small.shape[0] / found.height
    given = small.shape[1] / record["size"][0], small.shape[0] / record["size"][1]
    true = [_scaled(box, given) for box in record["boxes"][pick.position]]
    box = found.boxes[0]
    heat = prepared.map_to_original(evaluation.recipe.evidence(found.maps[0]))
    mask = Image.fromarray(found.masks[0]).resize(small.shape[1::-1])
    label = found.labels[0] or f"class {int(found.classes[0])}"
    pictures = (
        (_boxed(small, None if box is None else _scaled(box, scale), true), "image with boxes"),
        (blended(small, resized(heat, *small.shape[:2])), "score map"),
        (_masked(small, np.asarray(mask)), "mask"),
    )
    said = "right" if record["true"][pick.position] == record["ranked"][0] else "wrong"
    return Case(
        pick.image,
        f"{label}. IoU {pick.iou:.2f}; top class {said}",
        tuple(Picture(jpeg(one, most), f"{pick.image}: {text}") for one, text in pictures),
    )


def _row(metric: Metric, cells: Mapping[str, Record], methods: Sequence[str]) -> Row:
    values = [cell["value"] for cell in cells.values() if cell["value"] is not None]
    best = (min if metric.lower else max)(values, default=None)
    shown = [
        Cell(
            _percent(cell["value"]),
            "" if cell["low"] is None else f"{100 * cell['low']:.1f} to {100 * cell['high']:.1f}",
            len(values) > 1 and cell["value"] == best,
        )
        for cell in cells.values()
    ]
    note = f"{metric.note}; {'lower' if metric.lower else 'higher'} is better"
    return Row(metric.name, (*shown, *[Cell("")] * (len(methods) - len(shown))), note)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _series(curve: Record, methods: Sequence[str], names: Sequence[str]) -> tuple[Series, ...]:
    return tuple(
        Series(name, curve["threshold"], curve[method])
        for method, name in zip(methods, names, strict=True)
        if method in curve
    )


def _scaled(box: Sequence[float], scale: tuple[float, float]) -> tuple[float, ...]:
    return tuple(edge * scale[index % 2] for index, edge in enumerate(box))


def _boxed(small: Pixels, found: Sequence[float] | None, true: Sequence[Sequence[float]]) -> Pixels:
    """The image with the box found, and dashed the true ones; a dark edge shows on any ground."""
    panel = Image.fromarray(small)
    pen = ImageDraw.Draw(panel)
    for box in true:
        rectangle(pen, box, panel.size, _TRUE, dash=8)
    if found is not None:
        rectangle(pen, found, panel.size, BRIGHT)
    return np.asarray(panel)


def _masked(small: Pixels, mask: npt.NDArray[np.bool_]) -> Pixels:
    """The image where the mask is, everything else dim and grey."""
    dim = 0.25 * small.mean(axis=2, keepdims=True) + 12
    panel: Pixels = np.where(mask[..., None], small, np.rint(dim)).astype(np.uint8)
    return panel
