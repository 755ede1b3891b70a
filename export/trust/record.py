"""What was measured of a file's maps, as numbers that JSON takes.

``{"schema": 1, "backlit", "file", "file_sha256", "source": name or null, "source_is_recorded",
"precision", "provider", "seconds": {section: s}, "images": {"drawn", "of", "seed", "sources": [..],
"notes": [..]}, "maps": [names], "parity", "completeness", "sanity", "perturbation", "pointing",
"per_image"}``. Each of the five sections has ``"missing"``, a sentence that says what it needs, or:

* ``parity`` (verify.py): ``agrees``, ``problems``, all fields of the metadata's ``verification``,
  ``compared``: per test image and class ``image``, ``class``, ``cosine``, ``relative_l2``.
* ``completeness`` (evaluation/complete.py): ``gradient_of`` ("file" or "source"), ``images``,
  ``baseline``, ``steps``, ``median`` and ``upper_quartile`` of the relative error by step,
  ``plain`` (median of one gradient instead), ``per_image``: ``gain`` and ``sums`` by step.
* ``sanity`` (randomise.py): ``images``, ``layers`` from the scores to the image, ``depths``,
  ``half``, ``separates`` (whether the control fails; null without one), ``maps``: by name
  ``verdict``, ``flat``, ``upper``, ``threshold``, ``floor`` by metric,
  ``cascading`` and ``independent``: by metric the means by step.
* ``perturbation`` (evaluation/perturb.py): ``images``, ``share``, ``orders``: by name
  ``insertion`` and ``deletion``: ``area``, ``low``, ``high`` (95 % bootstrap interval), ``beats``
  (how many images are better than in the centred order), ``mean``, ``lower_quartile``,
  ``upper_quartile`` by share.
* ``pointing`` (evaluation/pointing.py): ``rounds``, ``classes``, ``maps``: by name ``accuracy``,
  ``low``, ``high``.
* ``per_image``: ``image``, ``class``, ``label``, ``probability``, ``insertion`` and ``deletion``:
  areas by order.

A number that does not exist is null.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ...runtime.contract import Contract
from ...runtime.evaluation import metrics
from ..verify.verify import Parity
from . import complete, perturb, randomise
from .pointing import Pointing
from .randomise import Sanity
from .sample import Sampling
from .similarity import METRICS

Record = dict[str, Any]

SCHEMA = 1
KINDS: tuple[perturb.Kind, ...] = ("insertion", "deletion")

_SOURCE = "give the classifier that the file was made of: backlit verify FILE SOURCE --report ..."


def completeness(whose: str, found: complete.Completeness) -> Record:
    """The section of that name, of the file's own gradient or the source's."""
    errors = {steps: found.errors(sums) for steps, sums in found.sums.items()}
    return {
        "gradient_of": whose,
        "images": len(found.gain),
        "baseline": complete.BASELINE,
        "steps": list(found.sums),
        "median": [number(np.median(each)) for each in errors.values()],
        "upper_quartile": [number(np.quantile(each, 0.75)) for each in errors.values()],
        "plain": number(np.median(found.errors(found.plain))),
        "per_image": [
            {"gain": number(gain), "sums": [number(sums[n]) for sums in found.sums.values()]}
            for n, gain in enumerate(found.gain)
        ],
    }


def parity(found: Parity | None) -> Record:
    """The section of that name."""
    if found is None:
        return {"missing": _SOURCE}
    return {
        "agrees": not found.problems,
        "problems": list(found.problems),
        **dataclasses.asdict(found.verification),
        "compared": [
            {
                "image": one.image, "class": one.index, "cosine": number(one.cosine),
                "relative_l2": number(one.relative_l2),
            }
            for one in found.compared
        ],
    }  # fmt: skip


def sanity(found: Sanity | None, images: int) -> Record:
    """The section of that name, of so many images."""
    if found is None:
        return {"missing": _SOURCE}

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


def perturbation(curves: Mapping[str, perturb.Curves], blind: str, seed: int) -> Record:
    """The section of that name; ``blind`` is the order that the others are to beat."""

    def one(name: str, kind: perturb.Kind) -> Record:
        areas, others = curves[name].areas(kind), curves[blind].areas(kind)
        values: npt.NDArray[np.float64] = getattr(curves[name], kind)
        low, high = metrics.bootstrap(lambda rows: float(np.mean(rows)), areas, seed=seed)
        better = areas > others if kind == "insertion" else areas < others
        return {
            "area": number(areas.mean()), "low": number(low), "high": number(high),
            "beats": int(better.sum()), "mean": numbers(values.mean(0)),
            "lower_quartile": numbers(np.quantile(values, 0.25, axis=0)),
            "upper_quartile": numbers(np.quantile(values, 0.75, axis=0)),
        }  # fmt: skip

    some = next(iter(curves.values()))
    return {
        "images": len(some.insertion),
        "share": numbers(some.share),
        "orders": {name: {kind: one(name, kind) for kind in KINDS} for name in curves},
    }


def pointing(played: Pointing | None, seed: int) -> Record:
    """The section of that name."""
    if played is None:
        return {"missing": "no image came with boxes: give a data set that has some."}
    found = {}
    for name in played.hits:
        low, high = played.interval(name, seed)
        found[name] = {
            "accuracy": number(played.accuracy(name)), "low": number(low), "high": number(high)
        }  # fmt: skip
    return {"rounds": len(played.classes), "classes": len(set(played.classes)), "maps": found}


def images(
    sampling: Sampling,
    contract: Contract,
    classes: npt.NDArray[np.int64],
    shares: npt.NDArray[np.float64],
    curves: Mapping[str, perturb.Curves],
) -> list[Record]:
    """``per_image``: its top class, and the areas of all orders."""
    rows = []
    for n, one in enumerate(sampling.samples):
        index = int(classes[n])
        label = None if contract.labels is None else contract.labels[index]
        row = {
            "image": one.name, "class": index, "label": label, "probability": number(shares[n])
        }  # fmt: skip
        for kind in KINDS:
            row[kind] = {name: number(curve.areas(kind)[n]) for name, curve in curves.items()}
        rows.append(row)
    return rows


def number(value: Any) -> float | None:
    """Six digits, which is more than any of it means; JSON has no NaN."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")


def numbers(values: npt.NDArray[Any]) -> list[float | None]:
    """Several."""
    return [number(value) for value in values]
