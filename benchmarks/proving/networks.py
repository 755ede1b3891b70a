"""Small classifiers of the usual designs, float32 [N,3,S,S] to scores [N,classes]."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

WIDTHS = (16, 32, 64)


def _conv(a: int, b: int, stride: int = 1, groups: int = 1, norm: bool = True) -> list[nn.Module]:
    layer = nn.Conv2d(a, b, 3, stride, 1, groups=groups, bias=not norm)
    return [layer, nn.BatchNorm2d(b)] if norm else [layer]


def _head(width: int, classes: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)]


class _Residual(nn.Module):
    def __init__(self, a: int, b: int, stride: int, norm: bool) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *_conv(a, b, stride, norm=norm), nn.ReLU(), *_conv(b, b, norm=norm)
        )
        self.skip = nn.Conv2d(a, b, 1, stride) if stride > 1 or a != b else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.branch(x) + self.skip(x))


def residual(classes: int, side: int, norm: bool = True, stem: int = 2) -> nn.Module:
    """Three stages of a residual block each, the global mean, one full layer."""
    layers: list[nn.Module] = [*_conv(3, 16, stem, norm=norm), nn.ReLU()]
    for a, b in zip((16, *WIDTHS), WIDTHS, strict=False):
        layers.append(_Residual(a, b, 1 if a == b else 2, norm))
    return nn.Sequential(*layers, *_head(WIDTHS[-1], classes))


def residual_bare(classes: int, side: int) -> nn.Module:
    """The same without normalisation."""
    return residual(classes, side, norm=False)


def residual_coarse(classes: int, side: int) -> nn.Module:
    """The same with a stem of stride 4, for large pictures."""
    return residual(classes, side, stem=4)


def residual_deep(classes: int, side: int) -> nn.Module:
    """Two blocks a stage."""
    layers: list[nn.Module] = [*_conv(3, 16, 2), nn.ReLU()]
    for a, b, stride in ((16, 16, 1), (16, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2)):
        layers.append(_Residual(a, b, stride, norm=True))
    return nn.Sequential(*layers, *_head(64, classes))


def plain(classes: int, side: int) -> nn.Module:
    """Convolutions and maxima, the global mean."""
    layers: list[nn.Module] = []
    for a, b in zip((3, *WIDTHS), (*WIDTHS, 64), strict=True):
        layers += [*_conv(a, b), nn.ReLU(), *([nn.MaxPool2d(2)] if b < 64 or a < 64 else [])]
    return nn.Sequential(*layers, *_head(64, classes))


def full(classes: int, side: int) -> nn.Module:
    """Convolutions and maxima, then full layers that see every cell by itself."""
    layers: list[nn.Module] = []
    for a, b in ((3, 16), (16, 32), (32, 32)):
        layers += [*_conv(a, b), nn.ReLU(), nn.MaxPool2d(2)]
    cells = (side // 8) ** 2
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(32 * cells, 64), nn.ReLU(), nn.Linear(64, classes)
    )


class _Inverted(nn.Module):
    """Widen, filter each channel by itself, narrow without a ReLU (MobileNetV2's)."""

    def __init__(self, a: int, b: int, stride: int) -> None:
        super().__init__()
        wide = 4 * a
        self.same = stride == 1 and a == b
        self.branch = nn.Sequential(
            nn.Conv2d(a, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6(),
            *_conv(wide, wide, stride, groups=wide), nn.ReLU6(),
            nn.Conv2d(wide, b, 1, bias=False), nn.BatchNorm2d(b),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.branch(x)
        return x + made if self.same else made


def depthwise(classes: int, side: int) -> nn.Module:
    """Inverted residual blocks with linear ends."""
    layers: list[nn.Module] = [*_conv(3, 16, 2), nn.ReLU6()]
    for a, b, stride in ((16, 16, 2), (16, 16, 1), (16, 32, 1), (32, 32, 1), (32, 48, 2)):
        layers.append(_Inverted(a, b, stride))
    last = [nn.Conv2d(48, 96, 1, bias=False), nn.BatchNorm2d(96), nn.ReLU6()]
    return nn.Sequential(*layers, *last, *_head(96, classes))


class _LayerNorm(nn.LayerNorm):
    """Over the channels of [N,C,H,W]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _ConvNeXt(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(width, width, 7, 1, 3, groups=width), _LayerNorm(width),
            nn.Conv2d(width, 4 * width, 1), nn.GELU(), nn.Conv2d(4 * width, width, 1),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = x + self.branch(x)
        return made


def convnext(classes: int, side: int) -> nn.Module:
    """Patches of 4, then blocks of 7 x 7 filters with layer normalisation and GELU."""
    return nn.Sequential(
        nn.Conv2d(3, 24, 4, 4), _LayerNorm(24), _ConvNeXt(24), _ConvNeXt(24),
        _LayerNorm(24), nn.Conv2d(24, 48, 2, 2), _ConvNeXt(48), _ConvNeXt(48),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(48), nn.Linear(48, classes),
    )  # fmt: skip


class _Transformer(nn.Module):
    def __init__(self, classes: int, side: int, patch: int, width: int = 64, depth: int = 4):
        super().__init__()
        cells = (side // patch) ** 2
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.place = nn.Parameter(torch.randn(1, cells + 1, width) * 0.1)
        self.blocks = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(
                    width, 4, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True
                )
                for _ in range(depth)
            )
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        cells = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(cells), -1, -1), cells], 1) + self.place
        scores: torch.Tensor = self.head(self.norm(self.blocks(tokens)[:, 0]))
        return scores


def transformer(classes: int, side: int) -> nn.Module:
    """A vision transformer with patches of 8 pixels and a class token."""
    return _Transformer(classes, side, 8)


Maker = Callable[[int, int], nn.Module]
"""Of the number of classes and the side of the pictures."""
