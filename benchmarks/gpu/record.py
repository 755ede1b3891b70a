"""What the GPU benchmark has found on one machine, and the page that is made of it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from backlit.runtime import files as output
from backlit.runtime.guard import Guard

from benchmarks.gpu.page import Kept, page
from benchmarks.gpu.result import Key, Result

OWN = Guard(overwrite=True)
"""Records and pages of an earlier run are replaced."""


class Record:
    """The results on one machine: a file for each case, complete or not there at all."""

    def __init__(self, folder: Path) -> None:
        """Begin, or go on."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, name: str, values: Any) -> None:
        """Keep something under a name."""
        with output.whole_file(self.folder / f"{name}.json", guard=OWN) as file:
            file.write(json.dumps(values, indent=1, allow_nan=False).encode())

    def read(self, name: str) -> Any:
        """What was kept; None if nothing was."""
        file = self.folder / f"{name}.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None

    def cases(self) -> list[dict[str, Any]]:
        """All cases."""
        found = [json.loads(f.read_text("utf-8")) for f in sorted(self.folder.glob("*-k*.json"))]
        return [line for line in found if "results" in line]

    def missing(self, key: Key, contenders: dict[str, Any], like: dict[str, Any]) -> bool:
        """Whether a case has not been run like that, with all contenders."""
        line = self.read(str(key))
        if line is None or any(line.get(part) != like[part] for part in like):
            return True
        return not contenders.keys() <= {result["contender"] for result in line["results"]}

    def add(self, key: Key, results: list[Result], like: dict[str, Any], **more: Any) -> None:
        """Keep a case, beside what was measured of other contenders in the same way."""
        old, names = self.read(str(key)), {result.contender for result in results}
        lines = [result.line() for result in results]
        if old is not None and all(old.get(part) == like[part] for part in like):
            lines = [r for r in old["results"] if r["contender"] not in names] + lines
        case = dataclasses.asdict(key)
        self.write(str(key), {**like, **more, "case": case, "results": lines})


def written(record: Record, target: Path, say: Callable[[str], None]) -> bool:
    """Write the page and the JSON beside it from all results; not from wrong ones."""
    parities = {line["model"]: line["lines"]
                for file in sorted(record.folder.glob("parity-*.json"))
                for line in [json.loads(file.read_text("utf-8"))]}  # fmt: skip
    sound = {model for model, lines in parities.items() if lines and all(x["good"] for x in lines)}
    lines = [line for line in record.cases() if line["case"]["model"] in sound]
    if not lines:
        say(f"{target.name} is not written: there are no speeds of right maps")
        return False
    profile, notes = record.read("profile"), []
    if profile is not None and profile["model"] not in sound:
        profile = None
    if not any("tensorrt" in r["contender"] for line in lines for r in line["results"]):
        notes = ["TensorRT was not there."]
    text = page(Kept(lines), parities, notes, profile)
    with output.whole_file(target, guard=OWN) as file:
        file.write(text.encode())
    with output.whole_file(target.with_suffix(".json"), guard=OWN) as file:
        whole = {"cases": lines, "parity": parities, "profile": profile}
        file.write((json.dumps(whole, indent=1, allow_nan=False) + "\n").encode())
    say(f"written: {target} and {target.with_suffix('.json')}")
    return True
