"""A module is run once before any exporter sees it: then what is wrong is said once, and plainly.

The run also decides which of the module's outputs holds the scores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from ...runtime.errors import BacklitError, ModelError
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
    with torch.inference_mode(False), torch.no_grad(), plainly:
        taken = _settled(chosen, size, [channels] if channels else likely_channels(module))
        model, exporter = module_to_onnx(chosen.module if chosen.plain else chosen, size, taken)
    chosen.scales = _divides(model)
    if chosen.name is not None:
        _rename(model, chosen.name)
    return model, exporter


def _settled(chosen: OneOutput, size: tuple[int, int], tried: list[int]) -> int:
    """Run the module on images of the first number of channels that it takes; that number."""
    import torch

    from .copies import without_strangers

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
    if _runs(chosen, example.to(torch.uint8)):
        raise ModelError(
            "the module takes uint8 images alone, which have no gradient.",
            "let it take floats in 0..255 as well, such as with x = x.float().",
        ) from first
    shape = " x ".join(map(str, example.shape[1:]))
    raise ModelError(
        f"the module cannot run on images of {shape}: {first_line(first)}",
        "give the --size and --channels that it takes; its input must be float images [N, C, H, W] "
        "alone.",
    ) from first


def _runs(module: torch.nn.Module, images: torch.Tensor) -> bool:
    try:
        with quiet():
            module(images)
    except Exception:
        return False
    return True


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
