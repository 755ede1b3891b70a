"""What the GPU benchmark needs of a classifier, in a folder of its own: made once, then kept.

``fp32.backlit.onnx`` and ``fp16.backlit.onnx``, the forward part of each, the module as a pickle,
and ``reference.npz``: images, classes, and what the CPU provider makes of them, with its distance
from float64.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import importlib
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import ROOT

IMAGES, CLASSES = 4, 5
PRECISIONS = ("fp32", "fp16")
Array = np.ndarray[Any, Any]


def reachable(folder: Path) -> None:
    """Let ``backlit`` be imported where it is not installed: its folders under their names.

    A GPU host without a package index has the checkout alone; the folder made here goes first on
    the path, of the processes that are started, too.
    """
    try:
        importlib.import_module("backlit.export")
        return
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("backlit"):
            raise
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    version = project["version"]
    information = folder / f"backlit-{version}.dist-info"
    for made in (folder / "backlit", information):
        made.mkdir(parents=True, exist_ok=True)
    text = f"Metadata-Version: 2.1\nName: backlit\nVersion: {version}\n"
    (information / "METADATA").write_text(text, encoding="utf-8")
    for part in ("__init__.py", "export", "runtime", "models"):
        link = folder / "backlit" / part
        if not link.exists():
            link.symlink_to(ROOT / ("backlit" if part == "__init__.py" else "") / part)
    sys.path.insert(0, str(folder))
    sys.modules.pop("backlit", None)  # the folder of that name in the checkout, without the others
    importlib.invalidate_caches()


def sources(*patterns: str) -> str:
    """A hash of the sources that match."""
    digest = hashlib.sha256()
    for pattern in patterns:
        for file in sorted(ROOT.glob(pattern)):
            if "cli" not in file.parts:
                digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def stamp(size: int, target: str) -> dict[str, Any]:
    """What a prepared folder depends on."""
    files = sources("export/**/*.py", "tests/support/zoo.py", "benchmarks/gpu/models.py")
    return {"sources": files, "size": size, "target": target}


def prepare(
    names: Sequence[str],
    folder: Path,
    size: int,
    target: str,
    say: Callable[[str], None],
    deadline: float = math.inf,
) -> dict[str, Path]:
    """Folders of classifiers; those that are not there yet are made side by side.

    Args:
        names: torchvision's, or ``module:callable`` that returns an nn.Module.
        folder: that holds theirs.
        size: pixels.
        target: of the export.
        say: called with what is going on.
        deadline: of time.monotonic().

    Returns:
        The folder of each; those that failed are left out, and those that are not ready in time.
    """
    wanted, ready = stamp(size, target), {}
    places = {name: folder / name.replace(":", ".") for name in names}
    todo = []
    for name, place in places.items():
        file = place / "ready.json"
        if file.is_file() and wanted.items() <= json.loads(file.read_text()).items():
            ready[name] = place
        else:
            todo.append(name)
    if not todo:
        return ready
    say(f"exporting {', '.join(todo)}")
    path = os.pathsep.join(part or str(Path.cwd()) for part in sys.path)

    def child(name: str) -> tuple[str, str]:
        module = [sys.executable, "-m", "benchmarks.gpu.files"]
        command = [*module, name, str(places[name]), json.dumps(wanted)]
        left = None if deadline == math.inf else max(0.0, deadline - time.monotonic())
        try:
            done = subprocess.run(  # a process each: what exporters leave behind goes with it
                command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True,
                timeout=left,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return name, "out of time"
        words = done.stderr.strip().splitlines()
        return name, (words or ["?"])[-1] if done.returncode else ""

    side = max(1, min(len(todo), (os.cpu_count() or 1) // 3))
    with concurrent.futures.ThreadPoolExecutor(side) as pool:
        for name, problem in pool.map(child, todo):
            say(f"FAILED: {name} cannot be exported: {problem}" if problem else f"exported {name}")
            if not problem:
                ready[name] = places[name]
    return {name: ready[name] for name in names if name in ready}


def make(name: str, final: Path, wanted: dict[str, Any]) -> None:
    """Make one folder; it appears complete or not at all.

    Args:
        name: as for ``prepare``.
        final: the folder.
        wanted: ``stamp`` of it.
    """
    import torch
    from backlit.export import export
    from backlit.export.bench.files import forward_part, inputs, preprocessing
    from backlit.runtime.session import Session

    from benchmarks.gpu import models as gpu_models

    size, target = wanted["size"], wanted["target"]
    threads = max(1, min(4, os.cpu_count() or 1))
    torch.set_num_threads(threads)
    folder = final.with_name(f"{final.name}.part")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    module = gpu_models.Wrapped(gpu_models.classifier(name, size)).eval()
    kept: dict[str, Array] = {}
    for precision in PRECISIONS:
        file = folder / f"{precision}.backlit.onnx"
        report = export(
            module, file, size=size, mean=gpu_models.MEAN, std=gpu_models.STD, verify=False,
            maps="saliency", target=target, precision=None if precision == "fp32" else "fp16",
        )  # fmt: skip
        forward_part(file, folder / f"{precision}.forward.onnx")
        classes = report.contract.score.classes
        kept["images"], kept["index"] = inputs(report.contract, IMAGES, min(CLASSES, classes))
        found = Session(file, "cpu", threads).run(kept["images"], kept["index"])
        kept[f"scores_{precision}"], kept[f"saliency_{precision}"] = found.scores, found.saliency
    kept["scores"], kept["saliency"] = kept["scores_fp32"], kept["saliency_fp32"]
    about = {"name": name, "classes": classes, **preprocessing(report.contract)}
    about = {key: np.asarray(v).tolist() if isinstance(v, np.ndarray) else v
             for key, v in about.items()}  # fmt: skip
    exact = gpu_models.exact(module, kept["images"], kept["index"], about)
    kept["exact_scores"], kept["exact_saliency"] = exact
    torch.save(module, folder / "module.pt")
    np.savez(folder / "reference.npz", allow_pickle=False, **kept)
    about = {**wanted, **about}
    (folder / "ready.json").write_text(json.dumps(about), encoding="utf-8")
    shutil.rmtree(final, ignore_errors=True)
    folder.replace(final)


if __name__ == "__main__":
    make(sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3]))
