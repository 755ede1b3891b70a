"""A caller's module stays as it is: what an export works on is a twin that shares its weights."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import warnings
from collections.abc import Iterator
from typing import Any

import torch

from ...runtime.errors import ModelError


def working_copy(module: torch.nn.Module) -> torch.nn.Module:
    """A twin in eval mode, on the CPU, that shares the parameters; the module stays as it is.

    Weights in float64 or bfloat16 become float32: ONNX Runtime's CPU provider has no Conv of those.

    Raises:
        ModelError: the module has no weights yet.
    """
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if torch.nn.parameter.is_lazy(tensor):
            raise ModelError(
                f"the module's {name} has no shape yet: it is a lazy layer's.",
                "run the module once on an image before you export it.",
            )
        if tensor.device.type == "meta":
            raise ModelError(
                f"the module's {name} is on the meta device, so it holds no numbers.",
                "load the weights first: module.to_empty(device='cpu'), then load_state_dict.",
            )
    wide = any(p.dtype in (torch.float64, torch.bfloat16) for p in module.parameters())
    copied = twin(module, share=not wide)
    return (copied.float() if wide else copied).eval()


def twin(module: torch.nn.Module, share: bool) -> torch.nn.Module:
    """A copy of a module on the CPU.

    Args:
        module: stays as it is.
        share: its parameters are the module's own where those are on the CPU; buffers, which a
            forward pass may write to, are copied always.

    Returns:
        A deep copy. Where something in the module cannot be copied deeply (a lock, a handle, a
        tensor that autograd made), new modules with the same attributes.
    """
    memo: dict[int, Any] = {id(p): _on_cpu(p, share) for p in module.parameters()}
    for part in module.modules():
        own = vars(part).values() if not isinstance(part, torch.jit.ScriptModule) else ()
        for value in (*part.buffers(recurse=False), *own):
            if isinstance(value, torch.Tensor) and id(value) not in memo:
                memo[id(value)] = value.detach().cpu().clone()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return copy.deepcopy(module, dict(memo))
    except Exception:  # whatever a user's attributes raise
        return _rebuilt(module, memo, {})


def _on_cpu(parameter: torch.nn.Parameter, share: bool) -> torch.nn.Parameter:
    if share and parameter.device.type == "cpu":
        return parameter
    moved = parameter.detach().cpu()
    moved = moved.clone() if moved.data_ptr() == parameter.data_ptr() else moved
    return torch.nn.Parameter(moved, requires_grad=parameter.requires_grad)


def _rebuilt(
    module: torch.nn.Module, tensors: dict[int, Any], made: dict[int, torch.nn.Module]
) -> torch.nn.Module:
    """Modules of the same classes with the same attributes, but tensors and parts of their own."""
    if id(module) in made:
        return made[id(module)]
    new = module.__new__(type(module))
    made[id(module)] = new
    own: dict[str, Any] = {
        key: value.copy() if isinstance(value, dict | list | set) else tensors.get(id(value), value)
        for key, value in vars(module).items()
    }
    for kind in ("_parameters", "_buffers"):
        own[kind] = {key: tensors.get(id(value), value) for key, value in own[kind].items()}
    own["_modules"] = {
        key: None if part is None else _rebuilt(part, tensors, made)
        for key, part in own["_modules"].items()
    }
    new.__dict__ = own
    return new


@contextlib.contextmanager
def without_strangers(module: torch.nn.Module) -> Iterator[None]:
    """Watch a run of a module: a part in training mode that is not its own would spoil it.

    Raises:
        ModelError: a function of the module has hold of another module, which is in training mode.
    """
    own = {id(part) for part in module.modules()}
    strangers: list[torch.nn.Module] = []

    def watch(part: torch.nn.Module, _: Any) -> None:
        if part.training and id(part) not in own and _differs_in_training(part):
            strangers.append(part)

    handle = torch.nn.modules.module.register_module_forward_pre_hook(watch)
    try:
        yield
    finally:
        handle.remove()
    if strangers:
        raise ModelError(
            f"the module runs a {type(strangers[0]).__name__} in training mode that is not one of "
            "its submodules.",
            "put it in eval mode first, or make it an attribute of the module.",
        )


def _differs_in_training(part: torch.nn.Module) -> bool:
    """Whether training mode matters to it: not to a Softmax made in a forward pass."""
    layers = (torch.nn.modules.dropout._DropoutNd, torch.nn.modules.batchnorm._NormBase)
    named = type(part).__name__.lower()
    return isinstance(part, layers) or "drop" in named or "stochastic" in named


def digest(module: torch.nn.Module) -> str:
    """SHA-256 of a module's state: names and bits in order, whatever is kept in it."""
    found = hashlib.sha256()
    for key, value in module.state_dict().items():
        found.update(key.encode())
        if not isinstance(value, torch.Tensor):  # packed parameters, a module's extra state
            found.update(repr(value).encode())
            continue
        value = value.detach().cpu()
        value = value.int_repr() if value.is_quantized else value.to_dense()
        bits = value.contiguous().reshape(-1).view(torch.uint8)
        found.update(bits.numpy().data)
    return found.hexdigest()
