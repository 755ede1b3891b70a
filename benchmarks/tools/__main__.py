"""What goes in: classifiers as their own tools export them, each tried, as a table of the docs.

    python -m benchmarks.tools [--only PATTERN] [--again] [--write]

Every model has random weights (seeded; BatchNorm statistics those of pictures, where torch makes
it) and is exported by its own tool, and the file by ``backlit export``, both in processes of their
own. A result is a line of out/tools/results.jsonl; what is there is not tried again. A tool that
is not installed is said and left out. ``--write`` puts the table into docs/what-goes-in.md, with
what ``python -m benchmarks.huggingface`` found.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib.metadata
import json
import multiprocessing
import os
import re
import shutil
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from benchmarks import ROOT, huggingface, pages
from benchmarks.tools.made import TOOLS, Tool
from benchmarks.tools.table import table

OUT = ROOT / "out" / "tools"
RESULTS = OUT / "results.jsonl"


def apart(work: Callable[[], object], said: Path, seconds: float) -> int | None:
    """The exit code of work in a process forked from this one, which has imported what takes long.

    Returns:
        None where it took too long; what it printed is in ``said``.
    """

    def run() -> None:
        with said.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        work()

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join(seconds)
    process.kill()
    process.join()
    return None if process.exitcode == -signal.SIGKILL else process.exitcode


def make(tool: Tool, model: str, folder: Path) -> None:
    """Write the classifier; its place goes to made.txt."""
    warnings.simplefilter("ignore")
    (folder / "made.txt").write_text(tool.make(model, folder), encoding="utf-8")


def type_in(words: list[str]) -> None:
    """What the command line does with these words."""
    from backlit.runtime.cli import main

    sys.argv = ["backlit", *words]
    main()


def attempt(tool: Tool, model: str, seconds: float) -> dict[str, Any]:
    """Export one model by its tool and by Backlit, and say what came out."""
    folder = OUT / "work" / tool.name.replace(" ", "-")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    version = importlib.metadata.version(tool.package)
    result: dict[str, Any] = {"tool": tool.name, "model": model, "version": version, "ok": False}
    said = folder / "said.txt"
    code = apart(lambda: make(tool, model, folder), said, seconds)
    if code != 0:
        lines = click.unstyle(said.read_text(encoding="utf-8")).splitlines()
        errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
        last = f"took over {seconds:.0f} s" if code is None else (errors or lines or [""])[-1][:200]
        return result | {"by_tool": False, "said": last}
    file = (folder / "made.txt").read_text(encoding="utf-8")
    typed = [word.replace("FILE", file) for word in tool.typed.split()]
    words = ["export", *typed, "-o", str(folder / "file.backlit.onnx")]
    code = apart(lambda: type_in(words), said, seconds)
    if code is None:
        return result | {"by_tool": True, "said": f"took over {seconds:.0f} s"}
    lines = [line.strip() for line in said.read_text(encoding="utf-8").splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("error", "gradient"))] or lines[-1:]
    return result | {"by_tool": True, "ok": code == 0, "said": " ".join(told[0].split())}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", metavar="PATTERN", default="*", help="tools, as for fnmatch")
    parser.add_argument("--again", action="store_true", help="also those that have a result")
    parser.add_argument("--seconds", type=float, default=600, help="for each export")
    parser.add_argument("--write", action="store_true", help="put the table into the docs")
    options = parser.parse_args()
    os.environ["COLUMNS"] = "200"
    OUT.mkdir(parents=True, exist_ok=True)
    known = huggingface.newest(RESULTS, ("tool", "model"))
    done = set() if options.again else {(r["tool"], r["model"]) for r in known}
    for tool in TOOLS:
        models = [model for model in tool.models if (tool.name, model) not in done]
        if not fnmatch.fnmatch(tool.name, options.only) or not models:
            continue
        try:
            tool.load()
        except ImportError as error:
            print(f"{tool.name}: {error}")
            continue
        for model in models:
            result = attempt(tool, model, options.seconds)
            print(f"{tool.name}, {model}: {result['said']}", flush=True)
            with RESULTS.open("a", encoding="utf-8") as file:
                file.write(json.dumps(result) + "\n")
    told = table(huggingface.newest(RESULTS, ("tool", "model")))
    print(told)
    if options.write:
        pages.put(told, "tools")
    return 0


if __name__ == "__main__":
    sys.exit(main())
