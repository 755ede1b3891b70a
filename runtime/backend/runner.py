"""A Backlit file that can be run: arrays in, arrays out, on the provider that it really got."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from ..errors import BacklitError, ClassError, OptionError
from .file import Maps, open_file
from .interface import check_class, dims_text, normalise
from .models import model_error
from .outputs import DeviceOutputs, Outputs
from .provider import Options

Value = TypeVar("Value")

_LOG = logging.getLogger("backlit")


class Runner:
    """A Backlit file, ready to run. Safe to use from several threads.

    On a CPU runs take turns; on a GPU one is filled and another emptied while a third computes.

    Attributes:
        path: the file.
        contract: its metadata.
        provider: short name of the execution provider that it really runs on.
        options: of providers, as given.
        elsewhere: nodes of the graph that a GPU provider left to another, which costs copies in
            every run; computations of shapes, which are on the CPU on purpose, aside.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        providers: str | Sequence[str] | None = None,
        threads: int | None = None,
        maps: Maps = None,
        options: Options | None = None,
    ) -> None:
        """Open a file.

        Args:
            path: a Backlit file.
            providers: short names (tensorrt, cuda, cpu, openvino, ...) that must all load, in order
                of preference. None: the best that really loads.
            threads: threads within an operator on the CPU; None: one per physical core.
            maps: names of the maps that will be asked for, or a function that gives them for the
                file's metadata; None: all. What only others need is not computed: without
                ``saliency`` and ``gradient``, most of the backward pass.

            options: of providers, by short name, over those that Backlit chooses:
                ``{"cuda": {"use_tf32": "0"}}``.

        Raises:
            OptionError: the file has no such map; or an option is none.
            ModelError: not an ONNX file, damaged, or its graph is not the one its metadata says.
            ContractError: an ONNX file without Backlit's metadata, or of another schema.
            ProviderError: a provider that was named does not load.
        """
        self.path = os.fspath(path)
        self.options = {name: dict(own) for name, own in (options or {}).items()}
        running = open_file(self.path, providers, threads, maps, options)
        self.provider, self.contract = running.provider, running.contract
        self.elsewhere = running.opened.elsewhere
        self._bindings = running.bindings
        self._opened_as = (os.path.abspath(self.path), providers, threads, maps)
        _LOG.info(
            "%s is open on %s: %d classes, maps %s", self.path, self.provider,
            self.contract.score.classes, ", ".join(made.name for made in self.contract.maps),
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r}, provider={self.provider!r})"

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Pickled as what it was opened with: the copy opens the file again, where it is then."""
        path, providers, threads, maps = self._opened_as
        names = maps(self.contract) if callable(maps) else maps
        wanted = names if names is None else tuple(names)
        return _opened_again, (
            type(self),
            path,
            self.path,
            providers,
            threads,
            wanted,
            self.options,
        )

    def sibling(self) -> Self:
        """The same open file, its weights shared, with buffers of its own: runs beside this one."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._bindings = self._bindings.fresh()
        return other

    def run(
        self,
        images: npt.NDArray[np.uint8] | npt.NDArray[np.float32],
        class_index: npt.NDArray[np.int64],
    ) -> Outputs:
        """Run the graph once.

        Args:
            images: uint8 [N,H,W,C] of the file's size, RGB or grey; for a file with float32 input
                this is normalised as its metadata says, or give float32 [N,C,H,W] as it takes it.
            class_index: int64 [N,K]; >= 0 a class, -1 the top-scoring class, -2 the second, ...

        Returns:
            ``scores`` float32 [N,classes], ``classes`` int64 [N,K], ``score`` float32 [N,K], and
            the file's maps by name, float32 [N,K,H,W] or as the file says.

        Raises:
            OptionError: the images are not of the file's type or shape.
            ClassError: class_index is not [N,K] or out of range.
            ModelError: ONNX Runtime fails.
        """
        batch = self._input(images)
        index = self._index(class_index, len(batch))
        scores, classes, score, *maps = self._running(self._bindings.run, batch, index)
        names = [made.name for made in self.contract.maps]
        return Outputs(scores, classes, score, dict(zip(names, maps, strict=True)))

    def run_dlpack(
        self, images: Any, class_index: npt.NDArray[np.int64] | None = None
    ) -> DeviceOutputs[Any]:
        """Run the graph on images that are where it runs, and leave the results there.

        On a GPU nothing touches the host but ``class_index``, and the results may not be computed
        yet: whoever takes them by DLPack gives a stream of its own, which waits for them.
        ``torch.from_dlpack(outputs["saliency"])`` is a tensor on the GPU.

        Args:
            images: a contiguous array or tensor with ``__dlpack__`` (torch, CuPy, JAX; NumPy on a
                CPU), as the file takes it: uint8 [N,H,W,C], or float32 [N,C,H,W] with float32
                input.
            class_index: int64 [N,K] on the host, as in ``run``; None: the top-scoring class.

        Returns:
            What ``run`` returns, of objects with ``__dlpack__`` in the memory of the device.

        Raises:
            OptionError: the images are on another device, or not of the file's type or shape; or
                there are more classes than TensorRT's engine takes.
            ClassError: class_index is not [N,K] or out of range.
            ModelError: ONNX Runtime fails.
        """
        count = int(images.shape[0])
        top = np.full((count, 1), -1, np.int64)
        index = self._index(top if class_index is None else class_index, count)
        scores, classes, score, *maps = self._running(self._bindings.run_dlpack, images, index)
        names = [made.name for made in self.contract.maps]
        return DeviceOutputs(scores, classes, score, dict(zip(names, maps, strict=True)))

    def _running(self, function: Callable[..., Value], *arguments: Any) -> Value:
        try:
            return function(*arguments)
        except BacklitError:
            raise
        except Exception as error:  # ONNX Runtime's exceptions share no other base
            raise model_error(self.path, error, (self.provider,)) from error

    def _input(self, images: npt.NDArray[Any]) -> npt.NDArray[Any]:
        spec = self.contract.image
        pixels = (spec.height, spec.width, spec.channels)
        planes = (spec.channels, spec.height, spec.width)
        if images.dtype == np.uint8 and images.ndim == 4 and images.shape[1:] == pixels:
            return normalise(images, self.contract) if spec.dtype == "float32" else images
        if images.dtype == spec.dtype == "float32" and images.shape[1:] == planes:
            return images
        takes = f"uint8 {dims_text(pixels)}"
        if spec.dtype == "float32":
            takes += f" or float32 {dims_text(planes)}"
        raise OptionError(
            f"the images are {images.dtype} {list(images.shape)}; {self.path} takes {takes}.",
            "use Session.saliency, which resizes, or backlit.runtime.images.prepare.prepare.",
        )

    def _index(self, class_index: npt.NDArray[Any], images: int) -> npt.NDArray[np.int64]:
        index = np.asarray(class_index)
        if index.dtype.kind != "i" or index.ndim != 2 or len(index) != images or not index.size:
            raise ClassError(
                f"class_index is {index.dtype} {list(index.shape)} for {images} images.",
                f"pass int64 [{images},K] with K >= 1.",
            )
        for value in (index.min(), index.max()):
            check_class(int(value), self.contract)
        return index.astype(np.int64)


def _opened_again(kind: type[Any], path: str, given: str, *arguments: Any) -> Any:
    runner = kind(path, *arguments)
    runner.path = given
    return runner
