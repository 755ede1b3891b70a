"""The GPU benchmark for people: docs/measured/gpu.md and gpu.json."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.gpu.result import Key, Result

MB = 2**20
INTRO = """\
# What a saliency map costs on a GPU

Written by `make gpu-bench`. Each contender runs in a process of its own, open for the whole case;
they take turns, several runs each per round, one uncounted run before them, and every run is over
when the device is done (synchronised wall time). Given are medians over the rounds; quartiles are
in `gpu.json`. `forward` is the part of the Backlit file that makes the scores, on the same provider
and in the same manner; `torch-forward` is PyTorch's own, without autograd, in float16 as a whole
where that is asked for. The number in brackets is the time over that yardstick's in the same round:
of `backlit` over `forward` (`-graph` over `forward-...-graph`), of torch's over `torch-forward`. In
a file in fp16 what decides ReLU masks stays in float32, so its `forward` mostly does, too.

`-graph` is with CUDA graphs. torch runs with frozen weights in channels-last layout, one backward
pass per class, cuDNN's benchmark mode, pinned memory; fp16 by autocast in `torch` and `captum`, the
network in float16 as a whole in `torch-half` and `torch-compile` (max-autotune, so with CUDA
graphs; compiled for the case's own shape). Weights are random (seeded), with BatchNorm statistics
as if trained. Images are {size} x {size} pixels, uint8."""


class Kept:
    """Cases, as they lie in their files."""

    def __init__(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Read them.

        Args:
            lines: of bench.py, one per case.
        """
        self.lines = list(lines)
        self.cases: dict[Key, list[Result]] = {
            Key(**line["case"]): [Result.read(result) for result in line["results"]]
            for line in lines
        }

    def get(self, key: Key, contender: str) -> Result | None:
        """A contender's result, if it ran and was right."""
        found = (r for r in self.cases.get(key, []) if r.contender == contender)
        return next((r for r in found if r.status == "ok" and r.agrees), None)

    def best(self, key: Key, start: str, mode: str = "device") -> Result | None:
        """The fastest whose name begins so."""
        found = [
            r for r in self.cases.get(key, [])
            if r.contender.startswith(start) and r.status == "ok" and r.agrees
        ]  # fmt: skip
        return min(found, key=lambda r: r.figures[mode].seconds, default=None)

    def worst(self) -> tuple[Key, Result] | None:
        """The case and contender of Backlit's largest ratio, the better of its forms counting."""
        found = [
            (key, made) for key in self.cases
            if (made := self.best(key, "backlit")) and made.figures["device"].ratio is not None
        ]  # fmt: skip
        return max(found, key=lambda pair: pair[1].figures["device"].ratio or 0, default=None)


def page(
    kept: Kept, parities: Mapping[str, Sequence[Mapping[str, Any]]], notes: Iterable[str] = (),
    profile: Mapping[str, Any] | None = None,
) -> str:  # fmt: skip
    """docs/measured/gpu.md.

    Args:
        kept: the cases.
        parities: by model; those that are not good tell why their model has no figures.
        notes: sentences for the list at the top.
        profile: of the case with the worst ratio.
    """
    where = kept.lines[-1]["machine"]
    used = {k: v for case in kept.cases.values() for r in case for k, v in r.versions.items()}
    gpu = where.get("gpu")
    hardware = (
        f"{gpu['name']}, driver {gpu['driver']}, {gpu['memory']}; " if gpu
        else "**No GPU**: a rehearsal on the CPU provider. "
    )  # fmt: skip
    tf32 = {bool(line["tf32"]) for line in kept.lines}
    mixed = len({line["sources"] for line in kept.lines}) > 1
    lines = [
        INTRO.format(size=kept.lines[-1]["size"]), "",
        "TF32 in float32 products and convolutions: "
        + " and ".join("on" if on else "off" for on in sorted(tf32)) + ", for everyone.", "",
        f"{hardware}{where['cpu']}, {where['cores']} cores; {where['system']}; "
        f"Python {where['python']}; {where['date']}.",
        ", ".join(f"{name} {version}" for name, version in sorted(used.items())) + ".", "",
        *(["The sources changed between some of these measurements.", ""] if mixed else []),
        *[f"* {line}" for line in (*notes, *summary(kept))], "", *parity_table(parities),
    ]  # fmt: skip
    groups = sorted({(key.precision, key.k) for key in kept.cases}, key=lambda g: (g[1], g[0]))
    for precision, k in groups:
        keys = [key for key in kept.cases if (key.precision, key.k) == (precision, k)]
        keys.sort(key=lambda key: (key.batch, key.model))
        lines += [f"## {precision}, {'one class' if k == 1 else f'{k} classes'}", ""]
        for title, cell in TABLES.items():
            lines += [title, "", *_table(kept, keys, cell), ""]
        lines += [*_failures(kept, keys), ""]
    if profile is not None:
        lines += profile_table(profile)
    return "\n".join(lines).rstrip() + "\n"


def _rate(key: Key, result: Result, mode: str) -> str:
    figure = result.figures[mode]
    ratio = "" if figure.ratio is None else f" ({figure.ratio:.2f})"
    return f"{key.batch / figure.seconds:.0f}{ratio}"


def _latency(key: Key, result: Result) -> str:
    parts = [
        f"{f.seconds * 1e3:.2f} ({f.low * 1e3:.2f}..{f.high * 1e3:.2f})"
        for f in (result.figures["device"], result.figures["host"])
    ]
    return " / ".join(parts)


def _rest(key: Key, result: Result) -> str:
    start = (result.open_seconds or 0) + (result.first_seconds or 0)
    off = "" if result.distance is None else f", {result.distance:.0e}"
    return f"{(result.memory_bytes or 0) / MB:.0f} MB, {start:.1f} s{off}"


TABLES = {
    "Images per second, images and maps on the device (times the forward pass).":
        lambda key, result: _rate(key, result, "device"),
    "Images per second, from the host's memory and back (times the forward pass).":
        lambda key, result: _rate(key, result, "host"),
    "Milliseconds of a run (quartiles): on the device / from the host's memory and back.": _latency,
    "Memory, seconds to the first result (compiling included), maps' relative L2 distance from "
    "the CPU's in float32.": _rest,
}  # fmt: skip


def _table(kept: Kept, keys: Sequence[Key], cell: Any) -> list[str]:
    names = list(dict.fromkeys(
        r.contender for key in keys for r in kept.cases[key] if r.status != "absent"
    ))  # fmt: skip
    lines = [f"| | batch | {' | '.join(names)} |", "|---" + "|--:" * (len(names) + 1) + "|"]
    for key in keys:
        cells = []
        for name in names:
            result = next((r for r in kept.cases[key] if r.contender == name), None)
            if result is None or result.status == "absent":
                cells.append("-")
            elif result.status == "failed":
                cells.append("failed")
            else:
                cells.append(cell(key, result) + ("" if result.agrees else " **WRONG**"))
        lines.append(f"| {key.model} | {key.batch} | {' | '.join(cells)} |")
    return lines


def _failures(kept: Kept, keys: Sequence[Key]) -> list[str]:
    found: dict[str, str] = {}
    for key in keys:
        for r in kept.cases[key]:
            if r.status == "failed":
                found[f"* {key.model}, batch {key.batch}, {r.contender}: {_plain(r.reason)}"] = ""
            if r.elsewhere:
                left = f"{r.elsewhere} nodes are left to another provider"
                found[f"* {key.model}, {r.contender}: {left}."] = ""
            if r.status == "absent":
                found[f"* {r.contender}: not run, {_plain(r.reason)}"] = ""
    return list(found)


def summary(kept: Kept) -> list[str]:
    """What is asked of the benchmark, a line each."""
    lines = []
    for precision, batch, k in sorted({(key.precision, key.batch, key.k) for key in kept.cases}):
        keys = [
            key for key in kept.cases if (key.precision, key.batch, key.k) == (precision, batch, k)
        ]
        pairs = [(key, r) for key in keys if (r := kept.best(key, "backlit"))]
        ratios = [r.figures["device"].ratio for _, r in pairs if r.figures["device"].ratio]
        if len(ratios) != len(keys) or not ratios:
            continue
        text = (
            f"{precision}, batch {batch}, K {k}: {statistics.geometric_mean(ratios):.2f} forward "
            f"passes (geometric mean of {len(ratios)}, the better of Backlit's forms counting)"
        )
        for start in ("torch-compile", "torch"):
            faster = [
                peer.figures["device"].seconds / mine.figures["device"].seconds
                for key, mine in pairs if (peer := _peer(kept, key, start))
            ]  # fmt: skip
            if faster:
                every = f" in {len(faster)} of them" if len(faster) < len(keys) else ""
                text += f"; {statistics.geometric_mean(faster):.2f} times as fast as {start}{every}"
        lines.append(text + ".")
    for key in kept.cases:
        for mode in ("device", "host"):
            plain = kept.get(key, "backlit-cuda")
            graph = kept.get(key, "backlit-cuda-graph")
            if key.batch == 1 and key.k == 1 and plain and graph:
                before, after = (r.figures[mode].seconds * 1e3 for r in (plain, graph))
                lines.append(
                    f"{key.model}, {key.precision}, batch 1, {mode}: CUDA graphs take {before:.2f} "
                    f"ms to {after:.2f} ms."
                )
    return lines


def _peer(kept: Kept, key: Key, start: str) -> Result | None:
    """torch-compile; or the fastest of torch without compiling."""
    if start == "torch-compile":
        return kept.get(key, start)
    found = [r for name in ("torch", "torch-half") if (r := kept.get(key, name))]
    return min(found, key=lambda r: r.figures["device"].seconds, default=None)


def parity_table(parities: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """How far Backlit's files are from the CPU provider in float32, TF32 off."""
    lines = [
        "## Parity with the CPU provider in float32, TF32 off", "",
        "Relative L2 distance of the maps (median, largest) and largest relative difference of a "
        "score. `own`: how far the CPU provider's maps are from float64 themselves (median); "
        "rounding flips ReLU masks.", "",
        "| | contender | precision | maps, median | maps, largest | scores | own | |",
        "|---|---|---|--:|--:|--:|--:|---|",
    ]  # fmt: skip
    for model, each in parities.items():
        for line in each:
            if "reason" in line:
                cells = ["", "", "", "", f"**refused**: {_plain(line['reason'])}"]
            else:
                cells = [_small(line[part]) for part in ("map", "worst", "scores", "own")]
                cells.append("good" if line["good"] else "**refused**: no speeds of a wrong map")
            start = f"| {model} | {line['contender']} | {line['precision']} | "
            lines.append(start + " | ".join(cells) + " |")
    return [*lines, ""]


def profile_table(profile: Mapping[str, Any]) -> list[str]:
    """Where the time goes."""
    lines = [
        f"## Where the time goes: {profile['case']}, {profile['contender']}", "",
        "The worst ratio. ONNX Runtime's profile per operator, milliseconds per run"
        + (", every launch waiting for its kernel (CUDA_LAUNCH_BLOCKING=1)" if profile["blocking"]
           else "") + "; beside it the forward part alone.", "",
        "| operator | provider | nodes | ms | share | forward: nodes | ms |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]  # fmt: skip
    whole, plain = profile["backlit"], profile["forward"]
    beside = {(name, provider): (nodes, s) for name, provider, nodes, s in plain["operators"]}
    for name, provider, nodes, seconds in whole["operators"]:
        count, forward = beside.get((name, provider), (0, 0.0))
        share = seconds / whole["seconds"] if whole["seconds"] else 0
        lines.append(
            f"| {name} | {provider.removesuffix('ExecutionProvider')} | {nodes} | "
            f"{seconds * 1e3:.3f} | {share:.0%} | {count or ''} | "
            f"{f'{forward * 1e3:.3f}' if count else ''} |"
        )
    lines += [
        f"| all | | | {whole['seconds'] * 1e3:.3f} | | | {plain['seconds'] * 1e3:.3f} |", "",
        "The slowest nodes.", "", "| node | operator | ms |", "|---|---|--:|",
    ]  # fmt: skip
    lines += [f"| `{node}` | {operator} | {s * 1e3:.3f} |" for node, operator, s in whole["nodes"]]
    if profile.get("kernels"):
        lines += ["", "CUDA kernels (CUPTI), milliseconds per run.", ""]
        lines += ["| kernel | launches | ms |", "|---|--:|--:|"]
        lines += [f"| `{name}` | {n:.0f} | {s * 1e3:.3f} |" for name, n, s in profile["kernels"]]
    elif profile.get("kernels_reason"):
        lines += ["", f"No times of kernels: {_plain(profile['kernels_reason'])}."]
    return [*lines, ""]


def _plain(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _small(value: float | None) -> str:
    return "not a number" if value is None else f"{value:.1e}"
