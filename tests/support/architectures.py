"""A small classifier of each of a dozen families: the operators of the large ones, fewer of each.

Engines are built for whole graphs here, which takes seconds per hundred operators; so the families
are cut in depth and width where they allow it, never in the kinds of blocks that they have.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from support import zoo

SIZE, CLASSES = 64, 10


def _named(name: str, **options: Any) -> torch.nn.Module:
    model: torch.nn.Module = zoo.torchvision().models.get_model(
        name, weights=None, num_classes=CLASSES, **options
    )
    return model


def _resnet() -> torch.nn.Module:
    library = zoo.torchvision().models.resnet
    made: torch.nn.Module = library.ResNet(library.Bottleneck, [1, 2, 1, 1], num_classes=CLASSES)
    return made


def _mobilenet_v2() -> torch.nn.Module:
    blocks = [[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 2, 2], [6, 64, 1, 2]]
    made: torch.nn.Module = zoo.torchvision().models.MobileNetV2(CLASSES, 1.0, blocks)
    return made


def _mobilenet_v3() -> torch.nn.Module:
    """A block of each kind: with and without squeeze and excitation, ReLU and hard swish."""
    library = zoo.torchvision().models.mobilenetv3
    blocks = [
        (16, 3, 16, 16, True, "RE", 2, 1), (16, 3, 72, 24, False, "RE", 2, 1),
        (24, 5, 96, 40, True, "HS", 2, 1), (40, 5, 240, 40, True, "HS", 1, 1),
    ]  # fmt: skip
    made: torch.nn.Module = library.MobileNetV3(
        [library.InvertedResidualConfig(*block, 1.0) for block in blocks], 128, CLASSES
    )
    return made


def _efficientnet() -> torch.nn.Module:
    library = zoo.torchvision().models.efficientnet
    blocks = [
        (1, 3, 1, 32, 16, 1),
        (6, 3, 2, 16, 24, 1),
        (6, 5, 2, 24, 40, 2),
        (6, 3, 2, 40, 80, 1),
    ]
    made: torch.nn.Module = library.EfficientNet(
        [library.MBConvConfig(*block) for block in blocks], 0.2, num_classes=CLASSES
    )
    return made


def _shufflenet() -> torch.nn.Module:
    made: torch.nn.Module = zoo.torchvision().models.ShuffleNetV2(
        [2, 2, 2], [24, 48, 96, 192, 256], num_classes=CLASSES
    )
    return made


def _regnet() -> torch.nn.Module:
    library = zoo.torchvision().models.regnet
    blocks = library.BlockParams.from_init_params(6, 48, 27.89, 2.09, 8, se_ratio=0.25)
    made: torch.nn.Module = library.RegNet(blocks, num_classes=CLASSES)
    return made


def _googlenet() -> torch.nn.Module:
    """GoogLeNet without three of its nine blocks, which are like those before them."""
    model = _named("googlenet", init_weights=False, aux_logits=False)
    model.inception4b = model.inception4c = model.inception5a = torch.nn.Identity()
    return model


def _vgg() -> torch.nn.Module:
    """VGG-11, the two layers of 4096 units cut to 32: 0.5 GB of weights otherwise."""
    model = _named("vgg11", init_weights=False)
    linear, relu = torch.nn.Linear, torch.nn.ReLU
    model.classifier = torch.nn.Sequential(
        linear(512 * 7 * 7, 32), relu(True), torch.nn.Dropout(), linear(32, 32), relu(True),
        torch.nn.Dropout(), linear(32, CLASSES),
    )  # fmt: skip
    return model


def _densenet() -> torch.nn.Module:
    made: torch.nn.Module = zoo.torchvision().models.DenseNet(
        16, (2, 2, 3, 2), 32, num_classes=CLASSES
    )
    return made


def _convnext() -> torch.nn.Module:
    library = zoo.torchvision().models.convnext
    widths = [(32, 64, 1), (64, 96, 1), (96, None, 2)]
    made: torch.nn.Module = library.ConvNeXt(
        [library.CNBlockConfig(*width) for width in widths], num_classes=CLASSES
    )
    return made


def _swin() -> torch.nn.Module:
    made: torch.nn.Module = zoo.torchvision().models.SwinTransformer(
        [4, 4], 32, [2, 1], [2, 4], [4, 4], num_classes=CLASSES
    )
    return made


def _timm(name: str, **options: Any) -> torch.nn.Module:
    model: torch.nn.Module = zoo.timm().create_model(
        name, exportable=True, num_classes=CLASSES, img_size=SIZE, **options
    )
    return model


SMALL: dict[str, Callable[[], torch.nn.Module]] = {
    "resnet": _resnet,
    "squeezenet": lambda: _named("squeezenet1_1"),
    "mobilenet_v2": _mobilenet_v2,
    "mobilenet_v3": _mobilenet_v3,
    "efficientnet": _efficientnet,
    "shufflenet": _shufflenet,
    "densenet": _densenet,
    "googlenet": _googlenet,
    "vgg": _vgg,
    "convnext": _convnext,
    "regnet": _regnet,
    "vit": lambda: _timm("vit_tiny_patch16_224", depth=3),
    "swin": _swin,
}


def small(name: str) -> torch.nn.Module:
    """A classifier of ``SMALL`` with seeded weights, in eval mode."""
    torch.manual_seed(0)
    return SMALL[name]().eval()
