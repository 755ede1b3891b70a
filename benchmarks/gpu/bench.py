"""The benchmark on a GPU: make gpu-bench.

    python -m benchmarks.gpu.bench [--device cuda] [--only NAME]... [--batch N]... [--minutes M] ...

Six classifiers at 224 pixels in batches of 64, 1 and 8, in fp16 and fp32, one class; five classes
in batches of 8. First the files are exported and their maps compared with the CPU provider's, TF32
off: a classifier whose maps are wrong gets no speeds. Each case is a file in out/gpu/NAME-OF-GPU as
soon as it is done, and is not run again with the same sources, so that a run can be cut short
(--minutes) and go on later. At the end docs/measured/gpu.md and gpu.json are written from all of
them. Backlit need not be installed: onnx, onnx-ir, onnxscript, onnxruntime-gpu, numpy, Pillow,
OpenCV, click and rich are enough, and torch and torchvision for the classifiers.

Exit status: 0 done, or out of time (said on stderr); 1 something failed; 3 maps are wrong, or a
classifier could not be exported, so that nobody knows.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import datetime
import fnmatch
import importlib.util
import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import ROOT
from benchmarks.gpu import files as gpu_files

OUT = ROOT / "out" / "gpu"
gpu_files.reachable(OUT / "site")

from backlit.export.bench import table as bench_table  # noqa: E402
from backlit.export.bench.process import Failed  # noqa: E402

from benchmarks.gpu import case as gpu_case  # noqa: E402
from benchmarks.gpu.case import OutOfTime, Pool  # noqa: E402
from benchmarks.gpu.page import Kept  # noqa: E402
from benchmarks.gpu.record import Record, written  # noqa: E402
from benchmarks.gpu.result import Key  # noqa: E402

MODELS = ("resnet50", "vgg16", "mobilenet_v2", "efficientnet_b0", "vit_b_16", "convnext_tiny")
BATCHES = (64, 1, 8)  # what matters most first
FIVE = (8, 5)  # batch and K
PAGE = ROOT / "docs" / "measured" / "gpu.md"
PROFILED = 10  # runs
_NVIDIA = ("name", "driver_version", "memory.total", "clocks.max.sm", "power.limit")


def say(text: str) -> None:
    """Progress, with the time."""
    print(f"{datetime.datetime.now():%H:%M:%S} {text}", file=sys.stderr, flush=True)


def gpu() -> dict[str, str] | None:
    """The first GPU as nvidia-smi tells; None where there is none."""
    command = ["nvidia-smi", f"--query-gpu={','.join(_NVIDIA)}", "--format=csv,noheader", "-i", "0"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    values = [value.strip() for value in done.stdout.strip().split(",")]
    names = ("name", "driver", "memory", "clock", "power")
    return dict(zip(names, values, strict=False)) if len(values) == len(_NVIDIA) else None


def tensorrt() -> bool:
    """Whether TensorRT is installed; whether it loads, its contenders will say."""
    if importlib.util.find_spec("tensorrt_libs") is not None:
        return True
    try:
        ctypes.CDLL("libnvinfer.so.10")
    except OSError:
        return False
    return True


def models(only: list[str]) -> list[str]:
    """The classifiers that are meant; a name without wildcards may be any of torchvision's."""
    if not only:
        return list(MODELS)
    found = [name for name in MODELS if any(fnmatch.fnmatch(name, each) for each in only)]
    return found + [each for each in only if each not in found and not set("*?[") & set(each)]


def keys(args: argparse.Namespace) -> list[Key]:
    """The cases that are wanted, what matters most first."""
    if args.batch or args.k:
        shapes = [(b, k) for k in args.k or (1,) for b in args.batch or BATCHES]
    else:
        shapes = [*((batch, 1) for batch in BATCHES), FIVE]
    names = models(args.only)
    return [
        Key(name, precision, batch, k)
        for batch, k in shapes for name in names for precision in args.precision
    ]  # fmt: skip


def all_of(args: argparse.Namespace, precision: str) -> dict[str, Any]:
    """Every contender by name, with that of its yardstick."""
    providers = [args.device]
    if args.device == "cuda" and tensorrt():
        providers.append("tensorrt")
    torch = "cpu" if args.device == "cpu" else "cuda"
    return gpu_case.jobs(precision, providers, torch, args.tf32 == 1, args.threads)


def contenders(args: argparse.Namespace, precision: str) -> dict[str, Any]:
    """Those that are wanted, and their yardsticks."""
    every = all_of(args, precision)

    def wanted(name: str) -> bool:
        chosen = any(fnmatch.fnmatch(name, each) for each in args.contender or ["*"])
        return chosen and not any(fnmatch.fnmatch(name, each) for each in args.without)

    names = [name for name in every if wanted(name)]
    names += [yardstick for name in names if (yardstick := every[name][1])]
    return {name: every[name] for name in every if name in names}


def checked(record: Record, pool: Pool, name: str, folder: Path, args: argparse.Namespace) -> bool:
    """Whether the maps of a classifier are right on the device; measured once for its sources."""
    like = {"sources": digest(), "tf32": 0, "size": args.size, "target": args.target}
    kept = record.read(f"parity-{folder.name}")
    if kept is None or any(kept.get(part) != like[part] for part in like) or args.again:
        lines = []
        for precision in gpu_files.PRECISIONS:
            lines += gpu_case.parity(pool, folder, all_of(args, precision), say)
        kept = {**like, "lines": lines, "model": name}
        record.write(f"parity-{folder.name}", kept)
    bad = [line for line in kept["lines"] if not line["good"]]
    for line in bad:
        why = line.get("reason") or f"maps are off by {line['map']}, scores by {line['scores']}"
        say(f"REFUSED {name}: {line['contender']}, {line['precision']}: {why}")
    return not bad


def digest() -> str:
    """What a result depends on."""
    mine = (f"benchmarks/gpu/{name}.py" for name in ("worker", "torch_peers", "models"))
    return gpu_files.sources("export/**/*.py", "runtime/**/*.py", *mine, "tests/support/zoo.py")


def profiled(
    record: Record, pool: Pool, folders: dict[str, Path], args: argparse.Namespace
) -> None:
    """Where the time goes in the case with the worst ratio."""
    kept = Kept(record.cases())
    found = kept.worst()
    if found is None or found[0].model not in folders:
        return
    key, result = found
    old = record.read("profile")
    like = {"model": key.model, "case": str(key), "contender": result.contender,
            "sources": digest()}  # fmt: skip
    if old is not None and all(old.get(part) == like[part] for part in like):
        return
    say(
        f"profile of {key}, {result.contender}: {result.figures['device'].ratio:.2f} forward passes"
    )
    job, _ = all_of(args, key.precision)[result.contender]
    case = {"folder": str(folders[key.model]), "batch": key.batch, "k": key.k}
    # Of a replayed graph nothing is to be seen; and launches can only block outside a capture.
    plain = dataclasses.replace(job, graph=False)
    made: dict[str, Any] = {**like, "blocking": args.device != "cpu"}
    environment = {"CUDA_LAUNCH_BLOCKING": "1"}
    prefix = str(record.folder / "trace")
    try:
        for part in ("backlit", "forward"):
            made[part] = pool.ask(
                dataclasses.replace(plain, kind=part), environment,
                do="profile", case=case, prefix=prefix, runs=PROFILED,
            )  # fmt: skip
    except Failed as failure:
        say(f"FAILED: profile of {key}: {failure}")
        return
    try:
        made |= pool.ask(plain, do="profile", case=case, runs=PROFILED, kernels=True)
    except Failed as failure:
        made["kernels_reason"] = str(failure)
    record.write("profile", made)


def measure(record: Record, args: argparse.Namespace) -> tuple[bool, bool]:
    """Run what is missing.

    Returns:
        Whether time was enough, and whether all maps were right.
    """
    deadline = math.inf if args.minutes is None else time.monotonic() + 60 * args.minutes
    wanted = keys(args)
    machine = {**bench_table.machine(), "gpu": gpu() if args.device != "cpu" else None}
    pool, right, longest = Pool(deadline), True, 0.0
    like = {"sources": digest(), "tf32": args.tf32, "size": args.size, "target": args.target}
    good: dict[str, bool] = {}
    try:
        for name, (job, _) in all_of(args, "fp32").items():
            if name == f"backlit-{args.device}":
                pool.ask(job, do="ready")  # before minutes are spent on exports
        names = models(args.only)
        folders = gpu_files.prepare(names, args.files, args.size, args.target, say, deadline)
        for key in wanted:
            every = contenders(args, key.precision)
            if key.model not in folders:
                if pool.left <= 0:
                    raise OutOfTime
                right = False  # nobody knows
                continue
            if key.model not in good:
                good[key.model] = checked(record, pool, key.model, folders[key.model], args)
                pool.close()  # those with TF32 off are not needed any more
                right = right and good[key.model]
            if not good[key.model]:
                continue
            if not args.again and not record.missing(key, every, like):
                continue
            if pool.left < longest:
                raise OutOfTime
            started = time.monotonic()
            results = gpu_case.measure(pool, folders[key.model], key, every, args.rounds, say)
            took = time.monotonic() - started
            longest = max(longest, took)
            record.add(key, results, like, machine=machine, rounds=args.rounds, seconds=took)
            for result in results:
                figure = result.figures.get("device")
                text = f"{figure.seconds * 1e3:.2f} ms, {figure.ratio or 1:.2f}" if figure else ""
                say(f"{key} {result.contender}: {result.status} {text}{result.reason}")
        if args.profile and good and all(good.values()):
            profiled(record, pool, folders, args)
    except OutOfTime:
        return False, right
    finally:
        pool.close()
    return True, right


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    add = (parser := argparse.ArgumentParser(description=__doc__.splitlines()[0])).add_argument
    many: dict[str, Any] = {"action": "append", "default": []}
    add("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a rehearsal")
    add("--only", metavar="NAME", **many, help="classifiers, as for fnmatch; repeatable")
    add("--batch", type=int, **many)
    add("--k", type=int, **many, help="classes explained")
    add("--precision", choices=gpu_files.PRECISIONS, **many)
    add("--contender", metavar="PATTERN", **many)
    add("--without", metavar="PATTERN", **many, help="contenders, such as torch-compile")
    add("--rounds", type=int, default=10)
    add("--minutes", type=float, help="begin no case that may not be done by then")
    add("--tf32", type=int, choices=(0, 1), default=1, help="in float32 products, of everyone")
    add("--threads", type=int, default=min(8, os.cpu_count() or 1))
    add("--size", type=int, default=224, help="pixels")
    add("--target", default="portable", help="of the export")
    add("--no-profile", dest="profile", action="store_false")
    add("--again", action="store_true", help="also what has a result")
    add("--write", action="store_true", help="run nothing, write the page")
    add("--out", type=Path, default=OUT, help="folder of the results")
    add("--files", type=Path, help="folder of the exported files; default: OUT/files")
    add("--results", type=Path, help="folder of one machine's results; default: of its GPU")
    add("--page", type=Path, help="default: docs/measured/gpu.md; on the CPU OUT/gpu.md")
    args = parser.parse_args(arguments)
    args.only = [name for given in args.only for name in given.split(",")]
    args.precision = args.precision or ["fp16", "fp32"]
    args.files = args.files or args.out / "files"
    args.page = args.page or (PAGE if args.device != "cpu" else args.out / "gpu.md")
    return args


def main(arguments: list[str] | None = None) -> int:
    """Run it."""
    args = parsed(arguments)
    if args.results is None:
        found = gpu() if args.device != "cpu" else None
        slug = re.sub(r"\W+", "-", found["name"].lower()) if found else args.device
        made = [f.parent for f in args.out.glob("*/parity-*.json")] if args.write else []
        args.results = made[0] if not found and len(set(made)) == 1 else args.out / slug
    record = Record(args.results)
    try:
        done, right = (True, True) if args.write else measure(record, args)
    except Failed as failure:
        say(f"FAILED: {failure}")
        return 1
    page = written(record, args.page, say)
    if not done:
        say("out of time: the same command goes on")
    failed = [r for line in record.cases() for r in line["results"] if r["status"] == "failed"]
    return 3 if not right else 1 if not page or failed else 0


if __name__ == "__main__":
    sys.exit(main())
