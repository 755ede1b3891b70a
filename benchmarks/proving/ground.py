"""The networks of the proving ground: one row each, trained on pictures of one kind."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from . import networks
from .networks import Maker
from .pictures import KINDS, Integers, Pictures, Pixels, draw

TRAINING, TRIAL = 1, 2  # seeds of pictures
BATCH = 16


@dataclasses.dataclass(frozen=True)
class Case:
    """A network, and what it learns from.

    Attributes:
        make: the network.
        kind: of the pictures, a key of `KINDS`.
        side: of the pictures, in pixels.
        count: pictures to learn from.
        epochs: passes over them.
        rate: the highest learning rate.
    """

    make: Maker
    kind: str
    side: int
    count: int = 2000
    epochs: int = 5
    rate: float = 4e-3


CASES = {
    "residual 96, shapes": Case(networks.residual, "shapes", 96),
    "residual 96 without norm, shapes": Case(networks.residual_bare, "shapes", 96),
    "residual 64 deep, shapes": Case(networks.residual_deep, "shapes", 64),
    "plain 64, shapes": Case(networks.plain, "shapes", 64),
    "plain 32, two classes": Case(networks.plain, "two classes", 32),
    "full layers 64, shapes": Case(networks.full, "shapes", 64),
    "plain 64, glyphs in clutter": Case(networks.plain, "glyphs in clutter", 64),
    "residual 64, textures": Case(networks.residual, "textures", 64),
    "residual 96, tiny": Case(networks.residual, "tiny", 96),
    "residual 64, border": Case(networks.residual, "border", 64),
    "residual 64, two objects": Case(networks.residual, "two objects", 64),
    "depthwise 96, shapes": Case(networks.depthwise, "shapes", 96),
    "depthwise 64, forty classes": Case(networks.depthwise, "forty classes", 64),
    "convnext 64, textures": Case(networks.convnext, "textures", 64, epochs=6, rate=2e-3),
    "transformer 64, textures": Case(networks.transformer, "textures", 64, epochs=10, rate=2e-3),
    "residual 224, shapes": Case(networks.residual_coarse, "shapes", 224),
    "overfitted residual 64, shapes": Case(networks.residual, "shapes", 64, 100, 30),
}
"""Every network by name."""


def trained(name: str, folder: Path) -> nn.Module:
    """The network, trained now or read from where it was kept.

    Args:
        name: a key of `CASES`.
        folder: where the weights are kept.
    """
    case = CASES[name]
    torch.manual_seed(0)
    model = case.make(KINDS[case.kind].classes, case.side)
    path = folder / f"{name.replace(' ', '_').replace(',', '')}.pt"
    if path.exists():
        model.load_state_dict(torch.load(path, weights_only=True))
    else:
        _train(model, case)
        torch.save(model.state_dict(), path)
    return model.eval()


def _train(model: nn.Module, case: Case) -> None:
    """AdamW on a one-cycle schedule; of two objects in a picture each is half of the truth."""
    pictures = draw(KINDS[case.kind], case.count, case.side, TRAINING)
    targets = np.zeros((case.count, KINDS[case.kind].classes), np.float32)
    targets[pictures.owners, pictures.labels] = 1
    truth = torch.from_numpy(targets / targets.sum(1, keepdims=True))
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=0.02)
    batches = case.count // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, case.rate, total_steps=case.epochs * batches, pct_start=0.2
    )
    rng = np.random.default_rng(0)
    model.train()
    for _ in range(case.epochs):
        order = rng.permutation(case.count)
        for start in range(0, batches * BATCH, BATCH):
            rows = order[start : start + BATCH]
            loss = functional.cross_entropy(
                model(normalise(pictures.images[rows])), truth[torch.from_numpy(rows)]
            )
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()


def normalise(images: Pixels) -> torch.Tensor:
    """Pictures uint8 [N,S,S,3] as the networks take them: float32 [N,3,S,S] of -2..2."""
    return (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25


def trial(name: str, count: int) -> Pictures:
    """Pictures that the network has not seen."""
    case = CASES[name]
    return draw(KINDS[case.kind], count, case.side, TRIAL)


def accuracy(model: nn.Module, pictures: Pictures) -> float:
    """Share of pictures whose best class is that of an object in them."""
    with torch.no_grad():
        best = model(normalise(pictures.images)).argmax(1).numpy()
    right: Integers = np.bincount(pictures.owners, best[pictures.owners] == pictures.labels)
    return float((right > 0).mean())
