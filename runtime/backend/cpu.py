"""A file's graph on the CPU, and on any engine that is given host memory: IO binding."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ..contract import Contract
from ..errors import OptionError
from .interface import Shape, tensors
from .ort import onnxruntime

# Shapes that are kept: the full batch, the last one, and both for a second K.
_KEPT = 4


class Bindings:
    """A file's graph, run in any shape; what a shape needs is kept for the shapes run last."""

    def __init__(
        self,
        contract: Contract,
        session: Callable[[Shape], Any],
        compiles: bool = False,
        alone: bool = False,
    ) -> None:
        """Open nothing yet.

        Args:
            contract: the file's metadata.
            session: the session of ONNX Runtime to run a shape in.
            compiles: it is compiled for that shape alone, which takes seconds.
            alone: run images one by one, which keeps activations in a processor's caches.
        """
        self._contract, self._session = contract, session
        self._compiles, self._alone = compiles, alone
        self._kept: OrderedDict[Shape, Binding] = OrderedDict()
        self._asked: Shape | None = None
        self._turn = threading.Lock()

    def fresh(self) -> Bindings:
        """The same graph without the buffers."""
        return Bindings(self._contract, self._session, self._compiles, self._alone)

    def run(self, images: npt.NDArray[Any], index: npt.NDArray[np.int64]) -> list[Any]:
        """Scores, classes, score and the maps for class_index [N,K]; copies. Threads take turns."""
        with self._turn:
            if self._alone and len(images) > 1:
                rows = zip(np.split(images, len(images)), np.split(index, len(index)), strict=True)
                each = [self._run(*row) for row in rows]
                return [np.concatenate(values) for values in zip(*each, strict=True)]
            return self._run(images, index)

    def run_dlpack(self, images: Any, index: npt.NDArray[np.int64]) -> list[Any]:
        """``run`` of images on the host that have ``__dlpack__``; nothing is normalised.

        Raises:
            OptionError: they are of another type or shape than the graph's.
        """
        array = np.from_dlpack(images)
        dims, dtype = tensors(self._contract, (index.shape[0], index.shape[1])).inputs["image"]
        if (array.dtype, array.shape) != (np.dtype(dtype), dims):
            raise OptionError(
                f"the images are {array.dtype} {list(array.shape)}.",
                f"give {np.dtype(dtype)} {list(dims)}.",
            )
        return self.run(array, index)

    def _run(self, images: npt.NDArray[Any], index: npt.NDArray[np.int64]) -> list[Any]:
        asked = index.shape[0], index.shape[1]
        shape = self._roomy(asked) if self._compiles else asked
        binding = self._kept.pop(shape, None) or Binding(
            self._session(shape), self._contract, shape
        )
        if shape == asked:
            results = binding.run(images, index)
        else:
            filled = binding.run(_filled(images, shape[0]), _filled(index, shape[0]))
            results = [value[: asked[0]] for value in filled]
        self._kept[shape] = binding
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return results

    def _roomy(self, asked: Shape) -> Shape:
        """A compiled shape that the images fit into, or their own.

        The last batch of many comes once: images that are thrown away cost less than to compile.
        What comes twice in a row is worth a shape of its own.
        """
        again, self._asked = asked == self._asked, asked
        n, k = asked
        larger = [other for other in self._kept if other[1] == k and other[0] >= n]
        return asked if again or not larger else min(larger)


class Binding:
    """Buffers of one shape (N,K), bound to the graph's inputs and outputs, on the CPU."""

    def __init__(self, session: Any, contract: Contract, shape: Shape) -> None:
        self._session = session
        self._io = session.io_binding()
        value = onnxruntime().OrtValue.ortvalue_from_shape_and_type
        wanted = tensors(contract, shape)
        self._inputs = {name: value(*spec) for name, spec in wanted.inputs.items()}
        self._outputs = {name: value(*spec) for name, spec in wanted.outputs.items()}
        for name, buffer in self._outputs.items():
            self._io.bind_ortvalue_output(name, buffer)

    def run(self, images: npt.NDArray[Any], index: npt.NDArray[np.int64]) -> list[Any]:
        """Scores, classes, score and the maps: copies of the output buffers."""
        given = {"image": images, "class_index": index}
        for name, buffer in self._inputs.items():
            buffer.update_inplace(np.ascontiguousarray(given[name]))
            # Each time: a provider with memory of its own copies when bound, not when it runs.
            self._io.bind_ortvalue_input(name, buffer)
        self._session.run_with_iobinding(self._io)
        # numpy() is a view of the buffer, which the next run overwrites.
        return [np.array(value.numpy()) for value in self._outputs.values()]


def _filled(values: npt.NDArray[Any], length: int) -> npt.NDArray[Any]:
    """The last row again and again, up to a length."""
    return np.concatenate([values, np.repeat(values[-1:], length - len(values), axis=0)])
