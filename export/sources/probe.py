"""A module is run once before any exporter sees it: then what is wrong is said once, and plainly.

The run also decides which of the module's outputs holds the scores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from ...runtime.errors import BacklitError, ModelError
from ..prepare.image import Wanted, as_images
from .single import BF16, in_float32
from .torch_export import example_of, likely_channels, module_to_onnx, quiet

if TYPE_CHECKING:
    import torch

    from .one_output import OneOutput


def to_scores(
    module: torch.nn.Module,
    size: tuple[int, int],
    output_name: str | None,
    channels: int | None = None,
) -> tuple[ir.Model, str]:
    """Export a module as ONNX with one output, the scores, named as the module names them.

    Args:
        module: in eval mode; a `OneOutput` keeps which of its outputs was chosen.
        size: height and width in pixels.
        output_name: the output that holds the scores; None: see `one_output.choose`.
        channels: of an image; None: the likeliest that it runs on.

    Returns:
        The model, and the name of the exporter that made it.

    Raises:
        ModelError: the module cannot run, returns no scores, or no exporter takes it.
        OptionError: several outputs could be the scores.
    """
    import torch

    from .one_output import OneOutput

    chosen = module if isinstance(module, OneOutput) else OneOutput(module)
    chosen.asked = output_name
    plainly = torch.autocast("cpu", enabled=False)
    chance = torch.random.fork_rng(devices=[])  # the caller's random numbers stay as they are
    with torch.inference_mode(False), torch.no_grad(), plainly, chance:
        taken = _settled(chosen, size, [channels] if channels else likely_channels(module))
        model, exporter = module_to_onnx(chosen.module if chosen.plain else chosen, size, taken)
    in_float32(model, [BF16])  # what autocast left
    chosen.scales = chosen.pixels or _divides(model)
    if chosen.pixels:
        model = as_images(model, Wanted(size, taken))
    if chosen.name is not None:
        _rename(model, chosen.name)
    return model, exporter


def _settled(chosen: OneOutput, size: tuple[int, int], tried: list[int]) -> int:
    """Run the module on images of the first number of channels that it takes; that number."""
    from .copies import without_strangers
    from .one_output import required

    said: tuple[torch.Tensor, Exception] | None = None
    for channels in tried:
        example = example_of(chosen, size, channels)
        try:
            with quiet(), without_strangers(chosen):
                chosen.settle(example)
        except BacklitError:
            raise
        except Exception as error:  # whatever a module may raise
            said = said or (example, error)
        else:
            return channels
    if said is None:
        raise ValueError("no number of channels was tried")
    example, first = said
    shape = " x ".join(map(str, example.shape[1:]))
    fix = (
        "give the --size and --channels that it takes; its one input must be a batch of images, "
        "[N, C, H, W] or [N, H, W, C]."
    )
    if len(others := required(chosen.module)) > 1:
        fix = (
            "wrap it in a module whose forward takes the images alone and fills in the rest of "
            f"{', '.join(others)}."
        )
    raise ModelError(
        f"the module cannot run on images of {shape}: {first_line(first)}", fix
    ) from first


_WAITING = ("Cast", "Transpose", "Identity", "Reshape", "Unsqueeze", "Sub", "Add", "Mul", "Div")
_PIXELS = 20  # a divisor above it is 255, 127.5, or a standard deviation of pixels in 0..255


def _divides(model: ir.Model) -> bool:
    """Whether the first that happens to the images is a division that pixels in 0..255 want."""
    value = model.graph.inputs[0]
    while len(value.uses()) == 1:
        (use,) = value.uses()
        node = use.node
        if node.op_type not in _WAITING:
            return False
        if node.op_type in ("Mul", "Div"):
            other = node.inputs[1] if node.inputs[0] is value else node.inputs[0]
            tensor = None if other is None else ir.convenience.get_const_tensor(other)
            if tensor is None:
                return False
            by = np.abs(tensor.numpy().astype(np.float64))
            if (by >= _PIXELS if node.op_type == "Div" else by * _PIXELS <= 1).all():
                return True
        value = node.outputs[0]
    return False


def first_line(error: BaseException) -> str:
    """An error's class and the first line of what it says, 300 characters at most."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return said[:300]


def _rename(model: ir.Model, name: str) -> None:
    """Name the one output, whatever else had that name."""
    (scores,) = model.graph.outputs
    for node in model.graph:
        for value in node.outputs:
            if value.name == name and value is not scores:
                value.name = f"{name}/inner"
    scores.name = name
