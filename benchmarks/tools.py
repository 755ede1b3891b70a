"""What goes in: classifiers as their own tools export them, each tried, as a table of the docs.

    python -m benchmarks.tools [--only PATTERN] [--again] [--write]

Every model has random weights (seeded; BatchNorm statistics those of pictures, where torch makes
it) and is exported by its own tool, and the file by ``backlit export``, both in processes of their
own. A result is a line of out/tools/results.jsonl; what is there is not tried again. A tool that
is not installed is said and left out. ``--write`` puts the table into docs/what-goes-in.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import pages

ROOT = Path(__file__).parents[1]
OUT = ROOT / "out" / "tools"
SIDE, CLASSES = 64, 10
COMMAND = """
from support import zoo
zoo.torchvision()  # which transformers imports, as it can be imported with a torch for CPUs
from backlit.runtime.cli import main
main()
"""


@dataclasses.dataclass(frozen=True)
class Tool:
    """A tool that writes classifiers.

    Attributes:
        name: as the table shows it.
        package: whose version is told.
        how: how the file is made, in the tool's words.
        typed: what to type after ``backlit export``; FILE stands for the file.
        models: names.
        make: writes the classifier of a name into a folder; returns the file, or SOURCE.
    """

    name: str
    package: str
    how: str
    typed: str
    models: tuple[str, ...]
    make: Callable[[str, Path], str]


def _torch(name: str) -> Any:
    """A small model of timm or torchvision, in eval mode, and its size."""
    import torch
    from support import zoo

    library, _, rest = name.partition(":")
    torch.manual_seed(0)
    if library == "timm":
        kind, _, size = rest.partition("@")
        made = zoo.timm().create_model(kind, pretrained=False, num_classes=CLASSES)
        return zoo.lifelike(made.eval(), int(size)), int(size)
    models = zoo.torchvision().models
    made = models.get_model(rest, weights=None, num_classes=CLASSES)
    return zoo.lifelike(made.eval(), 224), 224


def _by_torch(name: str, folder: Path, dynamo: bool) -> str:
    import torch

    model, size = _torch(name)
    file = folder / "model.onnx"
    example = torch.zeros(2, 3, size, size)
    named: dict[str, Any] = {"dynamic_axes": {"image": {0: "N"}}, "input_names": ["image"]}
    if dynamo:
        named = {"dynamic_shapes": ({0: torch.export.Dim("N")},), "verbose": False}
    torch.onnx.export(model, (example,), file, dynamo=dynamo, **named)
    return str(file)


def _by_keras(name: str, folder: Path) -> str:
    os.environ["KERAS_BACKEND"] = "torch"
    from support import zoo

    zoo.torchvision()
    import keras
    import numpy as np

    keras.utils.set_random_seed(0)
    side = {"NASNetMobile": 224, "InceptionV3": 150}.get(name, 128)
    model = getattr(keras.applications, name)(
        weights=None, input_shape=(side, side, 3), classes=CLASSES
    )
    model(np.zeros((1, side, side, 3), np.float32))
    model.export(str(folder / "model.onnx"), format="onnx", verbose=False)
    return str(folder / "model.onnx")


def _by_ultralytics(name: str, folder: Path) -> str:
    os.environ |= {"YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "false"}
    from support import zoo

    zoo.torchvision()
    import ultralytics

    kind, _, variant = name.partition("+")
    with_ = {"": {}, "plain": {}, "dynamic": {"dynamic": True}, "simplify": {"simplify": True},
             "half": {"half": True}}[variant]  # fmt: skip
    os.chdir(folder)
    model = ultralytics.YOLO(f"{kind}.yaml")
    zoo.lifelike(model.model.eval(), SIDE)
    written = model.export(format="onnx", imgsz=SIDE, **({"simplify": False} | with_))
    return str(folder / Path(written).name)


def _huggingface(name: str, folder: Path) -> Path:
    """A folder as ``save_pretrained`` writes it, with random weights."""
    from support import zoo

    zoo.torchvision()
    from benchmarks import huggingface

    huggingface.save(huggingface.made(f"{name}ForImageClassification"), folder / "model")
    return folder / "model"


def _by_optimum(name: str, folder: Path) -> str:
    model = _huggingface(name, folder)  # first: it imports torchvision as it can be here
    from optimum.exporters.onnx import main_export

    main_export(str(model), output=folder / "onnx", task="image-classification")
    return str(folder / "onnx" / "model.onnx")


VITS = (
    "timm:vit_tiny_patch16_224@224", "timm:deit_tiny_patch16_224@224",
    "timm:beit_base_patch16_224@224", "timm:cait_xxs24_224@224", "timm:pit_ti_224@224",
    "timm:xcit_nano_12_p16_224@224", "timm:crossvit_tiny_240@240",
    "timm:vit_small_patch14_dinov2@224", "timm:swin_tiny_patch4_window7_224@224",
    "torchvision:vit_b_16",
)  # fmt: skip
TOOLS = [
    Tool("PyTorch, TorchScript exporter", "torch", "torch.onnx.export(dynamo=False, dynamic_axes)",
         "FILE", VITS, lambda name, folder: _by_torch(name, folder, dynamo=False)),
    Tool("PyTorch, dynamo exporter", "torch", "torch.onnx.export(dynamo=True, dynamic_shapes)",
         "FILE", VITS, lambda name, folder: _by_torch(name, folder, dynamo=True)),
    Tool("Keras 3 (torch backend)", "keras", 'model.export("FILE", format="onnx")', "FILE",
         ("MobileNetV2", "MobileNetV3Small", "EfficientNetB0", "DenseNet121", "InceptionV3",
          "ResNet50", "ResNet50V2", "VGG16", "NASNetMobile", "Xception", "ConvNeXtTiny"),
         _by_keras),
    Tool("ultralytics", "ultralytics", 'YOLO("NAME-cls.pt").export(format="onnx")',
         f"FILE --size {SIDE}",
         tuple(f"{kind}+{how}" for kind in ("yolov8n-cls", "yolo11n-cls")
               for how in ("plain", "dynamic", "simplify", "half")), _by_ultralytics),
    Tool("Hugging Face", "transformers", "model.save_pretrained(FOLDER)", "hf:FILE",
         ("ViT", "DeiT", "Beit", "Dinov2", "ResNet", "ConvNext", "MobileNetV2", "Swin"),
         lambda name, folder: str(_huggingface(name, folder))),
    Tool("Hugging Face Optimum", "optimum-onnx", "optimum-cli export onnx", "FILE",
         ("ViT", "DeiT", "Beit", "ResNet", "ConvNext", "Swin"), _by_optimum),
]  # fmt: skip


def make(tool: Tool, model: str, folder: Path) -> None:
    """Write the classifier, in this process; its place goes to made.txt."""
    warnings.simplefilter("ignore")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "made.txt").write_text(tool.make(model, folder), encoding="utf-8")


def attempt(tool: Tool, model: str, seconds: float) -> dict[str, Any]:
    """Export one model by its tool and by Backlit, and say what came out."""
    folder = OUT / "work" / tool.name.replace(" ", "-")
    shutil.rmtree(folder, ignore_errors=True)
    result: dict[str, Any] = {"tool": tool.name, "model": model, "ok": False}
    if importlib.util.find_spec(tool.package.replace("optimum-onnx", "optimum")) is None:
        return result | {"absent": True, "said": f"{tool.package} is not installed"}
    result["version"] = importlib.metadata.version(tool.package)
    command = [sys.executable, "-m", "benchmarks.tools", "--make", tool.name, model, str(folder)]
    try:
        made = subprocess.run(command, capture_output=True, text=True, timeout=seconds, cwd=ROOT)
        if made.returncode:
            return result | {"by_tool": False, "said": made.stderr.strip().splitlines()[-1][:200]}
        file = (folder / "made.txt").read_text(encoding="utf-8")
        typed = [word.replace("FILE", file) for word in tool.typed.split()]
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, "export", *typed,
             "-o", str(folder / "file.backlit.onnx")],
            capture_output=True, text=True, timeout=seconds, env={**os.environ, "COLUMNS": "200"},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return result | {"said": f"took over {seconds:.0f} s"}
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("error", "gradient"))] or lines[-1:]
    return result | {"by_tool": True, "ok": done.returncode == 0, "said": " ".join(told[0].split())}


def table(results: list[dict[str, Any]]) -> str:
    """The table of the docs, from all results."""
    rows = ["| tool | how it was exported | what to type | tried with | works |",
            "|---|---|---|---|---|"]  # fmt: skip
    failed = []
    for tool in TOOLS:
        mine = [r for r in results if r["tool"] == tool.name and not r.get("absent")]
        made = [r for r in mine if r.get("by_tool")]
        if not mine:
            continue
        typed = tool.typed.replace("FILE", "model.onnx" if tool.typed[0] == "F" else "FOLDER")
        rows.append(
            f"| {tool.name} | `{tool.how}` | `backlit export {typed} -o FILE` "
            f"| {tool.package} {mine[0]['version']} | {sum(r['ok'] for r in made)} of {len(made)} |"
        )
        failed += [
            f"* {tool.name}, {r['model']}: "
            + ("" if r.get("by_tool") else "its own export fails: ")
            + r["said"].replace("|", "/").replace("<", "(").replace(">", ")").replace("*", "x")
            for r in mine
            if not r["ok"]
        ]
    more = ["", "What did not work:", "", *failed] if failed else []
    return "\n".join([*rows, *more])


def results() -> list[dict[str, Any]]:
    """The newest result of each model of each tool."""
    file = OUT / "results.jsonl"
    if not file.is_file():
        return []
    lines = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return list({(r["tool"], r["model"]): r for r in lines}.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", metavar="PATTERN", default="*", help="tools, as for fnmatch")
    parser.add_argument("--again", action="store_true", help="also those that have a result")
    parser.add_argument("--seconds", type=float, default=600, help="for each export")
    parser.add_argument("--write", action="store_true", help="put the table into the docs")
    parser.add_argument("--make", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        tool = next(tool for tool in TOOLS if tool.name == options.make[0])
        make(tool, options.make[1], Path(options.make[2]))
        return 0
    OUT.mkdir(parents=True, exist_ok=True)
    done = set() if options.again else {(r["tool"], r["model"]) for r in results()}
    for tool in TOOLS:
        for model in tool.models:
            if fnmatch.fnmatch(tool.name, options.only) and (tool.name, model) not in done:
                result = attempt(tool, model, options.seconds)
                print(f"{tool.name}, {model}: {result['said']}", flush=True)
                with (OUT / "results.jsonl").open("a", encoding="utf-8") as file:
                    file.write(json.dumps(result) + "\n")
    print(table(results()))
    if options.write:
        pages.put(table(results()), "tools")
    return 0


if __name__ == "__main__":
    sys.exit(main())
