"""The five questions of a trust report: what each answer shows, and what it does not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ...runtime.drawing.charts import Chart, Series
from ...runtime.drawing.html import Case, Cell, Gallery, Part, Picture, Row, Table, jpeg
from ...runtime.drawing.panels import blended, heatmap, resized
from .pointing import CENTRE
from .randomise import CONTROL, Sanity
from .record import Record
from .run import CENTRED, RANDOM, Findings
from .sample import Sample

WITHIN = 0.05
"""Largest median error of completeness, at the most steps, that is taken for complete."""

UNSEPARATED = {
    False: "the control did not fail: here the check tells little",
    None: "without ReLUs there is no control",
}

_BASELINES = (RANDOM, CENTRED)


def _missing(title: str, section: Record, *text: str) -> Part:
    return Part(title, (*text, f"Not measured: {section['missing']}"), verdict="not measured")


def parity(section: Record) -> Part:
    """Parity with the source."""
    title = "Is it the classifier's gradient?"
    text = (
        "The file's gradient against that of the classifier it was made of, on seeded noise.",
        "Shows: the graph computes the derivative of this classifier's scores. Does not show: that "
        "a derivative is a good explanation. Baseline: a wrong gradient is off by about 1.",
    )
    if "missing" in section:
        return _missing(title, section, *text)
    rows = [
        Row(
            f"image {one['image']}, class {one['class']}",
            (
                Cell(f"{one['relative_l2']:.1e}"),
                *([] if one["cosine"] is None else [Cell(f"{one['cosine']:.7f}")]),
            ),
        )
        for one in section["compared"]
    ]
    cosines = all(len(row.cells) == 2 for row in rows)
    whole = Cell(f"{section['relative_l2']:.1e}"), Cell(f"{section['cosine']:.7f}")
    exact = "" if section["exact"] is None else f"; computed in float64 {section['exact']:.1e}"
    table = Table(
        f"Against {section['reference']}",
        ("", "relative distance", "cosine")[: 2 + cosines],
        (Row("all", whole[: 1 + cosines]), *rows),
        f"Largest difference of scores, over the largest score: {section['scores_relative']:.1e}"
        f"{exact}." + ("" if cosines else " Derivatives along a random direction were compared."),
    )
    agrees = section["agrees"]
    verdict = f"yes, within {section['relative_l2']:.1e}"
    if not agrees:
        verdict = f"no: {'; '.join(section['problems'])}"
    return Part(title, text, (table,), verdict, agrees)


def completeness(section: Record, precision: str) -> Part:
    """Completeness of Integrated Gradients, of a classifier that computes in some precision."""
    title = "Do attributions add up to the score?"
    text = (
        "Integrated Gradients (Sundararajan et al. 2017): along the path from a black image to the "
        "image, the gradient must add up to what the class score gains.",
        "Shows: the gradient is right on real images, end to end, as its error falls with the "
        "steps. Does not show: that the path is a good one. Baseline: gradient times image, which "
        "takes one gradient for the whole path.",
    )
    if "missing" in section:
        return _missing(title, section, *text)
    steps, median, upper = section["steps"], section["median"], section["upper_quartile"]
    rows = [
        Row(f"{count} steps", (Cell(percent(m)), Cell(percent(u))))
        for count, m, u in zip(steps, median, upper, strict=True)
    ]
    rows.append(Row("gradient times image", (Cell(percent(section["plain"])), Cell("")), "1 step"))
    good, smooth = median[-1] <= WITHIN, precision in ("float32", "float64")
    whose = "the file's own gradient"
    if section["gradient_of"] == "source":
        whose = "the source differentiated again with signs, which the file's maps leave out"
    table = Table(
        f"Error by steps, {section['images']} images",
        ("|sum - gain| / gain", "median", "upper quartile"),
        tuple(rows),
        f"Of {whose}. Within {percent(WITHIN)} is a yes: rounding to pixels takes 1 to 2 %, kinks "
        "of the classifier the rest; a wrong gradient does not converge. "
        + ("" if smooth else f"In {precision} scores are a staircase, which no gradient adds up."),
    )
    verdict = (
        f"{'yes' if good else 'no'}, off by {percent(median[-1])} at {steps[-1]} steps (one "
        f"gradient: {percent(section['plain'])})"
    )
    return Part(title, text, (table,), verdict, True if good else False if smooth else None)


def sanity(section: Record, found: Findings, most: int) -> Part:
    """The sanity check; its pictures have at most so many bytes each."""
    title = "Do the maps depend on what was learned?"
    text = (
        "The parameter randomisation test (Adebayo et al. 2018): the weights are re-drawn (each "
        "tensor's own values in random order) layer by layer, from the scores down to the image, "
        "and the maps of the same classes are made again. A map that explains the classifier must "
        "change; guided backpropagation is the control that does not.",
        "Verdict: mean rank correlation with the map before, while the upper half of the layers is "
        "re-drawn, against a threshold half way from what the maps of different images have in "
        "common to 1, which a map has that ignores the weights. (With the lower half re-drawn too, "
        "the filters that see edges are gone, and even a picture of edges changes.)",
        "Shows: the map is no mere picture of the image. Does not show: that it is right. "
        "Baselines: maps of different images, and the control.",
    )
    if "missing" in section or found.sanity is None:
        return _missing(title, section, *text)
    rows = [
        Row(
            name,
            (
                Cell(one["verdict"]),
                Cell(three(one["upper"]["spearman"]),
                     f"to pass: below {three(one['threshold']['spearman'])}"),
                *(Cell(three(one["upper"][metric])) for metric in ("ssim", "top")),
                Cell(three(one["floor"]["spearman"])),
                Cell(three(_mean(one["independent"]["spearman"][1:]))),
            ),
        )
        for name, one in section["maps"].items()
    ]  # fmt: skip
    half, count = section["half"], len(section["layers"])
    table = Table(
        f"Maps before and after, {section['images']} images",
        ("", "verdict", "rank correlation", "SSIM", "highest\u00a010\u00a0%", "different images",
         "one layer alone"),
        tuple(rows),
        f"Columns 2 to 4: mean over the upper half, 1 to {half} of {count} layers re-drawn. Last "
        "two: rank correlation of the maps of different images; and with one layer re-drawn alone, "
        "mean over layers.",
    )  # fmt: skip
    charts = [
        Chart(
            name,
            axis,
            "rank correlation with the map before",
            tuple(
                Series(name, *_known(section["depths"], one[mode]["spearman"]))
                for name, one in section["maps"].items()
            ),
            (0, count),
            (min(0.0, *(v for one in section["maps"].values()
                        for v in one[mode]["spearman"] if v is not None)), 1),
            note=note,
        )
        for mode, name, axis, note in (
            ("cascading", "Cascading", "layers re-drawn, from the scores to the image",
             f"The verdict is of 1 to {half} layers."),
            ("independent", "One layer alone", "the layer re-drawn, counted from the scores",
             "All others as learned; at 0 none is re-drawn."),
        )
    ]  # fmt: skip
    verdicts = [f"{name} {one['verdict']}" for name, one in section["maps"].items()]
    own = [one["verdict"] for name, one in section["maps"].items() if name != CONTROL]
    good = None if "undecided" in own else all(v == "passes" for v in own)
    if section["separates"] is not True:
        good = None
        verdicts.append(UNSEPARATED[section["separates"]])
    strips = Gallery(
        "What re-drawing does",
        tuple(_strips(found.sanity, found.sampling.samples, most)),
        f"From the left: the image; its map; the map with the score layer re-drawn; with {half} of "
        f"{count} layers; with all.",
    )
    return Part(title, text, (table, *charts, strips), ", ".join(verdicts), good)


def perturbation(record: Record) -> Part:
    """Insertion and deletion."""
    section = record["perturbation"]
    text = (
        "Insertion and deletion (RISE, Petsiuk et al. 2018): in the order of a map, pixels are put "
        "into a blurred image, or replaced in the image by the mean pixel, and the probability of "
        "its top class is followed.",
        "Shows: whether the pixels that a map calls important change the score. Does not show: "
        "that they are the object, and half-deleted images are like none that the classifier has "
        "learned: scattered pixels destroy a class in any order. Baselines: a random order, and a "
        "Gaussian in the middle.",
    )
    orders = section["orders"]
    rows, charts = [], []
    for kind, better, best in (("insertion", "higher", max), ("deletion", "lower", min)):
        top = best(one[kind]["area"] for one in orders.values())
        cells = [
            Cell(three(one[kind]["area"]), f"{three(one[kind]['low'])} to "
                 f"{three(one[kind]['high'])}", one[kind]["area"] == top)
            for one in orders.values()
        ]  # fmt: skip
        rows.append(Row(kind, tuple(cells), f"area under the curve; {better} is better"))
        wins = [
            Cell("-" if name == CENTRED else f"{one[kind]['beats']} of {section['images']}")
            for name, one in orders.items()
        ]
        rows.append(Row("", tuple(wins), "images on which it beats the centred Gaussian"))
        charts.append(
            Chart(
                kind.capitalize(),
                f"share of pixels {'inserted' if kind == 'insertion' else 'deleted'}",
                "probability of the top class",
                tuple(
                    Series(
                        name, section["share"], one[kind]["mean"],
                        None if name in _BASELINES
                        else (one[kind]["lower_quartile"], one[kind]["upper_quartile"]),
                    )
                    for name, one in orders.items()
                ),
                (0, 1), (0, 1), percent=True,
                note="Mean over the images; pale: the middle half of them.",
            )
        )  # fmt: skip
    table = Table(
        f"Areas, {section['images']} images", ("", *orders), tuple(rows),
        "Small: 95 % bootstrap interval over the images. Marked: the best of the row.",
    )  # fmt: skip
    verdicts = [
        f"{name} {three(orders[name]['insertion']['area'])} and "
        f"{three(orders[name]['deletion']['area'])}"
        for name in (*record["maps"], *_BASELINES)
    ]
    title = "Does the score follow the pixels?"
    return Part(title, text, (table, *charts), f"insertion and deletion: {', '.join(verdicts)}")


def pointing(section: Record, maps: list[str]) -> Part:
    """The pointing game of some maps."""
    title = "Is the highest point on the object?"
    text = (
        "The pointing game (Zhang et al. 2016), for every class whose boxes are known: a hit is "
        "within 15 pixels of a box (in images smaller than 500 pixels, as much less).",
        "Shows: where one pixel of a map lies. Does not show: what the rest of it does. Baseline: "
        "the centre of the image.",
    )
    if "missing" in section:
        return _missing(title, section, *text)
    order = [*maps, CENTRE]
    best = max(section["maps"][name]["accuracy"] for name in order)
    cells = [
        Cell(percent(one["accuracy"]), f"{100 * one['low']:.1f} to {100 * one['high']:.1f}",
             one["accuracy"] == best)
        for one in (section["maps"][name] for name in order)
    ]  # fmt: skip
    table = Table(
        f"Accuracy, {section['rounds']} objects of {section['classes']} classes", ("", *order),
        (Row("hits", tuple(cells), "mean over classes; higher is better"),),
        "Small: 95 % bootstrap interval. Marked: the best.",
    )  # fmt: skip
    said = [f"{name} {percent(section['maps'][name]['accuracy'])}" for name in order]
    return Part(title, text, (table,), ", ".join(said))


def _strips(sanity: Sanity, samples: tuple[Sample, ...], most: int) -> Iterator[Case]:
    """A file's first map and the control, before and after."""
    names = [sanity.maps[0], *([CONTROL] if CONTROL in sanity.maps else [])]
    for n in range(sanity.kept[names[0]].shape[1]):
        for name in names:
            steps = [(sanity.kept[name][step, n], sanity.depths[step])
                     for step in (0, 1, sanity.half, -1)]  # fmt: skip
            pictures = [(samples[n].picture, "image")] + [
                (heatmap(_placed(samples[n], values)), f"{depth} layers re-drawn")
                for values, depth in steps
            ]
            yield Case(
                name,
                samples[n].name,
                tuple(Picture(jpeg(p, most), f"{name}, {text}") for p, text in pictures),
            )


def overlay(one: Sample, values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """A map over the image, in the image's own shape: uint8 [h,w,3]."""
    return blended(one.picture, _placed(one, values))


def _placed(one: Sample, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    high, wide = one.picture.shape[:2]
    frame = resized(np.asarray(values, np.float32), *one.view.shape[:2])
    return resized(one.prepared.map_to_original(frame), high, wide)


def _known(x: list[int], y: list[float | None]) -> tuple[list[float], list[float]]:
    pairs = [(float(a), b) for a, b in zip(x, y, strict=True) if b is not None]
    return [a for a, _ in pairs], [b for _, b in pairs]


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def three(value: float | None) -> str:
    """Three digits after the point."""
    return "-" if value is None else f"{value:.3f}"


def percent(value: float | None) -> str:
    """A share as a percentage."""
    return "-" if value is None else f"{100 * value:.1f}\u00a0%"
