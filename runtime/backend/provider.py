"""What an execution provider is to Backlit: one row of the table in providers/."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from ..contract import Contract
from .ort import SWAP
from .placement import Node

Options = Mapping[str, Mapping[str, str]]
"""Short name of a provider -> option -> value."""

Values = tuple[str, ...] | type[int] | type[str]
"""What an option takes: one of these, a whole number, any text."""

SWITCH: Values = ("0", "1")


def on(text: str) -> bool:
    """A switch among the options."""
    return text.lower() in ("1", "true")


@dataclasses.dataclass(frozen=True)
class Opened:
    """A session of ONNX Runtime, and what it really runs on.

    Attributes:
        session: of ONNX Runtime.
        provider: short name of the first provider.
        elsewhere: of a provider that may leave nodes to another, those that it left; computations
            of shapes, which it leaves to the CPU on purpose, are not among them.
        engines: of such a provider, how many groups of nodes it took: 1 is one TensorRT engine.
    """

    session: Any
    provider: str
    elsewhere: tuple[Node, ...] = ()
    engines: int = 0


class Opener(Protocol):
    """Opens a model on the providers named, and proves that it got them: `sessions.open_on`."""

    def __call__(
        self,
        model: str | bytes,
        names: tuple[str, ...],
        threads: int | None = None,
        optimise: bool = True,
        shape: tuple[int, int] | None = None,
        path: str | None = None,
        options: Options | None = None,
    ) -> Opened:
        """See `sessions.open_on`."""


@dataclasses.dataclass(frozen=True)
class File:
    """A Backlit file as it is to be opened.

    Attributes:
        path: of the file.
        model: its path, or its bytes without the maps that nobody wants.
        kept: names of the maps that were left in; None: all.
        threads: within an operator; None: one per physical core.
        options: the user's.
        opener: what opens it.
    """

    path: str
    model: str | bytes
    kept: frozenset[str] | None
    threads: int | None
    options: Options
    opener: Opener

    def own(self, provider: str) -> dict[str, str]:
        """The user's options of a provider."""
        return dict(self.options.get(provider, {}))

    def open(
        self,
        names: tuple[str, ...],
        options: Options | None = None,
        optimise: bool = True,
        shape: tuple[int, int] | None = None,
    ) -> Opened:
        """A session on the providers named.

        Args:
            names: short names, in order of preference.
            options: over the user's.
            optimise: False skips ONNX Runtime's graph optimisation.
            shape: fixes the dimensions N and K.
        """
        return self.opener(
            self.model, names, self.threads, optimise, shape=shape, path=self.path,
            options={**self.options, **(options or {})},
        )  # fmt: skip


class Graph(Protocol):
    """A file's graph with buffers that it is run with: on the host, or on a device."""

    def fresh(self) -> Self:
        """The same graph, for another thread."""

    def run(self, images: npt.NDArray[Any], index: npt.NDArray[np.int64]) -> list[Any]:
        """Scores, classes, score and the maps for class_index [N,K]: arrays, the caller's own."""

    def run_dlpack(self, images: Any, index: npt.NDArray[np.int64]) -> Sequence[Any]:
        """The same of images where the graph runs; the results stay there."""


@dataclasses.dataclass(frozen=True, eq=False)
class Running:
    """A file that can be run.

    Attributes:
        provider: short name of the execution provider that it really runs on.
        contract: its metadata, with the maps that were left in.
        bindings: what runs it.
        opened: the session; of a provider that compiles each shape later, the file on the CPU.
    """

    provider: str
    contract: Contract
    bindings: Graph
    opened: Opened


@dataclasses.dataclass(frozen=True)
class Plugin:
    """A provider that is a package of its own, beside any build of ONNX Runtime.

    Attributes:
        package: its distribution.
        module: what it is imported as; it has ``get_library_path()``.
        needs: what it computes on, for people.
        device: the option that names a device, and the entry of a device's metadata that it names;
            none: the first device is taken.
    """

    package: str
    module: str
    needs: str
    device: tuple[str, str] | None = None


def as_given(own: Mapping[str, str], threads: int | None) -> dict[str, str]:
    """The user's options and no more."""
    return dict(own)


@dataclasses.dataclass(frozen=True, eq=False)
class Provider:
    """A row of the table.

    Attributes:
        name: short, as users write it.
        full: ONNX Runtime's name.
        brings: what ``pip install`` is given to get a build of ONNX Runtime with it, or the plugin,
            quoted.
        start: opens a file on it; the names are those asked for, its own first.
        note: about ``brings``, for people.
        plugin: the package that it is, where no build of ONNX Runtime has to contain it.
        named: taken only where it is named.
        untested: nobody has run Backlit on it.
        keys: its options in ONNX Runtime 1.31, to name the one that was meant; none: it has none.
        values: what its options take, where the provider does not check that itself.
        settings: the options that it gets, from the user's and the number of threads.
        trial: options for the network of one node that it is tried on.
        preload: loads libraries before it is tried; returns what was not found, or an empty text.
        explain: why it does not load, empty if nobody knows, and what mends that; None: ``brings``.
        leaves_nodes: it may leave nodes to another provider, which costs copies in every run; so
            where ONNX Runtime placed them is recorded and looked at.
        optimises: it does ONNX Runtime's graph optimisation itself, and that is left out.
        memory_pattern: ONNX Runtime plans its memory from the second run on.
        views: how many a run takes if nobody says so.
        runs: how many are in the network at once; None: as many as leave a core for each.
        buckets: batch sizes that buffers are kept for, on a device with memory of its own.
    """

    name: str
    full: str
    brings: str
    start: Callable[[File, tuple[str, ...]], Running]
    note: str = ""
    plugin: Plugin | None = None
    named: bool = False
    untested: bool = False
    keys: tuple[str, ...] = ()
    values: Mapping[str, Values] = dataclasses.field(default_factory=dict)
    settings: Callable[[Mapping[str, str], int | None], dict[str, str]] = as_given
    trial: Mapping[str, str] = dataclasses.field(default_factory=dict)
    preload: Callable[[Any], str] | None = None
    explain: Callable[[Any], tuple[str, str]] | None = None
    leaves_nodes: bool = False
    optimises: bool = False
    memory_pattern: bool = True
    views: int = 4
    runs: int | None = None
    buckets: tuple[int, ...] = ()

    @property
    def fix(self) -> str:
        """What brings it: a package, or a build of ONNX Runtime that contains it."""
        how = SWAP if self.plugin is None else "pip install "
        return f"{how}{self.brings}{self.note and f' ({self.note})'}."

    @property
    def options(self) -> tuple[str, ...]:
        """The names of its options, as far as they are known; none: it has none."""
        return (*self.keys, *self.values)
