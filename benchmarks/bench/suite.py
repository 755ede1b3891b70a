"""The benchmark of the record: make bench.

    python -m benchmarks.bench.suite [--only PATTERN] [--rounds N] [--again] [--write]

Nine classifiers at 224 pixels on one thread, in batches of 4 and of 1, one class; and five classes
for three of them. Each case is a file in out/bench; what is there and was measured with the same
sources is not run again. At the end docs/measured/bench.md is written from all of them.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from backlit.export.bench import bench
from backlit.export.bench import files as bench_files
from backlit.export.bench import table as bench_table
from backlit.export.bench.result import Case, Result
from rich.console import Console

from benchmarks import (
    ROOT,
    pages,
)

RESULTS = ROOT / "out" / "bench"
PAGE = ROOT / "docs" / "measured" / "bench.md"
SIZE = 224
MODELS = (
    "resnet18", "resnet50", "vgg16", "squeezenet1_1", "mobilenet_v2", "densenet121",
    "efficientnet_b0", "convnext_tiny", "vit_b_16",
)  # fmt: skip
FIVE = ("resnet18", "squeezenet1_1", "mobilenet_v2")
BATCHES = (4, 1)
TORCH = ("torch", "torch-channels-last", "torch-batched", "torch-compile", "captum")
SHORT = (
    "backlit-cpu", "backlit-openvino", "torch-compile", "torch-channels-last", "torch", "captum",
    "onnx-ad",
)  # fmt: skip
INTRO = """\
# How many forward passes does a saliency map cost?

Written by `make bench`. Each contender runs in a process of its own, with the same number of
threads and cores; they take turns, one run each per round, and each time is divided by that of
`forward` in the same round: ONNX Runtime's CPU provider on the part of the Backlit file that makes
the scores. Given are the median of these ratios and their quartiles; the first rounds are thrown
away. A run takes uint8 pixels in memory to scores and saliency maps as numpy arrays. `classifier`
is the source's own ONNX graph, without Backlit's prologue: a check of the yardstick.
`backlit-openvino` runs the file that is exported for it. torch runs
with frozen parameters, one backward pass per class (`torch-batched`: all as one), all but `torch`
in channels-last layout; `torch-compile` compiles pixels to maps as a whole. `-singly` runs a file
once per class. Weights are random (seeded). Every map is compared with Backlit's; **WRONG** marks
one that is not the same (relative L2 distance over 0.1). Memory per image is what the process grew
by since before its first run, over the batch: libraries that load their code late pay for it there,
so the last table has the difference of two batch sizes, too."""


def cases(only: str) -> list[tuple[str, int, int]]:
    """Model, batch, K; those of one model beside each other, so that it is exported once."""
    return [
        (name, batch, k)
        for name in MODELS if fnmatch.fnmatch(name, only)
        for k in ((1, 5) if name in FIVE else (1,)) for batch in BATCHES
    ]  # fmt: skip


def sources() -> str:
    """What a result depends on: a hash of the exporter's and the runtime's sources."""
    digest = hashlib.sha256()
    for file in sorted([*ROOT.glob("export/**/*.py"), *ROOT.glob("runtime/**/*.py")]):
        if "cli" not in file.parts and file.parts[-2:] != ("bench", "table.py"):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def known(name: str, batch: int, k: int) -> dict[str, Any] | None:
    """The result of a case, whatever sources it was measured with."""
    file = RESULTS / f"{name}-batch{batch}-k{k}.json"
    if not file.is_file():
        return None
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def measure(todo: list[tuple[str, int, int]], rounds: int, digest: str) -> None:
    """Run cases and keep each as it is done."""
    from support import zoo

    from benchmarks.bench import networks as bench_models

    console = Console(stderr=True, highlight=False)
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in dict.fromkeys(name for name, _, _ in todo):
        with tempfile.TemporaryDirectory(prefix="backlit-bench-") as folder:
            subject = bench_files.from_source(
                bench_models.Wrapped(zoo.classifier(name)).eval(), Path(folder), name=name,
                size=SIZE, mean=zoo.MEAN, std=zoo.STD,
            )  # fmt: skip
            for batch, k in [(b, k) for n, b, k in todo if n == name]:
                case = bench.run(subject, batch, k, rounds=rounds)
                bench_table.show(console, case)
                kept = {"sources": digest, "machine": bench_table.machine(), "case": case.line()}
                file = RESULTS / f"{name}-batch{batch}-k{k}.json"
                file.write_text(json.dumps(kept, indent=1), encoding="utf-8")
                print(json.dumps(case.line()), flush=True)


def startup() -> float:
    """Seconds of ``backlit --help``, the best of five."""
    times = []
    for _ in range(5):
        started = time.perf_counter()
        command = [sys.executable, "-m", "backlit.runtime", "--help"]
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - started)
    return min(times)


def fastest(case: Case, start: str | tuple[str, ...]) -> Result | None:
    """The fastest contender that ran, was right, and is named so."""
    found = [
        r for r in case.results
        if r.contender.startswith(start) and r.ratio is not None and r.agrees
        and not r.contender.endswith("-singly")
    ]  # fmt: skip
    return min(found, key=lambda r: r.ratio or 0, default=None)


def summary(done: dict[tuple[int, int], list[Case]]) -> list[str]:
    """What is asked of the benchmark, in one line each."""
    lines = []
    for (batch, k), group in done.items():
        if k > 1:
            lines += [five(case, name) for case in group for name in ("cpu", "openvino")
                      if (r := case.get(f"backlit-{name}")) and r.status != "absent"]  # fmt: skip
            continue
        best = [r.ratio for case in group if (r := fastest(case, "backlit-")) and r.ratio]
        cpu = bench_table.geometric_mean(group, "backlit-cpu")
        own = f"{cpu:.2f}" if cpu is not None else "not known"
        if best:
            slowest = max(group, key=lambda c: getattr(fastest(c, "backlit-"), "ratio", 0) or 0)
            mean = statistics.geometric_mean(best)
            lines.append(
                f"Batch {batch}: geometric mean {mean:.2f} on the best provider, {own} on ONNX "
                f"Runtime's own CPU provider; at most {max(best):.2f} ({slowest.model})."
            )
        for case in group:
            mine, peer = fastest(case, "backlit-"), fastest(case, TORCH)
            if mine and peer and (mine.ratio or 0) >= (peer.ratio or 0):
                lines.append(
                    f"Batch {batch}, {case.model}: {peer.contender} is faster, {peer.ratio:.2f} "
                    f"against {mine.ratio:.2f}."
                )
    return lines


def five(case: Case, provider: str) -> str:
    """K classes in one run against K runs, in time and memory."""
    mine, singly = case.get(f"backlit-{provider}"), case.get(f"backlit-{provider}-singly")
    line = f"{case.model} on {provider}, batch {case.batch}, K {case.k}: "
    peer = fastest(case, TORCH)
    if not (mine and singly and mine.times and singly.times):
        return line + "not measured."
    share = sorted(a / b for a, b in zip(mine.times, singly.times, strict=True))
    line += (
        f"one run takes {share[len(share) // 2]:.2f} of {case.k} runs of one class, "
        f"{mine.ratio:.2f} forward passes"
    )
    if peer:
        line += f" (the best of torch: {peer.contender}, {peer.ratio:.2f})"
    if mine.running_bytes and singly.running_bytes:
        line += f"; its process takes {mine.running_bytes / singly.running_bytes:.2f} of the memory"
    return line + "."


def slopes(done: dict[tuple[int, int], list[Case]]) -> list[str]:
    """Memory of one more image: (batch 4 - batch 1) / 3, free of what is only paid once."""
    four, one = done.get((4, 1), []), {c.model: c for c in done.get((1, 1), [])}
    pairs = [(case, one[case.model]) for case in four if case.model in one]
    if not pairs:
        return []
    names = [r.contender for r in pairs[0][0].results if r.running_bytes]
    lines = ["## Memory of one more image, MB: (batch 4 - batch 1) / 3", ""]
    lines += [f"| | {' | '.join(names)} |", "|---" + "|--:" * len(names) + "|"]
    for large, small in pairs:
        cells = []
        for name in names:
            a, b = large.get(name), small.get(name)
            more, less = a and a.running_bytes, b and b.running_bytes
            cells.append(f"{(more - less) / 3 / bench_table.MB:.0f}" if more and less else "-")
        lines.append(f"| {large.model} | {' | '.join(cells)} |")
    return [*lines, ""]


def page(found: list[dict[str, Any]], mixed: bool) -> str:
    """docs/measured/bench.md."""
    done: dict[tuple[int, int], list[Case]] = {}
    for kept in found:
        case = Case.read(kept["case"])
        done.setdefault((case.batch, case.k), []).append(case)
    everything = [case for group in done.values() for case in group]
    where = found[-1]["machine"]
    used = bench_table.versions(everything)
    lines = [
        INTRO, "",
        f"{where['cpu']}, {where['cores']} cores ({', '.join(where['vectors'])}); "
        f"{where['system']}; Python {where['python']}; {where['date']}.",
        ", ".join(f"{name} {version}" for name, version in used.items()) + ".", "",
        *(["The sources changed between some of these measurements.", ""] if mixed else []),
        *[f"* {line}" for line in summary(done)],
        f"* `backlit --help`: {startup():.2f} s.",
    ]  # fmt: skip
    opened = [
        r.open_seconds for case in everything if case.model == "resnet50"
        if (r := case.get("backlit-cpu")) and r.open_seconds is not None
    ]  # fmt: skip
    if opened:
        lines.append(f"* Opening the file of resnet50: {max(opened):.2f} s.")
    compiled = [
        r.open_seconds + r.first_seconds for case in everything if case.model == "resnet50"
        if (r := case.get("backlit-openvino")) and r.open_seconds and r.first_seconds
    ]  # fmt: skip
    if compiled:
        lines.append(
            "* The same on OpenVINO with the first run, for which it compiles: "
            f"{max(compiled):.2f} s."
        )
    lines.append("")
    for (batch, k), group in done.items():
        classes = "one class" if k == 1 else f"{k} classes"
        threads = {case.threads for case in group}
        lines += [f"## Batch {batch}, {classes}, {SIZE} px, {max(threads)} thread", ""]
        lines.append(bench_table.markdown(group))
    lines += slopes(done)
    return "\n".join(lines).rstrip() + "\n"


def short(found: list[dict[str, Any]]) -> str:
    """The table of docs/measured/index.md: ratios at batch 4 and batch 1."""
    cases = [Case.read(kept["case"]) for kept in found]
    one = {(case.model, case.batch): case for case in cases if case.k == 1}
    lines = [f"| | {' | '.join(SHORT)} |", "|---" + "|--:" * len(SHORT) + "|"]
    for model in dict.fromkeys(model for model, _ in one):
        cells = []
        for name in SHORT:
            both = [one[model, b].get(name) if (model, b) in one else None for b in BATCHES]
            texts = [
                "-" if r is None or r.ratio is None else f"{r.ratio:.2f}" if r.agrees else "wrong"
                for r in both
            ]
            cells.append(" / ".join(texts))
        lines.append(f"| {model} | {' | '.join(cells)} |")
    means = []
    for name in SHORT:
        groups = [[case for (_, b), case in one.items() if b == batch] for batch in BATCHES]
        values = [bench_table.geometric_mean(group, name) for group in groups]
        means.append(" / ".join("-" if v is None else f"{v:.2f}" for v in values))
    lines.append(f"| **geometric mean** | {' | '.join(means)} |")
    five_at_once = [
        f"{case.model} {mine.ratio:.1f} ({peer.contender}: {peer.ratio:.1f})"
        for case in cases
        if case.k > 1 and case.batch == max(BATCHES)
        and (mine := fastest(case, "backlit-")) and (peer := fastest(case, TORCH))
    ]  # fmt: skip
    if five_at_once:
        lines += ["", f"Five classes at once, batch {max(BATCHES)}: {', '.join(five_at_once)}."]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", metavar="PATTERN", default="*", help="models, as for fnmatch")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--again", action="store_true", help="also what has a result")
    parser.add_argument("--write", action="store_true", help="run nothing, write the page")
    options = parser.parse_args()
    digest = sources()
    wanted = cases(options.only)
    todo = [
        case for case in wanted
        if options.again or (kept := known(*case)) is None or kept["sources"] != digest
    ]  # fmt: skip
    if not options.write:
        measure(todo, options.rounds, digest)
    found = [kept for case in cases("*") if (kept := known(*case)) is not None]
    if not found:
        print("there are no results", file=sys.stderr)
        return 1
    found.sort(key=lambda kept: (kept["case"]["k"], -kept["case"]["batch"]))
    PAGE.write_text(page(found, len({kept["sources"] for kept in found}) > 1), encoding="utf-8")
    pages.put(short(found), "bench")
    bad = [r for kept in found for r in kept["case"]["results"]
           if r["status"] == "failed" or not r["agrees"]]  # fmt: skip
    for result in bad:
        print(f"{result['contender']}: {result['reason'] or 'WRONG'}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
