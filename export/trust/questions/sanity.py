"""Do the maps depend on what was learned? The parameter randomisation test.

The section ``sanity`` of the record: ``images``, ``layers`` from the scores to the image,
``depths``, ``half``, ``separates`` (whether the control fails; null without one), ``maps``: by name
``verdict``, ``flat``, ``upper``, ``threshold``, ``floor`` by metric, ``cascading`` and
``independent``: by metric the means by step.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy.typing as npt

from ....runtime.drawing.charts import Chart, Series
from ....runtime.drawing.html import Case, Cell, Gallery, Part, Picture, Row, Table, jpeg
from ....runtime.drawing.panels import heatmap
from ....runtime.maps.points import graph_values
from .. import randomise
from ..numbers import Record, known, mean, number, three
from ..pictures import placed
from ..question import NEEDS_SOURCE, Answer, Study, not_measured
from ..randomise import CONTROL
from ..sample import Sample
from ..similarity import METRICS

IMAGES = 16
"""How many it takes, being dear; it varies little between images."""

SHOWN = 3
"""Of how many the page shows what re-drawing does."""

UNSEPARATED = {
    False: "the control did not fail: here the check tells little",
    None: "without ReLUs there is no control",
}


class Sanity:
    """The sanity check of Adebayo et al. 2018."""

    name, short = "sanity", "sanity check"

    def measure(self, study: Study) -> Answer:
        """Re-draw the weights of the source, layer by layer."""
        if study.source is None:
            return Answer({"missing": NEEDS_SOURCE})
        few = min(IMAGES, len(study.views))
        study.watch.begin("weights re-drawn", 1)
        found = randomise.sanity_check(
            study.source, study.session.contract,
            graph_values(study.session, study.views[:few]), study.top[:few],
            {name: each[:few] for name, each in study.maps.items()}, seed=study.seed, shown=SHOWN,
            begin=lambda steps: study.watch.begin("weights re-drawn", steps),
            done=study.watch.step,
        )  # fmt: skip
        return Answer(record(found, few), more=found)

    def lines(self, record: Record) -> list[str]:
        """The verdict of each map."""
        said = []
        for name, one in record["maps"].items():
            upper, most = one["upper"]["spearman"], one["threshold"]["spearman"]
            if upper is None:
                said.append(f"sanity: {name} {one['verdict']}: its maps came out flat")
                continue
            said.append(
                f"sanity: {name} {one['verdict']}: rank correlation {upper:.3f}, threshold "
                f"{most:.3f} (half way from that of different images, "
                f"{one['floor']['spearman']:.3f}, to 1)"
            )
        if record["separates"] is False:
            said.append("sanity: the control did not fail, so here the check tells little")
        return said

    def pictures(self, answer: Answer) -> int:
        """Five for each image shown, of a map and of the control."""
        return 0 if answer.more is None else 2 * 5 * SHOWN

    def part(self, answer: Answer, study: Study, most: int) -> Part:
        """A table, the course of both ways of re-drawing, and pictures."""
        return _part(answer, study, most)


def _part(answer: Answer, study: Study, most: int) -> Part:
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
    if answer.missing is not None:
        return not_measured(title, answer, *text)
    section = answer.record
    rows = [
        Row(
            name,
            (
                Cell(one["verdict"]),
                Cell(three(one["upper"]["spearman"]),
                     f"to pass: below {three(one['threshold']['spearman'])}"),
                *(Cell(three(one["upper"][metric])) for metric in ("ssim", "top")),
                Cell(three(one["floor"]["spearman"])),
                Cell(three(mean(one["independent"]["spearman"][1:]))),
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
                Series(name, *known(section["depths"], one[mode]["spearman"]))
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
        tuple(_strips(answer.more, study.sampling.samples, most)),
        f"From the left: the image; its map; the map with the score layer re-drawn; with {half} of "
        f"{count} layers; with all.",
    )
    return Part(title, text, (table, *charts, strips), ", ".join(verdicts), good)


def _strips(sanity: randomise.Sanity, samples: tuple[Sample, ...], most: int) -> Iterator[Case]:
    """A file's first map and the control, before and after."""
    names = [sanity.maps[0], *([CONTROL] if CONTROL in sanity.maps else [])]
    for n in range(sanity.kept[names[0]].shape[1]):
        for name in names:
            steps = [(sanity.kept[name][step, n], sanity.depths[step])
                     for step in (0, 1, sanity.half, -1)]  # fmt: skip
            pictures = [(samples[n].picture, "image")] + [
                (heatmap(placed(samples[n], values)), f"{depth} layers re-drawn")
                for values, depth in steps
            ]
            yield Case(
                name,
                samples[n].name,
                tuple(Picture(jpeg(p, most), f"{name}, {text}") for p, text in pictures),
            )


def record(found: randomise.Sanity, images: int) -> Record:
    """As JSON takes it, of so many images."""

    def means(values: npt.NDArray[Any]) -> list[float | None]:
        return [number(randomise.mean(row)) for row in values]

    return {
        "images": images,
        "layers": list(found.layers),
        "depths": list(found.depths),
        "half": found.depths[found.half],
        "separates": found.separates,
        "maps": {
            name: {
                "verdict": found.verdict(name),
                "flat": number(found.flat(name)),
                "upper": {metric: number(found.upper(name, metric)) for metric in METRICS},
                "threshold": {metric: number(found.threshold(name, metric)) for metric in METRICS},
                "floor": {
                    metric: number(randomise.mean(found.floor[name][metric])) for metric in METRICS
                },
                **{
                    mode: {metric: means(values) for metric, values in by_map[name].items()}
                    for mode, by_map in found.similarity.items()
                },
            }
            for name in found.maps
        },
    }
