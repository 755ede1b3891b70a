"""The tools that write classifiers, and how each is made to write one."""

from __future__ import annotations

import dataclasses
import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import huggingface

SIDE, CLASSES = 64, 10


@dataclasses.dataclass(frozen=True)
class Tool:
    """A tool that writes classifiers.

    Attributes:
        name: as the table shows it.
        package: whose version is told.
        how: how the file is made, in the tool's words.
        typed: what to type after ``backlit export``; FILE stands for the file.
        models: names.
        make: writes the classifier of a name into a folder; returns the file.
        modules: what that imports, and takes long.
    """

    name: str
    package: str
    how: str
    typed: str
    models: tuple[str, ...]
    make: Callable[[str, Path], str]
    modules: tuple[str, ...]

    def load(self) -> None:
        """Import the tool, and torchvision as it can be with a torch for CPUs, once for all."""
        os.environ |= {"KERAS_BACKEND": "torch", "YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "false"}
        from support import zoo

        zoo.torchvision()
        for name in ("backlit.export", *self.modules):
            importlib.import_module(name)


def _torch(name: str) -> Any:
    """A small model of timm or torchvision, in eval mode, and its size."""
    import torch
    from support import zoo

    library, _, rest = name.partition(":")
    kind, _, size = rest.partition("@")
    torch.manual_seed(0)
    if library == "timm":
        import timm

        made = timm.create_model(kind, num_classes=CLASSES, **OPTIONS.get(kind, {}))
    else:
        import torchvision

        made = torchvision.models.get_model(
            kind, weights=None, num_classes=CLASSES, **OPTIONS.get(kind, {})
        )
    return zoo.lifelike(made.eval(), int(size)), int(size)


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
    import ultralytics
    from support import zoo

    kind, _, variant = name.partition("+")
    with_ = {"": {}, "plain": {}, "dynamic": {"dynamic": True}, "simplify": {"simplify": True},
             "half": {"half": True}}[variant]  # fmt: skip
    os.chdir(folder)
    model = ultralytics.YOLO(f"{kind}.yaml")
    zoo.lifelike(model.model.eval(), SIDE)
    written = model.export(format="onnx", imgsz=SIDE, **({"simplify": False} | with_))
    return str(folder / Path(written).name)


def _by_optimum(name: str, folder: Path) -> str:
    huggingface.save(huggingface.made(f"{name}ForImageClassification"), folder / "model")
    from optimum.exporters.onnx import main_export

    main_export(str(folder / "model"), output=folder / "onnx", task="image-classification")
    return str(folder / "onnx" / "model.onnx")


VITS = (
    "timm:vit_tiny_patch16_224@224", "timm:deit_tiny_patch16_224@224",
    "timm:beit_base_patch16_224@224", "timm:cait_xxs24_224@224", "timm:pit_ti_224@224",
    "timm:xcit_nano_12_p16_224@224", "timm:crossvit_tiny_240@240",
    "timm:vit_small_patch14_dinov2@112", "timm:swin_tiny_patch4_window7_224@224",
    "torchvision:vit_b_16@64", "timm:deit3_small_patch16_224@224",
)  # fmt: skip
# With fewer blocks than published: each is like the next, and float64 takes its time.
OPTIONS: dict[str, dict[str, Any]] = {
    "vit_tiny_patch16_224": {"depth": 4}, "deit_tiny_patch16_224": {"depth": 4},
    "beit_base_patch16_224": {"depth": 3}, "deit3_small_patch16_224": {"depth": 4},
    "cait_xxs24_224": {"depth": 4},
    "xcit_nano_12_p16_224": {"depth": 4},
    "vit_small_patch14_dinov2": {"depth": 4, "img_size": 112},
    "swin_tiny_patch4_window7_224": {"depths": (1, 1, 2, 1)}, "vit_b_16": {"image_size": 64},
}  # fmt: skip
TOOLS = [
    Tool("PyTorch, TorchScript exporter", "torch", "torch.onnx.export(dynamo=False, dynamic_axes)",
         "FILE", VITS, lambda name, folder: _by_torch(name, folder, dynamo=False),
         ("timm",)),
    Tool("PyTorch, dynamo exporter", "torch", "torch.onnx.export(dynamo=True, dynamic_shapes)",
         "FILE", VITS, lambda name, folder: _by_torch(name, folder, dynamo=True),
         ("timm", "torch.onnx._internal.exporter._core")),
    Tool("Keras 3 (torch backend)", "keras", 'model.export("FILE", format="onnx")', "FILE",
         ("MobileNet", "MobileNetV2", "MobileNetV3Small", "EfficientNetB0", "EfficientNetV2B0",
          "ResNet50", "ResNet50V2", "InceptionV3", "DenseNet121", "NASNetMobile", "Xception",
          "ConvNeXtTiny"),
         _by_keras, ("keras",)),
    Tool("ultralytics", "ultralytics", 'YOLO("NAME-cls.pt").export(format="onnx")',
         f"FILE --size {SIDE}",
         tuple(f"{kind}+{how}" for kind in ("yolov8n-cls", "yolo11n-cls")
               for how in ("plain", "dynamic", "simplify", "half")),
         _by_ultralytics, ("ultralytics",)),
    Tool("Hugging Face Optimum", "optimum-onnx", "optimum-cli export onnx", "FILE",
         ("ViT", "DeiT", "Beit", "ResNet", "ConvNext", "Swin"), _by_optimum,
         ("optimum.exporters.onnx",)),
]  # fmt: skip
