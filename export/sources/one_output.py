"""A module with one image in and one tensor of scores out, whatever its own forward returns.

Classifiers return tensors, dictionaries, named tuples, lists, dataclasses, transformers'
ModelOutput. Which tensor of these holds the scores is decided once, on a run, and then is a path of
keys: exporters see nothing but a look-up.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from ...runtime.errors import BacklitError, ModelError, OptionError
from .copies import twin

Path = tuple[Any, ...]
_DEEPEST = 4
"""Levels of an output that are looked into: objects may hold themselves."""


class OneOutput(torch.nn.Module):
    """A module whose ``forward`` takes images [N, C, H, W] and returns scores [N, classes].

    Attributes:
        module: the classifier.
        asked: the name of the output that holds the scores, where someone said it.
        path: the keys that lead to it, () where the module returns a tensor; None: not known yet.
        batch: how many images the module takes at a time; None: any number.
        last: the module takes its channels last, [N, H, W, C].
        pixels: it takes uint8 alone.
        scales: it divides its input itself, so that takes pixels in 0..255.
    """

    def __init__(self, module: torch.nn.Module, batch: int | None = None) -> None:
        super().__init__()
        self.module = module
        self.asked: str | None = None
        self.path: Path | None = None
        self.batch = batch
        self.last = False
        self.pixels = False
        self.scales = False
        self.keyword = _keyword(module)
        self.training = module.training

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores [N, classes] of images [N, C, H, W]."""
        if self.batch is None or len(x) == self.batch:
            return self._scores(x)
        missing = -len(x) % self.batch  # the last image again, to fill the last batch
        filled = torch.cat([x, x[-1:].expand(missing, *x.shape[1:])]) if missing else x
        return torch.cat([self._scores(part) for part in torch.split(filled, self.batch)])[: len(x)]

    def _scores(self, x: torch.Tensor) -> torch.Tensor:
        made = self._made(x)
        if self.path is None:
            self.path = choose(made, len(x), self.asked)
        for key in self.path:
            made = _get(made, key)
        scores: torch.Tensor = made
        return scores

    def _made(self, x: torch.Tensor) -> Any:
        x = x.permute(0, 2, 3, 1) if self.last else x
        x = x.to(torch.uint8) if self.pixels else x
        return self.module(x) if self.keyword is None else self.module(**{self.keyword: x})

    def settle(self, x: torch.Tensor) -> None:
        """Run the module on images [N, C, H, W] to see how it takes them and what holds the scores.

        Raises:
            Exception: what the module raises for floats [N, C, H, W], if it takes neither these nor
                uint8, nor [N, H, W, C].
        """
        said: Exception | None = None
        for self.pixels, self.last in ((False, False), (False, True), (True, False), (True, True)):
            self.path = None
            try:
                self(x)
            except BacklitError:
                raise
            except Exception as error:  # whatever a module may raise
                said = said or error
            else:
                return
        self.pixels = self.last = False
        raise said or ValueError("it was not run")

    @property
    def plain(self) -> bool:
        """Whether the module itself takes [N, C, H, W] and returns the scores."""
        as_it_is = self.keyword is None and self.batch is None
        return self.path == () and as_it_is and not self.last and not self.pixels

    @property
    def name(self) -> str | None:
        """The chosen output's name; None where there is only one, or it is not known yet."""
        return _name(self.path) if self.path else None

    def __deepcopy__(self, memo: dict[int, Any]) -> OneOutput:
        """A copy with tensors of its own, also of modules that ``copy.deepcopy`` refuses."""
        new = OneOutput(twin(self.module, share=False), self.batch)
        new.asked, new.path, new.last, new.pixels = self.asked, self.path, self.last, self.pixels
        memo[id(self)] = new
        return new


def choose(made: Any, images: int, asked: str | None) -> Path:
    """The path to the scores in what a module returned for so many images.

    The one that was asked for, else ``logits``, else the one tensor [N, classes].

    Raises:
        ModelError: no tensor could be scores; says what there is.
        OptionError: several could be; names them.
    """
    if isinstance(made, torch.Tensor):
        return ()
    found = dict(_leaves(made))
    names = {_name(path): path for path in found}
    if asked in names:
        return names[asked]
    fitting = [path for path, tensor in found.items() if _is_scores(tensor, images)]
    logits = [path for path in fitting if path[-1] == "logits"]
    floats = [path for path, tensor in found.items() if tensor.is_floating_point()]
    for likely in (logits, fitting, floats if not fitting else []):
        if len(likely) == 1:
            return likely[0]
    if not fitting:
        listed = _listed(found, list(found)) or f"a {type(made).__name__} without tensors"
        raise ModelError(
            f"the module returns no tensor of scores [N, classes]; it returns: {listed}.",
            "give a classifier, or wrap it in a module that returns the scores.",
        )
    raise OptionError(
        f"the module returns several tensors that may be scores: {_listed(found, fitting)}.",
        f'say which: --output-name {_name(fitting[0])} (output_name="{_name(fitting[0])}").',
    )


def _leaves(made: Any, path: Path = ()) -> Iterator[tuple[Path, torch.Tensor]]:
    """The tensors in what a module returned, with the keys that lead to each."""
    if isinstance(made, torch.Tensor):
        yield path, made
    elif made is not None and len(path) < _DEEPEST:
        for key in _keys(made):
            yield from _leaves(_get(made, key), (*path, key))


def _keys(made: Any) -> Sequence[Any]:
    if isinstance(made, Mapping):
        return list(made)
    if hasattr(made, "_fields"):  # a named tuple
        return list(made._fields)
    if isinstance(made, list | tuple):
        return range(len(made))
    if dataclasses.is_dataclass(made):
        return [field.name for field in dataclasses.fields(made)]
    if isinstance(made, types.FunctionType | types.ModuleType | torch.nn.Module | type):
        return []
    return list(getattr(made, "__dict__", ()))


def _get(made: Any, key: Any) -> Any:
    by_key = isinstance(made, Mapping) or isinstance(key, int)
    return made[key] if by_key else getattr(made, key)


def _is_scores(tensor: torch.Tensor, images: int) -> bool:
    shape = tensor.shape
    rows = tensor.dim() >= 2 and shape[0] == images and all(n == 1 for n in shape[2:])
    return rows and tensor.is_floating_point()


def _name(path: Path) -> str:
    return ".".join(map(str, path))


def _listed(found: Mapping[Path, torch.Tensor], paths: Sequence[Path]) -> str:
    """``logits [2, 10], aux [2, 4]``, the first eight."""
    parts = [f"{_name(path)} {list(found[path].shape)}" for path in paths[:8]]
    return ", ".join(parts) + (", ..." if len(paths) > 8 else "")


def _keyword(module: torch.nn.Module) -> str | None:
    """The name that a module takes its images by, where they are not its first argument.

    ``pixel_values``, as transformers has them, or the one that must be named.
    """
    try:
        parameters = list(inspect.signature(module.forward).parameters.values())
    except (TypeError, ValueError):
        return None
    named = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if any(p.name == "pixel_values" for p in parameters[1:]) or named == ["pixel_values"]:
        return "pixel_values"
    return named[0] if len(named) == 1 and len(required(module)) == 1 else None


def required(module: torch.nn.Module) -> list[str]:
    """The arguments that a module cannot run without; empty where its signature does not say."""
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):
        return []
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in several]
