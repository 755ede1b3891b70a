"""PyTorch's contenders of the GPU benchmark: eager autograd, torch.compile, captum.

Each does the work that a Backlit file does: uint8 pixels in, scores and the channel maximum of
|d score / d pixel| out. Weights are frozen and in channels-last layout; what crosses the bus does
so from and to pinned memory, as in Backlit's runtime.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.worker import Answer, Case, Job

Maps = tuple[torch.Tensor, torch.Tensor | None]
Work = Callable[[torch.Tensor], Maps]
LAST = torch.channels_last
_SCALE = 256.0  # of the seed in half precision, as a GradScaler has it: gradients are small


@dataclasses.dataclass(frozen=True)
class Network:
    """A classifier on the device.

    Attributes:
        scores: pixels [N,C,H,W] to unnormalised scores [N,classes].
        images: as the Backlit file takes them, on the device.
        planes: the same to float pixels [N,C,H,W] for ``scores``.
        seeds: [K,N,classes], one-hot times ``scale``.
        targets: int64 [K,N].
    """

    scores: Callable[[torch.Tensor], torch.Tensor]
    images: torch.Tensor
    planes: Callable[[torch.Tensor], torch.Tensor]
    seeds: torch.Tensor
    targets: torch.Tensor
    scale: float
    half: bool
    device: str

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Half precision by PyTorch's own choice, where it is wanted."""
        return torch.autocast(self.device, torch.float16, enabled=self.half)


def network(job: Job, case: Case, cast: bool = False) -> Network:
    """Load the module that the Backlit file was made of.

    Args:
        job: of this process.
        case: of the turn.
        cast: all of it in float16, for autocast's choice of operators.
    """
    torch.set_num_threads(job.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = job.tf32
    torch.backends.cudnn.benchmark = True
    about, half = case.about(), job.precision == "fp16"
    device = "cuda" if job.provider != "cpu" else "cpu"
    kind = torch.float16 if half and cast else torch.float32
    # The pickle was written by the process that started this one.
    module = torch.load(Path(case.folder, "module.pt"), weights_only=False).eval()
    module = module.to(device, kind, memory_format=LAST).requires_grad_(False)
    images, index = (torch.from_numpy(values) for values in case.inputs())
    prologue = about["scale"] is not None
    scale, shift = (
        torch.tensor(values if prologue else [0.0], device=device).reshape(-1, 1, 1)
        for values in (about["scale"], about["shift"])
    )

    def planes(given: torch.Tensor) -> torch.Tensor:
        ordered = given.permute(0, 3, 1, 2) if prologue else given  # NHWC is channels last
        return ordered.to(torch.float32)

    def scores(pixels: torch.Tensor) -> torch.Tensor:
        x = pixels[:, [2, 1, 0]] if about["bgr"] and prologue else pixels
        x = x * scale + shift if prologue else x
        found: torch.Tensor = module(x.to(kind, memory_format=LAST)).flatten(1)
        return found

    times = _SCALE if half else 1.0
    targets = index.T.contiguous().to(device)
    seeds = times * torch.nn.functional.one_hot(targets, about["classes"])
    return Network(
        scores, images.to(device), planes, seeds.float(), targets, times, half and not cast, device
    )


def _run(net: Network, case: Case, mode: str, work: Work) -> Callable[[], Any]:
    """Images in the host's memory to arrays there, or all on the device."""
    on_gpu = net.device != "cpu"
    given, _ = case.inputs()
    staged = torch.from_numpy(given)
    staged = staged.pin_memory() if on_gpu else staged.clone()
    results: dict[int, torch.Tensor] = {}

    def down(number: int, made: torch.Tensor) -> torch.Tensor:
        if number not in results:
            results[number] = torch.empty(made.shape, pin_memory=on_gpu)
        return results[number].copy_(made.detach(), non_blocking=True)

    def wait() -> None:
        if on_gpu:
            torch.cuda.synchronize()

    def alone() -> None:
        work(net.images)
        wait()

    def with_copies() -> Answer:
        staged.copy_(torch.from_numpy(given))
        scores, maps = work(staged.to(net.device, non_blocking=True))
        first, second = down(0, scores), None if maps is None else down(1, maps)
        wait()
        return first.numpy().copy(), None if second is None else second.numpy().copy()

    return alone if mode == "device" else with_copies


def contender(build: Callable[[Job, Case], tuple[Network, Work]]) -> Any:
    """What the worker opens; both modes of a case run the same network, compiled once."""
    kept = functools.lru_cache(maxsize=1)(build)

    @functools.wraps(build)
    def opened(job: Job, case: Case, mode: str) -> Callable[[], Any]:
        net, work = kept(job, case)
        return _run(net, case, mode, work)

    opened.forget = kept.cache_clear  # type: ignore[attr-defined]
    return opened


@contender
def forward(job: Job, case: Case) -> tuple[Network, Work]:
    """The plain forward pass, without autograd; in float16 as a whole where that is asked for."""
    net = network(job, case, cast=True)

    def work(images: torch.Tensor) -> Maps:
        with torch.inference_mode():
            return net.scores(net.planes(images)), None

    return net, work


def _eager(net: Network) -> tuple[Network, Work]:
    def work(images: torch.Tensor) -> Maps:
        pixels = net.planes(images).requires_grad_()
        with net.autocast():
            scores = net.scores(pixels).float()
        last = len(net.seeds) - 1
        maps = [
            torch.autograd.grad(scores, pixels, seed, retain_graph=k < last)[0].abs().amax(1)
            for k, seed in enumerate(net.seeds)
        ]
        return scores, torch.stack(maps, 1) / net.scale

    return net, work


@contender
def eager(job: Job, case: Case) -> tuple[Network, Work]:
    """torch.autograd of the class score by the image, one backward pass per class; autocast."""
    return _eager(network(job, case))


@contender
def half(job: Job, case: Case) -> tuple[Network, Work]:
    """The same with the network in float16 as a whole, for autocast."""
    return _eager(network(job, case, cast=True))


@contender
def compiled(job: Job, case: Case) -> tuple[Network, Work]:
    """torch.compile (max-autotune, so with CUDA graphs) of pixels to scores and maps as a whole.

    In half precision the network is in float16 as a whole. The first run compiles.
    """
    net = network(job, case, cast=True)

    def explain(images: torch.Tensor, seeds: torch.Tensor) -> Maps:
        scores, pull = torch.func.vjp(lambda x: net.scores(x).float(), net.planes(images))[:2]
        maps = [pull(seed)[0].abs().amax(1) for seed in seeds.unbind()]
        return scores, torch.stack(maps, 1) / net.scale

    made = torch.compile(explain, mode="max-autotune", dynamic=False)

    def work(images: torch.Tensor) -> Maps:
        with torch.no_grad():
            found: Maps = made(images, net.seeds)
            return found

    return net, work


@contender
def captum(job: Job, case: Case) -> tuple[Network, Work]:
    """captum.attr.Saliency, one call per class; scores from its own forward pass; autocast."""
    saliency = importlib.import_module("captum.attr").Saliency
    net = network(job, case)
    kept: list[torch.Tensor] = []

    def scores(pixels: torch.Tensor) -> torch.Tensor:
        with net.autocast():
            kept[:] = [net.scores(pixels).float()]
        return kept[0] * net.scale

    explainer = saliency(scores)

    def work(images: torch.Tensor) -> Maps:
        pixels = net.planes(images).requires_grad_()
        maps = [explainer.attribute(pixels, target=each).amax(1) for each in net.targets]
        return kept[0], torch.stack(maps, 1).detach() / net.scale

    return net, work
