"""How many channels the images of a PyTorch module have: tried, for a module does not say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...runtime.errors import ModelError
from .torch_export import quiet

if TYPE_CHECKING:
    import torch

_MOST = 64  # a first layer of more takes no picture: it is not the first to be run


def channels_of(module: torch.nn.Module, size: tuple[int, int], asked: int | None = None) -> int:
    """What it takes: as asked for, else what its first convolution has, else 3, else 1.

    Args:
        module: in eval mode.
        size: height and width in pixels.
        asked: how many; tried too.

    Raises:
        ModelError: it takes no image of that size and so many channels; says why.
    """
    import torch

    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    own = [m.in_channels for m in module.modules() if isinstance(m, torch.nn.Conv2d)]
    first = [n for n in own[:1] if 1 <= n <= _MOST]
    tried = [asked] if asked is not None else list(dict.fromkeys([*first, 3, 1]))
    said: Exception | None = None
    for channels in tried:
        try:
            with quiet(), torch.no_grad():
                module(torch.zeros(2, channels, *size, dtype=dtype, device=device))
        except Exception as error:  # whatever a module may raise
            said = said or error
        else:
            return channels
    lines = [line for line in str(said).splitlines() if line.strip()] or [""]
    shape = f"[N, {tried[0]}, {size[0]}, {size[1]}]"
    raise ModelError(
        f"the module does not take images {shape}: {type(said).__name__}: {lines[0][:300]}",
        "give the --size and --channels that it takes; its input must be one float image batch.",
    ) from said


__all__ = ["channels_of"]
