"""From a PyTorch module to ONNX, by the first of PyTorch's exporters that takes it."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from ...runtime.errors import ModelError
from ..graph.values import BATCH
from ..graph.weights import detach, session
from ..prepare.normalise import OPSET, free_batch, modernise

if TYPE_CHECKING:
    import torch

_LOG = logging.getLogger("backlit")
_MOST = 64  # a first layer of more takes no picture: it is not the first to be run


def module_to_onnx(
    module: torch.nn.Module, size: tuple[int, int], channels: int = 3
) -> tuple[ir.Model, str]:
    """Export a module by the first of PyTorch's exporters that takes it.

    Args:
        module: in eval mode; its input is [N, C, H, W].
        size: height and width in pixels.
        channels: C.

    Returns:
        The model, one input ``input`` with a dynamic first dimension, its weights still the
        module's tensors (except from TorchScript); and the exporter used, a name in EXPORTERS.

    Raises:
        ModelError: none can; says what each said.
    """
    import torch

    example = example_of(module, size, channels)
    said: dict[str, str] = {}
    for name, exporter in EXPORTERS.items():
        try:
            with quiet(), torch.no_grad():
                return exporter(module, example), name
        except Exception as error:
            lines = [line for line in _root(error).splitlines() if line.strip()] or [""]
            said.setdefault(f"{type(error).__name__}: {lines[0].strip()[:200]}", name)
            _LOG.info("%s: %s", name, error)
    reasons = "; ".join(f"{name}: {reason.rstrip('.')}" for reason, name in said.items())
    raise ModelError(
        f"none of PyTorch's exporters takes the model: {reasons}.",
        "export the model to ONNX yourself (any exporter) and give the .onnx file.",
    )


def likely_channels(module: torch.nn.Module) -> list[int]:
    """How many channels its images may have, the likeliest first: a module does not say.

    What its first convolution takes, unless that is no number of a picture; 3; 1.
    """
    own = [m.in_channels for m in module.modules() if hasattr(m, "in_channels")]
    first = [int(n) for n in own[:1] if isinstance(n, int) and 1 <= n <= _MOST]
    return list(dict.fromkeys([*first, 3, 1]))


def example_of(module: torch.nn.Module, size: tuple[int, int], channels: int) -> torch.Tensor:
    """Images [N, C, H, W] as a module takes them: uint8, or in the dtype of its first weights.

    Two, where it takes any number: what is one is easily taken for something that broadcasts.
    """
    import torch

    floats = (p.dtype for p in module.parameters() if p.is_floating_point())
    batch = getattr(module, "batch", None) or 2
    pixels = getattr(module, "pixels", False)
    dtype = torch.uint8 if pixels else next(floats, torch.float32)
    return torch.zeros(batch, channels, *size, dtype=dtype, device="cpu")


def _by_export(module: torch.nn.Module, example: torch.Tensor) -> ir.Model:
    import torch

    model = _converted(module, example, ({0: torch.export.Dim(BATCH, min=1)},))
    if isinstance(model.graph.inputs[0].shape[0], int):  # type: ignore[index]
        raise ValueError("the batch became a number")  # torch.onnx.export does so silently
    return model


def _by_strict_export(module: torch.nn.Module, example: torch.Tensor) -> ir.Model:
    import torch

    shapes = ({0: torch.export.Dim(BATCH, min=1)},)
    program = torch.export.export(module, (example,), dynamic_shapes=shapes, strict=True)
    return _converted(program, example, None)


def _by_fixed_batch(module: torch.nn.Module, example: torch.Tensor) -> ir.Model:
    model = modernise(_converted(module, example, None))
    free_batch(model, model.graph.inputs[0])
    return _checked(model, module, example)


def _converted(module: Any, example: torch.Tensor, shapes: Any) -> ir.Model:
    import torch

    program: Any = torch.onnx.export(
        module, (example,), dynamo=True, opset_version=OPSET, dynamic_shapes=shapes,
        input_names=["input"], output_names=["scores"], verbose=False,
        custom_translation_table={torch.ops.aten.as_strided.default: _as_strided},
    )  # fmt: skip
    graph = program.model.graph
    for node in graph:  # constants of fused Clips lose their place where two of them share a name
        for i, value in enumerate(node.inputs):
            if value is not None and value.const_value is not None and not value.is_initializer():
                value.name = f"{node.name}/input_{i}"
                graph.register_initializer(value)
    return program.model


def _as_strided(self: Any, size: Any, stride: Any, storage_offset: Any = None) -> Any:
    """``aten.as_strided`` as Identity where it shows all of a tensor in order, else as a Gather.

    PyTorch's pooling to 1x1 ends in one, to give a channels-last tensor its strides back.
    """
    from onnxscript import opset20
    from onnxscript.function_libs.torch_lib.ops.core import aten_as_strided

    own, step, same = list(self.shape), 1, len(self.shape) == len(size) and not storage_offset
    for i in reversed(range(len(own) if same else 0)):
        dynamic = i == 0 and not isinstance(own[i], int) and not isinstance(size[i], int)
        same = same and (dynamic or own[i] == size[i]) and (own[i] == 1 or stride[i] == step)
        step = step * own[i] if i else step
    return opset20.Identity(self) if same else aten_as_strided(self, size, stride, storage_offset)


def _by_torchscript(module: torch.nn.Module, example: torch.Tensor) -> ir.Model:
    import onnx
    import torch

    with tempfile.TemporaryDirectory() as folder, _unlogged():
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            module, (example,), path, dynamo=False, opset_version=OPSET, input_names=["input"],
            output_names=["scores"], dynamic_axes={"input": {0: BATCH}},
        )  # fmt: skip
        model = ir.serde.deserialize_model(onnx.load(path))
    return _checked(model, module, example)


@contextlib.contextmanager
def _unlogged() -> Iterator[None]:
    """Keep the graph of a failed export off the standard output, where C++ writes it.

    PyTorch logs if the function that says whether to do so is true, and does not ask it.
    """
    import torch

    native: Any = torch._C
    asked = native._jit_is_onnx_log_enabled
    native._jit_is_onnx_log_enabled = None
    try:
        yield
    finally:
        native._jit_is_onnx_log_enabled = asked


def _checked(model: ir.Model, module: torch.nn.Module, example: torch.Tensor) -> ir.Model:
    """The model, if it computes what the module does for a batch it was not traced with.

    A traced or freed graph may hold the example's batch as a number where nobody sees it.
    """
    import torch

    seed = torch.Generator().manual_seed(0)
    shape = len(example) + 1, *example.shape[1:]
    x = torch.randint(256, shape, generator=seed, dtype=torch.uint8)
    if example.is_floating_point():
        x = torch.rand(shape, generator=seed, dtype=example.dtype)
    (found,) = session(detach(model)).run(None, {"input": x.numpy()})
    expected = module(x).numpy()
    if found.shape != expected.shape or not np.allclose(
        found, expected, rtol=1e-3, atol=1e-3 * float(np.abs(expected).max())
    ):
        raise ValueError(f"what it makes is wrong for another batch than {len(example)}")
    return model


# In the order they are tried; the first by itself tries non-strict and then strict capture.
EXPORTERS: dict[str, Callable[[Any, Any], ir.Model]] = {
    "torch.export": _by_export,
    "torch.export, strict": _by_strict_export,
    "torch.export, fixed batch": _by_fixed_batch,
    "TorchScript": _by_torchscript,
}


def _root(error: BaseException) -> str:
    """What the innermost of chained errors says: PyTorch wraps the reason in advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Torch's exporter talks on stdout and stderr and warns of what its users cannot change."""
    loggers = [logging.getLogger(name) for name in ("torch", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        heard = io.StringIO()
        said = contextlib.redirect_stdout(heard), contextlib.redirect_stderr(heard)
        with said[0], said[1], warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
