"""A module is run once before any exporter sees it: then what is wrong is said once, and plainly.

The run also decides which of the module's outputs holds the scores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from ...runtime.errors import BacklitError, ModelError
from .torch_export import example_of, module_to_onnx, quiet

if TYPE_CHECKING:
    import torch


def to_scores(
    module: torch.nn.Module, size: tuple[int, int], output_name: str | None
) -> tuple[ir.Model, str]:
    """Export a module as ONNX with one output, the scores, named as the module names them.

    Args:
        module: in eval mode; a `OneOutput` keeps which of its outputs was chosen.
        size: height and width in pixels.
        output_name: the output that holds the scores; None: see `one_output.choose`.

    Returns:
        The model, and the name of the exporter that made it.

    Raises:
        ModelError: the module cannot run, returns no scores, or no exporter takes it.
        OptionError: several outputs could be the scores.
    """
    import torch

    from .copies import without_strangers
    from .one_output import OneOutput

    chosen = module if isinstance(module, OneOutput) else OneOutput(module)
    chosen.asked, chosen.path = output_name, None
    example = example_of(module, size)
    shape = " x ".join(map(str, example.shape[1:]))
    plainly = torch.autocast("cpu", enabled=False)
    with torch.inference_mode(False), torch.no_grad(), plainly:
        try:
            with quiet(), without_strangers(chosen):
                chosen(example)
        except BacklitError:
            raise
        except Exception as error:
            raise ModelError(
                f"the module cannot run on images of {shape}: {first_line(error)}",
                "check --size, and that the module takes float images [N, C, H, W] alone.",
            ) from error
        plain = chosen.path == () and chosen.keyword is None and chosen.batch is None
        model, exporter = module_to_onnx(chosen.module if plain else chosen, size)
    if chosen.name is not None:
        _rename(model, chosen.name)
    return model, exporter


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
