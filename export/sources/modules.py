"""PyTorch objects as classifiers: modules, whatever wraps them, exported programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...runtime.errors import ModelError, OptionError
from .checkpoints import read, set_weights
from .classifier import Classifier, Preprocessing
from .packages import import_or_fix
from .processors import of_config


def from_object(source: Any, name: str, weights: str | None) -> Classifier:
    """An nn.Module or ExportedProgram, with the weights of a state dict where one is given.

    The caller's module stays as it is: what is exported is a copy in eval mode that shares its
    parameters.

    Raises:
        ModelError: it is something else, or the weights cannot be read or do not fit.
    """
    torch = import_or_fix("torch", "pip install torch")
    from .one_output import OneOutput

    if isinstance(source, OneOutput):  # of an earlier export
        return classifier(source, type(source.module).__name__, Preprocessing())
    if isinstance(source, torch.export.ExportedProgram):
        if weights is not None:
            raise OptionError(
                "--weights goes with modules; an exported program has its own.",
                "leave --weights out.",
            )
        return _from_program(source, name)
    source = _unwrapped(source)
    if not isinstance(source, torch.nn.Module):
        raise _no_module(source, name)
    _refuse_quantised(source)
    from .copies import working_copy

    module = working_copy(source)
    _without_compilers(module)
    if weights not in (None, "random"):
        with torch.no_grad():
            set_weights(_own_tensors(module), read(Path(str(weights))), Path(str(weights)))
    _without_parametrizations(module)
    config = getattr(source, "config", None)
    return classifier(module, name, Preprocessing() if config is None else of_config(config))


def classifier(module: Any, name: str, says: Preprocessing, batch: int | None = None) -> Classifier:
    """A module that is the caller's no more, with its hash and one output."""
    from .copies import digest
    from .one_output import OneOutput

    if not isinstance(module, OneOutput):
        module = OneOutput(module if batch is not None else module.eval(), batch)
    return Classifier(name, digest(module.module), None, module, says)


def _from_program(program: Any, name: str) -> Classifier:
    """An exported program; its size is its input's, its batch may be fixed."""
    from .one_output import OneOutput

    inputs = [n for n in program.graph.nodes if n.name in program.graph_signature.user_inputs]
    if len(inputs) != 1 or len(getattr(inputs[0].meta.get("val"), "shape", ())) != 4:
        raise ModelError(
            f"the exported program has {len(inputs)} inputs, or its input is no image "
            "[N, C, H, W].",
            "export the classifier with images as its one input.",
        )
    for node in program.graph.nodes:
        called = str(node.target)
        training = ("dropout" in called or "batch_norm" in called) and True in node.args[2:]
        if training and not called.startswith("aten.batch_norm.default"):
            raise _in_training()
        if called.startswith("aten.batch_norm.default") and node.args[5] is True:
            raise _in_training()
    batch, _, *dims = inputs[0].meta["val"].shape
    size = tuple(int(d) for d in dims) if all(isinstance(d, int) for d in dims) else None
    module = OneOutput(program.module(), batch if isinstance(batch, int) else None)
    return classifier(module, name, Preprocessing(size=size))  # type: ignore[arg-type]


def _in_training() -> ModelError:
    return ModelError(
        "the program was exported in training mode.",
        "export it again after module.eval().",
    )


def _unwrapped(source: Any) -> Any:
    """The module in what torch.compile, DataParallel and DistributedDataParallel make of it."""
    import torch

    parallel = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)
    while isinstance(source, torch.nn.Module):
        if hasattr(source, "_orig_mod"):
            source = source._orig_mod
        elif isinstance(source, parallel):
            source = source.module
        else:
            break
    return source


def _refuse_quantised(source: Any) -> None:
    """PyTorch's own quantised layers run kernels that no exporter knows.

    Raises:
        ModelError: it has some, or what measures for them.
    """
    parts = {type(part).__module__ + "." + _kind(part) for part in source.modules()}
    places = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.ao.quantization")
    named = [part for part in sorted(parts) if part.startswith(places) or "PackedParams" in part]
    if named:
        kinds = sorted({name.rpartition(".")[2] for name in named})
        raise ModelError(
            "the module is quantised by PyTorch, or prepared for it: it has "
            f"{', '.join(kinds[:3])}{', ...' if len(kinds) > 3 else ''}.",
            "give the module from before its quantisation; a quantised ONNX file, as "
            "onnxruntime.quantization makes it of an exported one, is taken too.",
        )


def _kind(part: Any) -> str:
    """The name of a module's class, also where it was scripted."""
    return str(getattr(part, "original_name", type(part).__name__))


def _without_compilers(module: Any) -> None:
    """Put the plain modules back where parts of a module are compiled."""
    for part in list(module.modules()):
        for key, child in list(part.named_children()):
            if (plain := _unwrapped(child)) is not child:
                setattr(part, key, plain)


def _without_parametrizations(module: Any) -> None:
    """The weights that parametrizations compute (orthogonal, weight_norm), in their place."""
    from torch.nn.utils import parametrize

    parts = [part for part in module.modules() if parametrize.is_parametrized(part)]
    if parts:
        _own_tensors(module)  # what follows writes into them
    for part in parts:
        for name in list(part.parametrizations):
            parametrize.remove_parametrizations(part, name, leave_parametrized=True)


def _own_tensors(module: Any) -> Any:
    """The module with parameters of its own: other weights are to be written into them."""
    import torch

    for part in module.modules():
        if isinstance(part, torch.jit.ScriptModule):
            continue
        for key, parameter in part._parameters.items():
            if parameter is not None:
                copied = parameter.detach().clone()
                part._parameters[key] = torch.nn.Parameter(copied, parameter.requires_grad)
    return module


def _no_module(source: Any, name: str) -> ModelError:
    """The error for an object that is no classifier, with what its kind suggests."""
    import torch

    kind = type(source).__name__
    if isinstance(source, type):
        problem = f"{name if name != 'type' else source.__name__} is a class, not a module."
        return ModelError(
            problem, f"give an instance: {source.__name__}(), with its weights loaded."
        )
    if isinstance(source, dict):
        return ModelError(
            "a dictionary of weights is no classifier: it does not say how they are used.",
            "make the module, load them with load_state_dict, and give the module.",
        )
    inner = getattr(source, "model", None)
    if isinstance(inner, torch.nn.Module):
        return ModelError(f"a {kind} is not a torch.nn.Module.", "give its .model, which is one.")
    if isinstance(source, tuple | list) and any(isinstance(x, torch.nn.Module) for x in source):
        return ModelError(f"a {kind} is not a torch.nn.Module.", "give the module in it alone.")
    return ModelError(
        f"a {kind} is not a torch.nn.Module.", "give a module, an ONNX file or a name."
    )
