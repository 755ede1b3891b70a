"""Backlit's maps on other engines' arithmetic: ``make engines``.

    python -m benchmarks.engines [--only PATTERN] [--providers openvino,webgpu] [--again]

The embedded network, the trained classifiers of shared/data where they are here, and eight
architectures with seeded random weights run on each engine and on ONNX Runtime's CPU provider. A
map is right within 1e-4 of the CPU's (relative L2 distance), or within three times what float32
itself rounds away: the distance of the CPU provider with its graph optimisation from that without,
which sums in another order. Boxes must be equal. Every node's placement is counted.

WebGPU wants a GPU; without one it is given SwiftShader, a Vulkan in software, where Chromium's
package has brought it. Results are kept in out/engines; exit status 1 if one is wrong.
"""

from __future__ import annotations

import argparse
import collections
import fnmatch
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from support import real

from backlit import models
from benchmarks import ROOT

RESULTS = ROOT / "out" / "engines"
ARCHITECTURES = (
    "squeezenet1_1", "shufflenet_v2_x0_5", "mobilenet_v2", "mobilenet_v3_small", "resnet18",
    "densenet121", "efficientnet_b0", "convnext_tiny",
)  # fmt: skip
SIZE = 64
"""Of the architectures: a Vulkan in software is slow, and arithmetic is the same at any size."""
RIGHT, ROUNDINGS = 1e-4, 3
SWIFTSHADER = Path("/usr/lib/chromium")
SAMPLE = sorted(models.samples().glob("*.jpg"))[0]


def names() -> list[str]:
    """Every network there is here."""
    return ["tiny", *(real.NAMES if (real.SHARED / "data").is_dir() else ()), *ARCHITECTURES]


def write(name: str, path: Path) -> None:
    """Export a network."""
    from backlit.export import export

    if name == "tiny":
        how = models.PREPROCESSING
        export(models.tiny_convnet(), path, mean=how.mean, std=how.std, verify=False)
    elif name in ARCHITECTURES:
        from support import zoo

        made = zoo.classifier(name, size=SIZE)
        export(made, path, size=SIZE, mean=zoo.MEAN, std=zoo.STD, verify=False)
    else:
        data = real.SHARED / "data"
        entry = real.entry(data, name)
        export(data / entry["file"], path, verify=False, **real.options(entry))


def answer(file: str, provider: str, out: str) -> None:
    """In a process of its own: scores, maps, boxes and the placement on one provider."""
    from backlit.runtime import Session
    from backlit.runtime.backend import sessions

    session = Session(file, provider)
    spec = session.contract.image
    pixels = np.random.default_rng(0).integers(
        0, 256, (1, spec.height, spec.width, spec.channels), dtype=np.uint8
    )
    started = time.perf_counter()
    found = session.run(pixels, np.array([[-1]]))
    seconds = time.perf_counter() - started
    (located,) = session.localize([SAMPLE])
    arrays: dict[str, Any] = {"scores": found.scores, "class": found.classes, **found.maps}
    if provider == "cpu":
        plain = sessions.open_session(file, "cpu", optimise=False).session
        given = {"image": pixels, "class_index": np.array([[-1]])}
        values = plain.run(list(found.maps), given)
        arrays |= {f"plain {k}": v for k, v in zip(found.maps, values, strict=True)}
    made = sessions.open_session(file, provider, shape=(1, 1)).session
    counts: collections.Counter[str] = collections.Counter()
    for group in made.get_provider_graph_assignment_info() if provider != "cpu" else ():
        counts[group.ep_name.removesuffix("ExecutionProvider")] += len(group.get_nodes())
    np.savez(out, **arrays)
    boxes = [None if box is None else [int(edge) for edge in box] for box in located.boxes]
    said = {"seconds": round(seconds, 2), "boxes": boxes, "nodes": dict(counts)}
    print(json.dumps(said))


def ask(file: Path, provider: str, out: Path) -> dict[str, Any]:
    """What a process with one provider answers; ``error``: its last line."""
    environment = dict(os.environ)
    if provider == "webgpu" and (SWIFTSHADER / "libvk_swiftshader.so").exists():
        environment.setdefault("ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER", "1")
        environment.setdefault("VK_ICD_FILENAMES", str(SWIFTSHADER / "vk_swiftshader_icd.json"))
        environment.setdefault("LD_LIBRARY_PATH", str(SWIFTSHADER))
    line = [sys.executable, "-m", "benchmarks.engines", "--answer", str(file), provider, str(out)]
    done = subprocess.run(line, capture_output=True, text=True, env=environment)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["it died"])[-1]}
    made: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return made


def distance(mine: Any, other: Any) -> float:
    """Relative L2 distance."""
    size = float(np.linalg.norm(other))
    return float(np.linalg.norm(mine - other)) / max(size, 1e-30)


def judge(name: str, providers: list[str]) -> list[dict[str, Any]]:
    """One network on every provider."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="backlit-engines-") as folder:
        file, truth = Path(folder, "m.backlit.onnx"), Path(folder, "cpu.npz")
        write(name, file)
        cpu = ask(file, "cpu", truth)
        if "error" in cpu:
            return [{"network": name, "provider": "cpu", "right": False, **cpu}]
        wanted = np.load(truth)
        kinds = [k for k in wanted.files if f"plain {k}" in wanted.files]
        rounding = max(distance(wanted[f"plain {k}"], wanted[k]) for k in kinds)
        for provider in providers:
            found = ask(file, provider, out := Path(folder, f"{provider}.npz"))
            row = {"network": name, "provider": provider, "rounding": rounding, **found}
            if "error" not in found:
                arrays = np.load(out)
                row["maps"] = max(distance(arrays[k], wanted[k]) for k in kinds)
                row["scores"] = distance(arrays["scores"], wanted["scores"])
                row["boxes_equal"] = found["boxes"] == cpu["boxes"]
                row["right"] = row["boxes_equal"] and bool(
                    row["maps"] <= max(RIGHT, ROUNDINGS * rounding)
                )
            rows.append({"right": False, **row})
    return rows


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    state = "right" if row["right"] else "WRONG"
    if "error" in row:
        return f"{row['network']:<28}{row['provider']:<10}{state}  {row['error']}"
    nodes = ", ".join(f"{count} {name}" for name, count in row["nodes"].items())
    boxes = "equal" if row["boxes_equal"] else "DIFFER"
    return (
        f"{row['network']:<28}{row['provider']:<10}{state}  maps {row['maps']:.1e}  "
        f"scores {row['scores']:.1e}  rounding {row['rounding']:.1e}  boxes {boxes}  {nodes}"
    )


def main() -> int:
    """Run what is not known yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="*")
    parser.add_argument("--providers", default="openvino,webgpu")
    parser.add_argument("--again", action="store_true", help="run what is known, too")
    parser.add_argument("--answer", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.answer:
        answer(*asked.answer)
        return 0
    RESULTS.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in [one for one in names() if fnmatch.fnmatch(one, asked.only)]:
        kept = {p: RESULTS / f"{name}-{p}.json" for p in asked.providers.split(",")}
        todo = [p for p, path in kept.items() if asked.again or not path.exists()]
        for row in judge(name, todo) if todo else ():
            kept.get(row["provider"], RESULTS / f"{name}-cpu.json").write_text(json.dumps(row))
        for path in kept.values():
            if path.exists():
                rows.append(json.loads(path.read_text(encoding="utf-8")))
                print(line(rows[-1]), flush=True)
    print(f"{sum(row['right'] for row in rows)} of {len(rows)} right")
    return 0 if rows and all(row["right"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
