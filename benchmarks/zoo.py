"""Export every torchvision classifier (with --timm: one of every timm family) and judge it.

    python -m benchmarks.zoo [--timm] [--only PATTERN] [--jobs N] [--again]

Each model is exported in a process of its own, with bounded memory and time; its result is a line
of out/zoo.jsonl, and what is there is not run again. At the end the tables in
docs/measured/torchvision.md and docs/measured/timm.md are written from all results.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import fnmatch
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import ROOT, pages

RESULTS = ROOT / "out" / "zoo.jsonl"
SIZES = {"inception_v3": 299}  # the others at 224
CAPTION = """\
Weights are random (seeded), BatchNorm statistics those of pictures, and the input is 224 x 224
(Inception v3: 299 x 299). Cosine and relative L2 distance are what `backlit export` itself measures
against torch.autograd in float64. Deep networks with random weights flip ReLU masks near zero in
float32, PyTorch's as well; where that takes the distance over 1e-2, the file's own gradient is
computed in float64 too, and its distance from the classifier's differences stands in the next
column. Seconds are those of the export without verification, memory the peak of the whole process,
verification included."""
TIMM_CAPTION = """\
The smallest model of every family (module) of timm, at its own input size (qwen3_vit, gemma4_vit
and deepseek_vit at 224); the columns are those of the
[torchvision table](torchvision.md)."""


def names(library: str) -> list[str]:
    """What is to be run: ``torchvision:NAME`` or ``timm:NAME``, small ones first."""
    if library == "timm":
        lines = (ROOT / "benchmarks" / "zoo_timm.txt").read_text(encoding="utf-8").splitlines()
        return [f"timm:{line}" for line in lines if line and not line.startswith("#")]
    from support import zoo

    models = zoo.torchvision().models
    weights = {n: models.get_model_weights(n).DEFAULT for n in models.list_models(module=models)}
    by_size = sorted(weights, key=lambda name: weights[name].meta["num_params"])
    return [f"torchvision:{name}" for name in by_size]


def judge(source: str, memory: float) -> dict[str, Any]:
    """Export one model in this process, verification and all, and say what came out."""
    limit = int(memory * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    from backlit.export import export
    from support import zoo

    library, _, name = source.partition(":")
    if library == "timm":
        model, size = zoo.timm_classifier(name)
    else:
        size = SIZES.get(name, 224)
        model = zoo.classifier(name, size=size)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        report = export(model, file, size=size, mean=zoo.MEAN, std=zoo.STD)
        found = report.contract.verification
        if found is None:
            raise ValueError(f"{source} was exported without being verified")
        return {
            "ok": True,
            "exporter": report.contract.source.exporter,
            "size": size,
            "parameters": sum(p.numel() for p in model.parameters()),
            "forward": report.forward,
            "nodes": report.nodes,
            "bytes": report.bytes,
            "seconds": round(report.seconds - report.verify_seconds, 2),
            "verify_seconds": round(report.verify_seconds, 2),
            "cosine": found.cosine,
            "error": found.relative_l2,
            "exact": found.exact,
            "scores": found.scores_relative,
            "refused": list(report.refused),
            "tensorrt": tensorrt(file),
            "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }


def tensorrt(file: Path) -> str | None:
    """NVIDIA's parser's verdict: "whole", what it refuses, or None where it is not installed."""
    from backlit.export.check.check import check_tensorrt
    from backlit.runtime.errors import BacklitError, ModelError

    try:
        report = check_tensorrt(file, parser=True)
    except ModelError as error:
        return str(error).splitlines()[0]
    except BacklitError:
        return None
    if report.taken:
        return "whole"
    return report.error or ", ".join(sorted({f"no {r.operator}" for r in report.refused}))


def run(source: str, memory: float, seconds: float) -> dict[str, Any]:
    """Judge one model in a process of its own."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.zoo", "--judge", source, "--memory", str(memory)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, check=False, cwd=ROOT
        )
        last = done.stdout.strip().splitlines()[-1:] or [""]
        result = json.loads(last[0]) if last[0].startswith("{") else {}
        if not result:
            said = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
            result = {"ok": False, "failure": said[0][:500]}
    except subprocess.TimeoutExpired:
        result = {"ok": False, "failure": f"not done within {seconds:.0f} s"}
    return {"model": source, **result, "wall": round(time.perf_counter() - started, 1)}


def known() -> dict[str, dict[str, Any]]:
    """The newest result of each model."""
    if not RESULTS.is_file():
        return {}
    lines = RESULTS.read_text(encoding="utf-8").splitlines()
    return {result["model"]: result for result in map(json.loads, lines)}


def table(sources: list[str], results: dict[str, dict[str, Any]]) -> tuple[str, list[str]]:
    """A summary line, and the rows of the Markdown table."""
    done = [results[s] for s in sorted(sources, key=_natural) if s in results]
    good = [r for r in done if r["ok"]]
    taken = [r for r in done if r.get("tensorrt") == "whole"]
    rounded = sum(1 for r in good if r.get("exact") is not None)
    rounding = ""
    if rounded:
        rounding = (
            f"In float32, {rounded} of them are more than 1e-2 away, because float32 itself "
            "rounds so; in float64 those agree too. "
        )
    summary = (
        f"{len(good)} of {len(sources)} export and agree with torch.autograd. {rounding}"
        f"NVIDIA's TensorRT parser takes {len(taken)} of {len(sources)} whole."
    )
    rows = [
        "| model | operators | with gradient | file | export | cosine | relative L2 | in float64 "
        "| exporter | memory | TensorRT |",
        "|---|--:|--:|--:|--:|--:|--:|--:|---|--:|---|",
    ]
    for r in done:
        name = r["model"].partition(":")[2]
        if "failure" in r:
            rows.append(f"| {name} | {r['failure']} " + "| " * 9 + "|")
            continue
        rows.append(
            f"| {name} | {r['forward']} | {r['nodes']} | {r['bytes'] / 1e6:.1f} MB "
            f"| {r['seconds']:.1f} s | {r['cosine']:.7f} | {r['error']:.1e} "
            + ("| " if r.get("exact") is None else f"| {r['exact']:.1e} ")
            + f"| {r['exporter']} | {r['peak'] / 2**30:.1f} GiB | {r['tensorrt'] or 'not asked'} |"
        )
    return summary, rows


def write(results: dict[str, dict[str, Any]]) -> None:
    """Write the tables into docs/measured: torchvision.md, between the markers, and timm.md."""
    summary, rows = table(names("torchvision"), results)
    part = "\n".join(
        [f"torchvision's classifiers: {summary}", "", "<details><summary>All of them</summary>", "",
         CAPTION, "", *rows, "", "</details>"]
    )  # fmt: skip
    pages.put(part, "zoo")
    summary, rows = table(names("timm"), results)
    page = ["# timm's families", "", f"{summary}", "", TIMM_CAPTION, "", *rows, ""]
    (ROOT / "docs" / "measured" / "timm.md").write_text("\n".join(page), encoding="utf-8")


def _natural(text: str) -> list[Any]:
    return [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", text)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--timm", action="store_true", help="timm's families instead")
    parser.add_argument("--only", metavar="PATTERN", default="*", help="names, as for fnmatch")
    parser.add_argument("--jobs", type=int, default=1, help="models at a time")
    parser.add_argument("--again", action="store_true", help="also those that have a result")
    parser.add_argument("--memory", type=float, default=20, help="GiB per model")
    parser.add_argument("--seconds", type=float, default=3600, help="per model")
    parser.add_argument("--judge", metavar="SOURCE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.judge:
        try:
            result = judge(options.judge, options.memory)
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            result = {"ok": False, "failure": f"{type(error).__name__}: {' '.join(lines)}"[:500]}
        print(json.dumps(result))
        return 0
    results = known()
    wanted = [
        s for s in names("timm" if options.timm else "torchvision")
        if fnmatch.fnmatch(s.partition(":")[2], options.only)
    ]  # fmt: skip
    todo = [s for s in wanted if options.again or s not in results]
    threads = max(1, (os.cpu_count() or 1) // options.jobs)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    RESULTS.parent.mkdir(exist_ok=True)
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    )  # fmt: skip
    from rich.console import Console

    with (
        Progress(*columns, console=Console(stderr=True)) as progress,
        concurrent.futures.ThreadPoolExecutor(options.jobs) as pool,
        RESULTS.open("a", encoding="utf-8") as file,
    ):
        task = progress.add_task("zoo", total=len(todo))
        futures = {pool.submit(run, s, options.memory, options.seconds): s for s in todo}
        for future in concurrent.futures.as_completed(futures):
            result = future.result()
            results[result["model"]] = result
            file.write(json.dumps(result) + "\n")
            file.flush()
            what = result.get("failure") or (
                f"cosine {result['cosine']:.7f}, relative L2 {result['error']:.1e}, TensorRT "
                f"{result['tensorrt']}, "
                f"{result['seconds']:.1f} s"
            )
            mark = "ok" if result["ok"] else "FAILED"
            progress.console.print(f"{mark} {result['model']}: {what}", markup=False)
            progress.advance(task)
    write(results)
    bad = [s for s in wanted if not results[s]["ok"]]
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
