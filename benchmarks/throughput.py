"""Images per second from JPEG to boxes, beside the script that everybody writes first.

    python -m benchmarks.throughput [FOLDER] [--arch NAME] [--images N] [--tops 1,5]

The obvious script: Pillow decodes and resizes, PyTorch's autograd gives the gradient of a score,
its quantiles seed a mask, cv2.grabCut with 5 iterations cuts it at the network's size; one process,
PyTorch's and OpenCV's own number of threads. Backlit: what `backlit localize` does, default recipe.
Both take the same JPEG files in turns, a chunk each, in one run; the ratio is the median over the
chunks, with its quartiles. Then the time from map to box on one core: textbook cv2.grabCut
beside each recipe, in turns, on maps of 224 x 224 pixels or whatever the network takes; and the
peak memory of `backlit localize` for a short and a long list.

The classifier is SqueezeNet 1.1 with the shared data's weights (the folder in BACKLIT_SHARED, else
``shared`` beside the repository) in torchvision's module and in ONNX; without that data, or with
--arch, a torchvision classifier with random weights, exported from PyTorch.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import torch
from backlit.export import export
from backlit.runtime import Session, located, pipeline
from backlit.runtime.backend.plan import plan
from backlit.runtime.boxes.geometry import Box, iou, mask_box
from backlit.runtime.boxes.localize import largest_component
from backlit.runtime.boxes.recipes import RECIPES, fitted, needed
from backlit.runtime.maps.classes import ranks
from backlit.runtime.stages import cores
from PIL import Image
from support import zoo

from benchmarks.boxes import shared_data

Boxes = list[list[Box | None]]
REAL = "models/squeezenet1_1_logits_fp32.onnx"
TEXTBOOK = "cv2.grabCut, 5 iterations"
WARM = 2
"""Images that each contender takes before the clock runs."""

# Linux; not ru_maxrss, which a process has from the one that started it.
PEAK = """
import re, sys
from backlit.runtime.cli import main
sys.stdout = open(sys.argv[1], "w")
try:
    main(["localize", sys.argv[2], "-"])
finally:
    print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1], file=sys.stderr)
"""


class Obvious:
    """The obvious script, as a class that holds its model."""

    def __init__(self, model: torch.nn.Module, preprocess: dict[str, Any], side: int) -> None:
        self.model, self.side, self.bgr = model.eval(), side, preprocess["colour"] == "BGR"
        self.scale = 255.0 if preprocess["range"] == "0-1" else 1.0
        self.mean = torch.tensor(preprocess["mean"]).view(3, 1, 1)
        self.std = torch.tensor(preprocess["std"]).view(3, 1, 1)

    def boxes(self, files: list[Path], top: int) -> Boxes:
        return [self.image(file, top) for file in files]

    def image(self, file: Path, top: int) -> list[Box | None]:
        photo = Image.open(file).convert("RGB")
        pixels = np.asarray(photo.resize((self.side, self.side), Image.Resampling.BILINEAR))
        ordered = pixels[..., ::-1] if self.bgr else pixels
        tensor = torch.from_numpy(ordered.copy()).permute(2, 0, 1).float()
        tensor = ((tensor / self.scale - self.mean) / self.std)[None].requires_grad_()
        scores = self.model(tensor)[0]
        boxes: list[Box | None] = []
        for index in scores.topk(top).indices:
            (gradient,) = torch.autograd.grad(scores[index], tensor, retain_graph=True)
            mask = textbook(pixels, gradient[0].abs().amax(0).numpy())
            box = mask_box(largest_component(mask))
            across, down = photo.width / self.side, photo.height / self.side
            boxes.append(box and (
                int(box[0] * across), int(box[1] * down), round(box[2] * across),
                round(box[3] * down),
            ))  # fmt: skip
        return boxes


def textbook(pixels: Any, saliency: Any) -> Any:
    """cv2.grabCut as tutorials have it: seeds by quantile, 5 iterations from a mask."""
    low, high = np.quantile(saliency, [0.3, 0.95])
    labels = np.full(saliency.shape, cv2.GC_PR_BGD, np.uint8)
    labels[saliency < low], labels[saliency > high] = cv2.GC_BGD, cv2.GC_FGD
    ground, thing = np.zeros((1, 65)), np.zeros((1, 65))
    whole = (0, 0, saliency.shape[1], saliency.shape[0])  # not read: the mask says it
    cv2.setRNGSeed(0)
    frame = np.ascontiguousarray(pixels)
    cv2.grabCut(frame, labels, whole, ground, thing, 5, cv2.GC_INIT_WITH_MASK)
    return (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)


def backlit(session: Session, runs: int, files: list[Path], top: int, recipe: str) -> Boxes:
    """The steps of `backlit localize` without printing."""
    chosen = fitted(recipe, session.contract)
    index = ranks(top, session.contract.score.classes)
    maps = pipeline.saliency_flow(session, files, index, chosen.crops, runs=runs, map=chosen.map)
    found = pipeline.after(maps, lambda one: located.boxes(one, chosen, masks=False))
    with closing(found):
        return [list(one.value.boxes) if one.value else [] for one in found]


def classifier(arch: str | None, folder: Path) -> tuple[str, Obvious, Path]:
    """Its name, the obvious script with it, and its Backlit file."""
    file, data = folder / "model.backlit.onnx", shared_data()
    if arch is None and (data / REAL).exists():
        manifest = json.loads((data / "manifest.json").read_text())
        entry = next(one for one in manifest["models"] if one["file"] == REAL)
        how = entry["preprocess"]
        model: torch.nn.Module = zoo.torchvision().models.squeezenet1_1(weights=None)
        copy_weights(onnx.load(data / REAL), model)
        name = "SqueezeNet 1.1, trained"
        source: str | torch.nn.Module = str(data / REAL)
    else:
        name, model = arch or "resnet18", zoo.classifier(arch or "resnet18")
        how = {"colour": "RGB", "range": "0-1", "mean": zoo.MEAN, "std": zoo.STD}
        name, source = f"{name}, random weights", model
    export(
        source, file, size=224, mean=how["mean"], std=how["std"], range=how["range"],
        bgr=how["colour"] == "BGR", verify=False,
    )  # fmt: skip
    return name, Obvious(model, how, 224), file


def copy_weights(source: onnx.ModelProto, model: torch.nn.Module) -> None:
    """The weights of a graph's convolutions, in order, into those of a module."""
    values = {one.name: onnx.numpy_helper.to_array(one) for one in source.graph.initializer}
    nodes = [node for node in source.graph.node if node.op_type == "Conv"]
    layers = [one for one in model.modules() if isinstance(one, torch.nn.Conv2d)]
    with torch.no_grad():
        for node, layer in zip(nodes, layers, strict=True):
            layer.weight.copy_(torch.tensor(values[node.input[1]]))
            if layer.bias is not None:
                layer.bias.copy_(torch.tensor(values[node.input[2]]))


def compare(
    one: Callable[[list[Path]], Boxes], other: Callable[[list[Path]], Boxes],
    files: list[Path], chunk: int,
) -> tuple[list[float], list[float]]:  # fmt: skip
    """Seconds per image of two contenders for each chunk, in turns, the first one alternating."""
    one(files[:WARM]), other(files[:WARM])
    seconds: tuple[list[float], list[float]] = ([], [])
    for number, start in enumerate(range(0, len(files), chunk)):
        part = files[start : start + chunk]
        for which in ((0, 1), (1, 0))[number % 2]:
            started = time.perf_counter()
            (one, other)[which](part)
            seconds[which].append((time.perf_counter() - started) / len(part))
    return seconds


def end_to_end(obvious: Obvious, file: Path, files: list[Path], arguments: Any) -> None:
    threads, runs = plan("cpu", None, None)
    session = Session(file, "cpu", threads, partial(needed, "default"))
    raw = Session(file, "cpu", threads, partial(needed, "textbook"))
    print(f"\nJPEG to boxes, {len(files)} images, chunks of {arguments.chunk}, {cores()} cores")
    print("  classes  obvious img/s  backlit img/s  ratio (quartiles)")
    for top in (int(text) for text in arguments.tops.split(",")):
        slow, fast = compare(
            partial(obvious.boxes, top=top),
            partial(backlit, session, runs, top=top, recipe="default"),
            files, arguments.chunk,
        )  # fmt: skip
        ratios = [a / b for a, b in zip(slow, fast, strict=True)]
        low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
        rates = 1 / statistics.fmean(slow), 1 / statistics.fmean(fast)
        print(
            f"  {top:>7}{rates[0]:>15.2f}{rates[1]:>15.2f}{middle:>7.1f} ({low:.1f} to {high:.1f})",
            flush=True,
        )
    same = files[:8]
    pairs = zip(obvious.boxes(same, 1), backlit(raw, runs, same, 1, "textbook"), strict=True)
    agree = statistics.fmean(iou(a[0], b[0]) for a, b in pairs)
    print(f"  the obvious script's boxes beside --recipe textbook: mean IoU {agree:.2f}")


def map_to_box(file: Path, files: list[Path]) -> None:
    """Milliseconds per box on one core, all ways in turns on the same maps."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    session = Session(file, "cpu", 1)
    best = ranks(1, session.contract.score.classes)
    every = ("saliency", *(fitted(name, session.contract).map for name in RECIPES))
    kinds = list(dict.fromkeys(every))
    times: dict[str, list[float]] = {}
    maps = [pipeline.saliency_results(session, files, best, map=kind) for kind in kinds]
    for number, results in enumerate(zip(*maps, strict=True)):
        by_kind = dict(zip(kinds, results, strict=True))
        if (raw := by_kind["saliency"].value) is None:
            continue
        ways: dict[str, Callable[[], object]] = {
            TEXTBOOK: partial(textbook, raw.prepared.frame, raw.maps[0])
        }
        for name in RECIPES:
            chosen = fitted(name, session.contract)
            ways[name] = partial(located.boxes, by_kind[chosen.map], chosen, masks=False)
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            if number >= WARM:
                times.setdefault(name, []).append(1e3 * (time.perf_counter() - started))
    cv2.setNumThreads(before)
    print(f"\nmap to box, {session.contract.image.height} x {session.contract.image.width}, 1 core")
    print("  way                         ms per box (quartiles)   of textbook")
    slow = statistics.median(times[TEXTBOOK])
    for name, values in times.items():
        low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
        spread = f"({low:.1f} to {high:.1f})"
        print(f"  {name:<28}{middle:>6.1f} {spread:<18}{slow / middle:>8.1f} x")


def memory(file: Path, files: list[Path], lengths: list[int], folder: Path) -> None:
    print("\npeak memory of `backlit localize`")
    for length in lengths:
        listed = "".join(f"{files[number % len(files)].resolve()}\n" for number in range(length))
        done = subprocess.run(
            [sys.executable, "-c", PEAK, str(folder / "lines"), str(file)],
            input=listed, capture_output=True, text=True, check=True,
        )  # fmt: skip
        peak = int(done.stderr.split()[-1]) / 1024
        print(f"  {length:>7} images {peak:>7.1f} MiB", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Images per second, beside the obvious script.")
    own = shared_data() / "images" / "ilsvrc_val_227"
    parser.add_argument("folder", type=Path, nargs="?", default=own, help="JPEG files")
    parser.add_argument("--arch", help="torchvision classifier, with random weights")
    parser.add_argument("--images", type=int, default=96, help="at most so many")
    parser.add_argument("--chunk", type=int, default=16, help="images per turn")
    parser.add_argument("--tops", default="1,5", help="classes per image, by comma")
    parser.add_argument("--lengths", default="100,1000", help="of the lists; empty: no memory")
    arguments = parser.parse_args()
    suffixes = (".jpg", ".jpeg")
    if not arguments.folder.is_dir():
        print(f"{arguments.folder} is no folder: name one with JPEG files", file=sys.stderr)
        return 1
    files = sorted(one for one in arguments.folder.iterdir() if one.suffix.lower() in suffixes)
    files = files[: arguments.images]
    if len(files) <= WARM:
        print(f"{arguments.folder} has no more than {WARM} JPEG files", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        name, obvious, file = classifier(arguments.arch, Path(folder))
        print(
            f"{name}; {platform.processor() or platform.machine()}, {os.cpu_count()} processors, "
            f"torch {torch.__version__} ({torch.get_num_threads()} threads), onnxruntime "
            f"{onnxruntime.__version__}, opencv {cv2.__version__}"
        )
        end_to_end(obvious, file, files, arguments)
        map_to_box(file, files)
        lengths = [int(text) for text in arguments.lengths.split(",") if text]
        memory(file, files, lengths, Path(folder))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
