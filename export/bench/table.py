"""A benchmark for people: a table in the terminal, a Markdown page for the record."""

from __future__ import annotations

import datetime
import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .result import Case, Result

MB = 2**20


def machine() -> dict[str, Any]:
    """What a benchmark ran on: processor, cores, vector instructions, system, Python, date."""
    cpu, flags = platform.processor() or platform.machine(), ""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in reversed(lines):
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            cpu = value.strip()
        if key.strip() == "flags":
            flags = value
    vectors = [name for name in ("avx2", "avx512f", "avx512_vnni", "amx_tile") if name in flags]
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "vectors": vectors,
        "system": platform.platform(),
        "python": platform.python_version(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def versions(cases: Iterable[Case]) -> dict[str, str]:
    """Every package that a contender ran on."""
    found: dict[str, str] = {}
    for case in cases:
        for result in case.results:
            found |= {name: version for name, version in result.versions.items() if version}
    return dict(sorted(found.items()))


def show(console: Console, case: Case) -> None:
    """One row per contender, the fastest first; then those that did not run, with the reason."""
    made = Table(title=title(case), title_justify="left", box=None, pad_edge=False)
    made.add_column("contender", no_wrap=True)
    for name in ("ratio", "quartiles", "ms", "memory", "per image", "opened", "maps"):
        made.add_column(name, justify="right", no_wrap=True)
    ran = [r for r in case.results if r.status == "ok"]
    for r in sorted(ran, key=lambda r: r.ratio or r.seconds or 0):
        made.add_row(
            r.contender, _number(r.ratio), spread(r), f"{(r.seconds or 0) * 1e3:.1f}",
            megabytes(r.running_bytes), megabytes(r.per_image_bytes),
            f"{r.open_seconds or 0:.1f} s", "" if r.distance is None else f"{r.distance:.0e}",
            style=None if r.agrees else "bold red",
        )  # fmt: skip
    console.print(made)
    for r in ran:
        if not r.agrees:
            console.print(f"[bold red]WRONG[/] {r.contender}: it computes something else")
    for r in case.results:
        if r.status != "ok":
            colour = "red" if r.status == "failed" else "dim"
            text = Text(f"{r.status} {r.contender}: {r.reason}", style=colour)
            console.print(text, soft_wrap=True)
    console.print()


def title(case: Case) -> str:
    """What was run."""
    return (
        f"{case.model}, {case.height} x {case.width}, batch {case.batch}, K {case.k}, "
        f"{case.threads} thread{'s' * (case.threads > 1)}, {case.rounds} rounds"
    )


def spread(result: Result) -> str:
    """The quartiles of the ratio."""
    if result.low is None or result.high is None:
        return ""
    return f"{result.low:.2f}..{result.high:.2f}"


def megabytes(count: float | None) -> str:
    """Bytes for people."""
    return "" if count is None else f"{count / MB:.0f} MB"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def geometric_mean(cases: Sequence[Case], contender: str) -> float | None:
    """Of a contender's ratios; None unless it ran, and was right, in every case."""
    found = [case.get(contender) for case in cases]
    ratios = [r.ratio for r in found if r is not None and r.ratio is not None and r.agrees]
    return statistics.geometric_mean(ratios) if ratios and len(ratios) == len(cases) else None


def markdown(cases: Sequence[Case]) -> str:
    """Tables of cases that share batch, K and threads: ratios, memory; and what did not run.

    A ratio is followed by its quartiles. Cells tell what failed and what was wrong.
    """
    names = list(dict.fromkeys(
        r.contender for case in cases for r in case.results if r.status != "absent"
    ))  # fmt: skip
    shown = [name for name in names if name != "forward"]
    head = f"| | forward, ms | {' | '.join(shown)} |"
    lines = ["Times over the forward pass: median (quartiles).", "", head]
    lines.append("|---" + "|--:" * (len(shown) + 1) + "|")
    for case in cases:
        cells = [_cell(case.get(name)) for name in shown]
        yardstick = case.get("forward")
        milliseconds = (yardstick.seconds or 0) * 1e3 if yardstick is not None else 0
        lines.append(f"| {case.model} | {milliseconds:.1f} | {' | '.join(cells)} |")
    if len(cases) > 1:
        means = [_number(geometric_mean(cases, name)) or "-" for name in shown]
        lines.append(f"| **geometric mean** | | {' | '.join(f'**{m}**' for m in means)} |")
    lines += ["", "Memory per image in flight, MB (and of the whole process while it runs).", ""]
    lines += [f"| | {' | '.join(names)} |", "|---" + "|--:" * len(names) + "|"]
    for case in cases:
        cells = [_memory(case.get(name)) for name in names]
        lines.append(f"| {case.model} | {' | '.join(cells)} |")
    lines += ["", "Seconds to open.", ""]
    lines += [f"| | {' | '.join(names)} |", "|---" + "|--:" * len(names) + "|"]
    for case in cases:
        opened = [case.get(name) for name in names]
        cells = ["" if r is None or r.open_seconds is None else f"{r.open_seconds:.2f}"
                 for r in opened]  # fmt: skip
        lines.append(f"| {case.model} | {' | '.join(cells)} |")
    notes = [
        f"* {case.model}, {r.contender}: {_plain(r.reason)}"
        for case in cases for r in case.results if r.status == "failed"
    ]  # fmt: skip
    absent = {r.contender: r.reason for c in cases for r in c.results if r.status == "absent"}
    notes += [f"* {name}: not run, {_plain(reason)}" for name, reason in absent.items()]
    return "\n".join([*lines, "", *notes]).rstrip() + "\n"


def _plain(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _cell(result: Result | None) -> str:
    if result is None or result.status == "absent":
        return "-"
    if result.status == "failed":
        return "failed"
    said = f"{_number(result.ratio)} ({spread(result)})" if result.ratio is not None else "?"
    return said if result.agrees else f"{said} **WRONG**"


def _memory(result: Result | None) -> str:
    if result is None or result.per_image_bytes is None or result.running_bytes is None:
        return ""
    return f"{result.per_image_bytes / MB:.0f} ({result.running_bytes / MB:.0f})"
