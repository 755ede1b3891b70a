"""PyTorch's contenders of the benchmark: eager autograd, torch.compile, captum.

Loaded by worker.py from its path, in the worker's process. Each does the work that a Backlit
file does: pixels in, scores and the channel maximum of |d score / d pixel| out, as numpy.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from .worker import Answer, Job, Run


@dataclasses.dataclass(frozen=True)
class Network:
    """A classifier with its prologue.

    Attributes:
        scores: pixels [N,C,H,W] to unnormalised scores [N,classes]; parameters are frozen.
        pixels: the images once more from memory, float32 [N,C,H,W], a leaf that needs a gradient.
        index: int64 [N,K].
        seeds: float32 [K,N,classes], one-hot.
    """

    scores: Callable[[torch.Tensor], torch.Tensor]
    pixels: Callable[[], torch.Tensor]
    index: torch.Tensor
    seeds: torch.Tensor


def network(job: Job, channels_last: bool = False) -> Network:
    """Load the module that the Backlit file was made of."""
    if job.module is None:
        raise ValueError("the source is no torch module, or one that cannot be pickled")
    torch.set_num_threads(job.threads)
    torch.set_num_interop_threads(1)
    # The pickle was written by the process that started this one.
    module = torch.load(job.module, weights_only=False, map_location="cpu").eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    if channels_last:
        module = module.to(memory_format=layout)
    images = torch.from_numpy(np.load(job.images))
    prologue = job.scale is not None and job.shift is not None
    scale, shift = (
        torch.tensor(values if prologue else [0.0]).reshape(-1, 1, 1)
        for values in (job.scale, job.shift)
    )

    def scores(pixels: torch.Tensor) -> torch.Tensor:
        x = pixels[:, [2, 1, 0]] if job.bgr and prologue else pixels
        found: torch.Tensor = module(x * scale + shift if prologue else x)
        return found.flatten(1)

    def pixels() -> torch.Tensor:
        planes = images.permute(0, 3, 1, 2) if prologue else images
        return planes.to(torch.float32, memory_format=layout, copy=True).requires_grad_()

    index = torch.from_numpy(np.load(job.index))
    return Network(scores, pixels, index, torch.from_numpy(job.seeds()))


def eager(job: Job, channels_last: bool = False) -> Run:
    """torch.autograd of the class score by the image, one backward pass per class."""
    net = network(job, channels_last)

    def run() -> Answer:
        pixels = net.pixels()
        scores = net.scores(pixels)
        last = len(net.seeds) - 1
        maps = [
            torch.autograd.grad(scores, pixels, seed, retain_graph=k < last)[0].abs().amax(1)
            for k, seed in enumerate(net.seeds)
        ]
        return scores.detach().numpy(), torch.stack(maps, 1).numpy()

    return run


def channels_last(job: Job) -> Run:
    """The same with weights and images in PyTorch's channels-last layout."""
    return eager(job, channels_last=True)


def batched(job: Job) -> Run:
    """The same with all K backward passes as one (is_grads_batched), channels last."""
    net = network(job, channels_last=True)

    def run() -> Answer:
        pixels = net.pixels()
        scores = net.scores(pixels)
        (gradient,) = torch.autograd.grad(scores, pixels, net.seeds, is_grads_batched=True)
        saliency = gradient.abs().amax(2).transpose(0, 1)
        return scores.detach().numpy(), saliency.contiguous().numpy()

    return run


def compiled(job: Job) -> Run:
    """torch.compile of pixels to scores and saliency, the gradient by torch.func.vjp inside.

    Channels last, which it is faster in. Compiling belongs to opening it: one run is done here, and
    its time is the start-up's.
    """
    net = network(job, channels_last=True)

    @torch.compile
    def explain(pixels: torch.Tensor, seeds: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scores, pull = torch.func.vjp(net.scores, pixels)[:2]
        maps = [pull(seed)[0].abs().amax(1) for seed in seeds.unbind()]
        return scores, torch.stack(maps, 1)

    def run() -> Answer:
        with torch.no_grad():
            scores, saliency = explain(net.pixels(), net.seeds)
        return scores.numpy(), saliency.numpy()

    run()
    return run


def captum(job: Job) -> Run:
    """captum.attr.Saliency, one call per class, channels last; scores from its own forward pass."""
    saliency = importlib.import_module("captum.attr").Saliency
    net = network(job, channels_last=True)
    kept: list[Any] = []

    def scores(pixels: torch.Tensor) -> torch.Tensor:
        kept[:] = [net.scores(pixels)]
        found: torch.Tensor = kept[0]
        return found

    explainer = saliency(scores)

    def run() -> Answer:
        pixels = net.pixels()
        maps = [explainer.attribute(pixels, target=target).amax(1) for target in net.index.T]
        return kept[0].detach().numpy(), torch.stack(maps, 1).detach().numpy()

    return run
