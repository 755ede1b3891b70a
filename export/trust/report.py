"""The page of a trust report."""

from __future__ import annotations

from collections.abc import Iterator

from ...runtime.drawing.html import Case, Gallery, Part, Picture, Report, jpeg
from .measure import Findings
from .numbers import Record, three
from .pictures import overlay
from .questions.sanity import UNSEPARATED
from .questions.table import QUESTIONS

_PICTURE_BYTES = 1_150_000
"""All pictures of a page, before base64 makes them a third longer; the rest is some 60 kB."""

_MOST_SHOWN = 60


def report(found: Findings) -> Report:
    """The page."""
    record, study = found.record, found.study
    count = min(_MOST_SHOWN, len(study.sampling.samples))
    pictures = count * (1 + len(study.maps))
    pictures += sum(row.pictures(found.answers[row.name]) for row in QUESTIONS)
    most = min(12_000, _PICTURE_BYTES // pictures)
    images = record["images"]
    facts = [
        ("file", f"{record['file']} (SHA-256 {record['file_sha256'][:16]})"),
        ("source", _source(record)),
        ("images", f"{images['drawn']} of {images['of']}, drawn with seed {images['seed']}, from "
         + ", ".join(images["sources"])),
        ("maps", ", ".join(record["maps"])),
        *(("note", note) for note in images["notes"][:20]),
    ]  # fmt: skip
    parts = (
        *(row.part(found.answers[row.name], study, most) for row in QUESTIONS),
        Part(
            "The images",
            (f"{count} of them, each with its top class and the maps of that class.",),
            (Gallery("", tuple(_cases(found, most))),),
        ),
    )
    return Report(
        title=f"Reasons to trust {record['file']}",
        summary=_summary(record),
        facts=(
            *facts,
            *((row.short, part.verdict) for row, part in zip(QUESTIONS, parts, strict=False)),
        ),
        sections=parts,
        footer=f"backlit {record['backlit']}: backlit verify --report. The same numbers stand in "
        "the JSON file beside this page.",
    )


def _summary(record: Record) -> str:
    """What matters most, in a sentence or two."""
    parity, sanity = record["parity"], record["sanity"]
    if "missing" in parity or "missing" in sanity:
        return "Measured of the file alone; with its source, parity and the sanity check would be."
    word = "is" if parity["agrees"] else "is NOT"
    by_verdict: dict[str, list[str]] = {}
    for name, one in sanity["maps"].items():
        by_verdict.setdefault(one["verdict"], []).append(name)
    said = {
        "passes": "Changed by re-drawing the weights, as they must be",
        "fails": "Hardly changed", "undecided": "Undecided",
    }  # fmt: skip
    found = [f"{said[key]}: {', '.join(by_verdict[key])}." for key in said if key in by_verdict]
    if sanity["separates"] is not True:
        found.append(f"But {UNSEPARATED[sanity['separates']]}.")
    return " ".join([f"The gradient {word} the classifier's own.", *found])


def _source(record: Record) -> str:
    if record["source"] is None:
        return "not given"
    changed = "" if record["source_is_recorded"] else " (not the one that the file records)"
    return f"{record['source']}{changed}"


def _cases(found: Findings, most: int) -> Iterator[Case]:
    shown = found.study.sampling.samples[:_MOST_SHOWN]
    first = next(iter(found.study.maps))
    for n, (one, row) in enumerate(zip(shown, found.record["per_image"], strict=False)):
        label = row["label"] or f"class {row['class']}"
        pictures = [(one.picture, "image")]
        pictures += [(overlay(one, maps[n]), name) for name, maps in found.study.maps.items()]
        areas = ", ".join(f"{kind} {three(row[kind][first])}" for kind in ("insertion", "deletion"))
        yield Case(
            one.name,
            f"{label}, probability {row['probability']:.2f}. {first}: {areas}.",
            tuple(Picture(jpeg(p, most), f"{one.name}: {text}") for p, text in pictures),
        )
