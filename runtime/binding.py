"""The graph of a Backlit file in ONNX Runtime: its metadata, its shapes, and IO binding."""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .contract import KEY, Contract, ImageInput, Map
from .errors import ModelError
from .providers import onnxruntime

Shape = tuple[int, int]
"""Images N and classes K of a run."""
Spec = tuple[tuple[int, ...], type[np.generic]]
"""Dimensions and type of a tensor."""

# Shapes that are kept: the full batch, the last one, and both for a second K.
_KEPT = 4


@dataclasses.dataclass(frozen=True)
class Tensors:
    """The graph's inputs, and its outputs in the order of results, in one shape."""

    inputs: dict[str, Spec]
    outputs: dict[str, Spec]


def tensors(contract: Contract, shape: Shape) -> Tensors:
    """Dimensions and types of a file's inputs and outputs for N images and K classes."""
    n, k = shape
    spec = contract.image
    size = (spec.channels, spec.height, spec.width)
    image = (n, spec.height, spec.width, spec.channels) if spec.layout == "NHWC" else (n, *size)
    return Tensors(
        inputs={"image": (image, np.dtype(spec.dtype).type), "class_index": ((n, k), np.int64)},
        outputs={
            "scores": ((n, contract.score.classes), np.float32),
            "class": ((n, k), np.int64),
            "score": ((n, k), np.float32),
            **{made.name: ((n, k, *_dims(made, spec)), np.float32) for made in contract.maps},
        },
    )


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
        for name, buffer in self._inputs.items():
            self._io.bind_ortvalue_input(name, buffer)
        for name, buffer in self._outputs.items():
            self._io.bind_ortvalue_output(name, buffer)

    def run(self, images: npt.NDArray[Any], index: npt.NDArray[np.int64]) -> list[Any]:
        """Scores, classes, score and the maps: copies of the output buffers."""
        self._inputs["image"].update_inplace(np.ascontiguousarray(images))
        self._inputs["class_index"].update_inplace(np.ascontiguousarray(index))
        self._session.run_with_iobinding(self._io)
        # numpy() is a view of the buffer, which the next run overwrites.
        return [np.array(value.numpy()) for value in self._outputs.values()]


def _filled(values: npt.NDArray[Any], length: int) -> npt.NDArray[Any]:
    """The last row again and again, up to a length."""
    return np.concatenate([values, np.repeat(values[-1:], length - len(values), axis=0)])


def read_metadata(session: Any, where: str, kept: Collection[str] | None = None) -> Contract:
    """The metadata of a session of ONNX Runtime, checked against the graph.

    Args:
        session: of ONNX Runtime.
        where: the file, for errors.
        kept: names of the maps that were left in the graph; None: all.

    Raises:
        ContractError: no Backlit metadata, damaged, or of another schema.
        ModelError: the graph has other inputs or outputs than the metadata says.
    """
    properties = session.get_modelmeta().custom_metadata_map
    contract = Contract.from_json(properties.get(KEY), where)
    if kept is not None:
        contract = contract.keeping(kept)
    spec = contract.image
    size: tuple[int, ...] = (spec.channels, spec.height, spec.width)
    pixels = (spec.height, spec.width, spec.channels) if spec.layout == "NHWC" else size
    floats, whole = "tensor(float)", "tensor(int64)"
    kind = "tensor(uint8)" if spec.dtype == "uint8" else floats
    expected: dict[str, tuple[str, tuple[int | None, ...]]] = {
        "image": (kind, (None, *pixels)),
        "class_index": (whole, (None, None)),
        "scores": (floats, (None, contract.score.classes)),
        "class": (whole, (None, None)),
        "score": (floats, (None, None)),
        **{made.name: (floats, (None, None, *_dims(made, spec))) for made in contract.maps},
    }
    found = {value.name: value for value in [*session.get_inputs(), *session.get_outputs()]}
    for name, (dtype, dims) in expected.items():
        value = found.get(name)
        has = "nothing of that name" if value is None else f"{value.type} {value.shape}"
        if value is None or value.type != dtype or not _fits(value.shape, dims):
            raise ModelError(
                f"{where}: its metadata says {name!r} is {dtype} {dims_text(dims[1:])}, "
                f"but the graph has {has}.",
                "the file was changed after its export: export the model again.",
            )
    return contract


def _dims(made: Map, spec: ImageInput) -> tuple[int, ...]:
    """The shape of a map after N and K."""
    grid = made.height, made.width
    return (spec.channels, *grid) if made.name == "gradient" else grid


def _fits(shape: Sequence[int | str | None], dims: Sequence[int | None]) -> bool:
    # A shape that ONNX Runtime could not infer is not known, so not wrong.
    return not shape or (
        len(shape) == len(dims)
        and all(
            not isinstance(have, int) or want is None or have == want
            for have, want in zip(shape, dims, strict=True)
        )
    )


def dims_text(dims: Iterable[int | None]) -> str:
    """``[N,8,6,3]``: a shape after its first dimension, with K for what is dynamic."""
    return "[N," + ",".join("K" if dim is None else str(dim) for dim in dims) + "]"


def normalise(images: npt.NDArray[np.uint8], contract: Contract) -> npt.NDArray[np.float32]:
    """uint8 [N,H,W,C], RGB or grey -> float32 [N,C,H,W] as the classifier takes it."""
    rule = contract.normalisation
    ordered = images[..., ::-1] if contract.image.colour == "BGR" else images
    scale = np.float32(1 / 255 if rule.range == "0-1" else 1.0)
    mean, std = np.array(rule.mean, np.float32), np.array(rule.std, np.float32)
    values = (ordered.astype(np.float32) * scale - mean) / std
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2), dtype=np.float32)
